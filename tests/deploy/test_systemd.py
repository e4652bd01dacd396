"""deploy/systemd: judged by systemd itself."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.config.sources import load
from tests.deploy.programs import DEPLOY, said

FOLDER = DEPLOY / "systemd"
EXPOSURE = 1.3
"""At most, of 10: systemd calls up to 2 OK. What is left is the network, which a proxy cannot do without."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with the redspan of these tests in place of the installed one."""
    installed = tmp_path / "redspan"
    installed.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m proxy "$@"\n')
    installed.chmod(0o755)
    file = tmp_path / "redspan.service"
    text = (FOLDER / "redspan.service").read_text()
    file.write_text(re.sub(r"(?m)^(Exec\w+=)/opt/redspan/bin/redspan", rf"\1{installed}", text))
    return file


@pytest.mark.parametrize(("found", "other", "complaint"), [("", "", ""), ("Type=notify", "Type=notified", "notified")])
def test_it_is_a_unit(unit: Path, found: str, other: str, complaint: str) -> None:
    """And systemd would say if it were not: what it does not know it leaves out, with a warning."""
    unit.write_text(unit.read_text().replace(found, other))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if unit.name in line]
    assert complaint in "".join(lines)
    assert bool(lines) is bool(complaint)


def test_how_much_it_could_do(unit: Path) -> None:
    told = said("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    score = re.search(r"exposure level for redspan\.service: ([\d.]+)", told)
    assert score is not None, told
    assert float(score[1]) <= EXPOSURE, told


def test_the_commands_are_real(tmp_path: Path) -> None:
    text = (FOLDER / "redspan.service").read_text()
    commands = re.findall(r"(?m)^Exec\w+=/opt/redspan/bin/redspan (.*)$", text)
    assert len(commands) == 2
    for line in commands:
        name, *options = shlex.split(line)
        main.commands[name].make_context(name, list(options))


def test_the_environment_file_is_real(tmp_path: Path) -> None:
    """The lines that are left out too. redspan has time to end."""
    lines = (FOLDER / "redspan.env").read_text().splitlines()
    pairs = [line.removeprefix("#").split("=", 1) for line in lines if re.match(r"#?[A-Z]\w+=", line)]
    assert len(pairs) == 4
    settings = load(None, {}, dict(pairs)).settings
    assert settings.tracing.service_name == "shop"
    assert settings.listeners[0].upstream_address.tls
    limit = re.search(r"(?m)^TimeoutStopSec=(\d+)$", (FOLDER / "redspan.service").read_text())
    assert limit is not None
    assert settings.relay.drain_timeout + settings.tracing.export.flush_timeout < int(limit[1])
