"""redspan as the first process of a container: it has to be told to end by a signal that it handles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.redis import PATIENCE, free_port
from tests.sidecar import ROOT, children_of, command_line

pytestmark = pytest.mark.tools


def _blocks(pid: int, number: int) -> bool:
    if not command_line(pid).startswith(sys.executable):
        return False  # still `unshare`, which blocks them, too
    status = Path(f"/proc/{pid}/status").read_text()
    masks = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return bool(int(masks["SigBlk"], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_before_there_are_handlers_is_not_lost(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "proxy", "run", "--listen", f"127.0.0.1:{free_port()}"]
    log = tmp_path / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            ["unshare", "--pid", "--fork", *command, "--admin", f"127.0.0.1:{free_port()}"],
            cwd=ROOT,
            stdout=out,
            stderr=out,
        ) as outer,
    ):
        deadline = time.monotonic() + PATIENCE
        try:
            while not ((inner := children_of(outer.pid)) and _blocks(inner[0], number)):
                assert time.monotonic() < deadline, log.read_text()
                assert outer.poll() is None, log.read_text()
            os.kill(inner[0], number)
            assert outer.wait(PATIENCE) == 0, log.read_text()
        finally:
            for pid in children_of(outer.pid):
                os.kill(pid, signal.SIGKILL)
            outer.kill()
    assert "redspan has ended" in log.read_text()


def test_other_commands_can_be_interrupted() -> None:
    script = (
        "import os, signal; os.getpid = lambda: 1; import proxy; from proxy.cli import main;"
        "main(['check-config', 'config.example.yaml'], standalone_mode=False);"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
