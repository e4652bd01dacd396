"""The tools that deploy/ is checked with, and where it is. One that is missing fails the test that needs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.clients.go_programs import build

DEPLOY = Path(__file__).parents[2] / "deploy"
_TOOLS = Path(__file__).with_name("tools")


def said(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """What a command prints; fails with its complaint if it has one."""
    assert shutil.which(command[0]) is not None, f"{command[0]} is not installed"
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}{done.stdout}"
    return done.stdout


def render(folder: Path) -> list[dict[str, Any]]:
    """What ``kubectl apply -k folder`` would send."""
    kustomize = build("kustomize", _TOOLS, "sigs.k8s.io/kustomize/kustomize/v5")
    return [one for one in yaml.safe_load_all(said(kustomize, "build", folder)) if one]


def check(what: str, file: Path) -> str:
    """``compose``, ``podmonitor`` or ``restricted``: see tools/main.go."""
    return said(build("tools", _TOOLS), what, file)
