"""Every option of every command that asks a running sidecar, as click knows them: a new one has to be tried, too."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import redis

from proxy.cli import main
from tests.conftest import StartSidecar
from tests.redis import PATIENCE, free_port
from tests.sidecar import ROOT, Sidecar
from tests.wire.shop import SETTINGS, TRACE, done, job, work

WORKER = "charger"
ELSEWHERE = {
    "run": {"--config", "--listen", "--upstream", "--admin"},  # test_cli, and every sidecar of every test
    "demo": {"--keep"},  # test_demo
    "check-config": {"--effective"},  # test_cli
    "decode": {"--json"},  # test_watch
    "completion": set[str](),
    "top": {"--trace-id", "--queue", "--json", "--token-file", "--admin"},  # below
}
ARGUMENTS = {"jobs show": ["ok"], "trace": [TRACE]}


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each command, by the words it is called with, and its options."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", {param.opts[0] for param in command.params if isinstance(param, click.Option)}


ASKING = {path: options for path, options in commands(main) if path not in ELSEWHERE}


def test_none_is_forgotten() -> None:
    assert {path: options for path, options in commands(main) if path in ELSEWHERE} == ELSEWHERE


@pytest.fixture
def shop(start_sidecar: StartSidecar, tmp_path: Path) -> Sidecar:
    (tmp_path / "token").write_text("open sesame")
    bind = f"0.0.0.0:{free_port()}"
    sidecar = start_sidecar(SETTINGS | {"admin": {"bind": bind, "token_file": str(tmp_path / "token")}})
    sidecar.page("/")
    charge(sidecar, "ok")
    return sidecar


def charge(sidecar: Sidecar, name: str) -> None:
    """A job that fits all the values of `words`, from its beginning to its end."""
    with redis.Redis.from_url(sidecar.url, client_name=WORKER) as client:
        client.lpush("orders", job(name, type="charge", order="o-1", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"))
        done(client, work(client, "orders", "w1"), "w1")


def words(options: set[str], sidecar: Sidecar, tmp_path: Path) -> list[str]:
    """Each option with a value that the job fits."""
    values = {
        "--trace-id": TRACE,
        "--correlation-id": "o-1",
        "--queue": "orders",
        "--type": "charge",
        "--status": "succeeded",
        "--framework": "list",
        "--worker": WORKER,
        "--since": "1h",
        "--slow": "0.0001ms",
        "--limit": "7",
        "--cursor": "999999",
        "--count": "1",
        "--output": "json",
        "--json": "",
        "--token-file": str(tmp_path / "token"),
        "--admin": f"http://{sidecar.admin}",
    }
    return [word for option in sorted(options) for word in (option, values[option]) if word]


@pytest.mark.parametrize("path", ASKING)
def test_all_at_once(path: str, shop: Sidecar, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "proxy", *path.split(), *ARGUMENTS.get(path, [])]
    command += words(ASKING[path], shop, tmp_path)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline, number = time.monotonic() + 3 * PATIENCE, 0
        while process.poll() is None:
            assert time.monotonic() < deadline
            number += 1
            charge(shop, f"ok-{number}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        assert process.stdout is not None
        assert process.stderr is not None
        said, complained = process.stdout.read(), process.stderr.read()
    assert (process.returncode, complained) == (0, "")
    assert {"queues": "orders", "workers": WORKER}.get(path, '"ok') in said


@pytest.mark.parametrize("option", [["--trace-id", TRACE], ["--queue", "orders"]])
def test_top(option: list[str], shop: Sidecar, tmp_path: Path) -> None:
    """In a terminal of its own: the job that is asked for is shown, and no other."""
    with redis.Redis.from_url(shop.url) as client:
        client.lpush("mail", job("elsewhere"))
    shop.wait_for(lambda: len(listed(shop)) == 2, "not two jobs")
    command = [sys.executable, "-m", "proxy", "top", *option]
    command += ["--admin", f"http://{shop.admin}", "--token-file", str(tmp_path / "token")]
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(ROOT)
        os.execve(sys.executable, command, {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    shown, deadline = b"", time.monotonic() + 3 * PATIENCE
    try:
        while b"charge" not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536)
        os.write(terminal, b"q")
        while True:
            try:
                if not os.read(terminal, 65536):
                    break
            except OSError:  # the other side is closed
                break
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"elsewhere" not in shown


def listed(shop: Sidecar) -> list[dict[str, object]]:
    answer = shop.get("/api/jobs", {"Authorization": "Bearer open sesame"})
    return list(json.loads(answer.body)["jobs"]) if answer.status == 200 else []
