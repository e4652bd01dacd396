"""Workers and producers of all Python frameworks, as tests run them side by side: see ``apps``."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any, Final, NamedTuple

from tests.clients.programs import running, said_by
from tests.sidecar import ROOT


class PythonFramework(NamedTuple):
    worker: tuple[str, ...]
    """Arguments of ``python``; ``{url}`` is where Redis is."""
    several: tuple[str, ...] = ()
    """More of them, for a worker that does several jobs at a time."""
    one: tuple[str, ...] = ()
    """The same for one that does one after the other."""
    one_env: dict[str, str] = {}  # noqa: RUF012
    """And variables of its."""
    produce: tuple[str, ...] = ()
    """Arguments of ``python``; ``{what}`` is a function of the application's, ``{count}`` how often."""
    path: str = ""
    """Where what it needs besides is."""


def _calls(module: str) -> tuple[str, ...]:
    return ("-c", f"import {module}; {module}.{{what}}({{count}})")


FRAMEWORKS: Final = {
    "arq": PythonFramework(
        ("-m", "arq", "arq_app.WorkerSettings"),
        one_env={"ARQ_MAX_JOBS": "1"},
        produce=_calls("arq_app"),
        path=str(Path(sys.prefix) / "arq"),
    ),
    "celery": PythonFramework(
        ("-m", "celery", "-A", "celery_app", "worker"),
        several=("--pool", "threads", "-c", "2", "-E"),
        one=("--pool", "solo"),
        produce=_calls("celery_app"),
    ),
    "dramatiq": PythonFramework(
        ("-m", "dramatiq", "dramatiq_app", "--processes", "1"),
        several=("--threads", "2"),
        one=("--threads", "1"),
        # Of what a worker has fetched beforehand, versions before 2.0 take any.
        one_env={"dramatiq_queue_prefetch": "1"},
        produce=_calls("dramatiq_app"),
    ),
    "huey": PythonFramework(
        ("-m", "huey.bin.huey_consumer", "huey_app.huey"),
        several=("-w", "2"),
        one=("-w", "1"),
        produce=_calls("huey_app"),
    ),
    "rq": PythonFramework(
        ("-m", "rq.cli", "worker", "--url", "{url}", "--with-scheduler", "mails"),
        produce=("-m", "tests.clients.apps.rq_app", "{what}", "{url}", "{count}"),
        path=str(ROOT),
    ),
    "streaq": PythonFramework(
        ("-m", "streaq", "run", "streaq_app:worker"),
        one_env={"STREAQ_CONCURRENCY": "1"},
        produce=_calls("streaq_app"),
    ),
    "taskiq": PythonFramework(
        ("-m", "taskiq", "worker", "taskiq_app:broker", "--workers", "1"),
        one=("--max-async-tasks", "1"),
        produce=("-c", "import taskiq_app; taskiq_app.run(taskiq_app.{what}({count}))"),
    ),
}


def worker(
    framework: str, url: str, directory: Path, *, one: bool = False, **env: str
) -> AbstractContextManager[Popen[bytes]]:
    """A worker until the end of the block; ``one``: it does one job after the other."""
    how = FRAMEWORKS[framework]
    command = (*how.worker, *(how.one if one else how.several))
    extra = how.one_env if one else {}
    return running(url, directory, *(part.format(url=url) for part in command), PYTHONPATH=how.path, **extra, **env)


def produce(framework: str, url: str, what: str, count: int, **env: str) -> list[Any]:
    """What the application says that its jobs became."""
    how = FRAMEWORKS[framework]
    command = (part.format(what=what, url=url, count=count) for part in how.produce)
    return said_by(url, *command, PYTHONPATH=how.path, **env)
