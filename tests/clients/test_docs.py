"""What the pages tell a reader to do, done: every command in them, in their order, each page in a place of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.demo.stage import get
from tests.docs.blocks import Block, blocks, pages
from tests.receiver import Receiver
from tests.redis import PATIENCE, RedisServer, free_port
from tests.sidecar import ROOT

ENDS = {"getting-started": {"celery", "rq"}}
"""Frameworks whose jobs' ends are seen by a collector, once a page has been followed."""
REPOSITORY = ("config.example.yaml",)
"""What a reader has before him in the repository."""


class Reader:
    """Somebody who follows a page. What it has at the default ports is at free ones here."""

    def __init__(self, directory: Path, upstream: str, collector: str, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._bind, self._admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._places = {
            "127.0.0.1:6379": upstream.removeprefix("redis://"),
            "127.0.0.1:6380": self._bind,
            "127.0.0.1:9464": self._admin,
            "http://127.0.0.1:4318": collector,
        }
        for name in REPOSITORY:
            shutil.copy(ROOT / name, directory)
        tools = directory / "bin"
        tools.mkdir()
        (tools / "redspan").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m proxy "$@"\n')
        (tools / "redspan").chmod(0o755)
        plain = {name: text for name, text in os.environ.items() if not name.startswith(("REDSPAN_", "OTEL_"))}
        self._env = plain | {
            "PATH": f"{tools}:{Path(sys.executable).parent}:{plain['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(directory),
            "REDSPAN_LISTENERS__0__BIND": self._bind,
            "REDSPAN_LISTENERS__0__UPSTREAM": upstream,
            "REDSPAN_ADMIN__BIND": self._admin,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def write(self, block: Block) -> None:
        (self._directory / block.mark).write_text(self._here(block.text))

    def run(self, block: Block) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(block.text)],
            cwd=self._directory,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"line {block.line}: {block.text}{done.stdout}{done.stderr}"

    def start(self, block: Block) -> None:
        log = self._directory / f"line-{block.line}.log"
        process = self._stack.enter_context(_running(self._here(block.text), self._directory, self._env, log))
        if "redspan run" in block.text:
            deadline = time.monotonic() + PATIENCE
            while get(self._admin, "/ui")[0] != 200:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)

    def _here(self, text: str) -> str:
        for place, here in self._places.items():
            text = text.replace(place, here)
        return text


@contextlib.contextmanager
def _running(text: str, directory: Path, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-euc", text], cwd=directory, env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 4)
        process.wait()


def _told(page: Path) -> list[Block]:
    return [one for one in blocks(page) if (one.commands and one.mark in ("", "service")) or "." in one.mark]


@pytest.mark.parametrize(
    "page", [page for page in pages() if any(one.commands for one in _told(page))], ids=lambda page: page.stem
)
def test_every_command_works(page: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    with Receiver() as receiver, ExitStack() as stack:
        reader = Reader(tmp_path, redis_server.url, receiver.url, stack)
        for block in _told(page):
            if not block.commands:
                reader.write(block)
            elif block.mark == "service":
                reader.start(block)
            else:
                reader.run(block)
        receiver.wait_for(
            lambda spans: (
                {str(span.attributes["redspan.framework"]) for span in spans if span.name == "job.process"}
                >= ENDS.get(page.stem, set())
            )
        )
