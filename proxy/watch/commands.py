"""``redspan jobs``, ``queues``, ``workers``, ``decode``, ``top``, ``completion``.

Exit codes: 0 fine, 1 failure (nobody answers, there is no such job), 2 bad usage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from proxy import ADMIN_URL

if TYPE_CHECKING:
    from proxy.watch.client import Client

_Command = TypeVar("_Command", bound=Callable[..., Any])
_STATUS = (
    *("scheduled", "enqueued", "running", "succeeded", "failed"),
    *("retrying", "dead", "cancelled", "lost", "unknown"),
)


def _connected(command: _Command) -> _Command:
    """With the options that say whom to ask."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API has it."),
        click.option(
            "--token-file",
            envvar="REDSPAN_ADMIN__TOKEN_FILE",
            show_envvar=True,
            default="",
            metavar="F",
            help="File with the token of admin.token_file.",
        ),
        click.option(
            "--admin",
            envvar=[ADMIN_URL, "REDSPAN_ADMIN__BIND"],
            show_envvar=True,
            default="http://127.0.0.1:9464",
            metavar="URL",
            show_default=True,
            help="Admin address of the redspan to ask.",
        ),
    ):
        command = option(command)
    return command


def _filtered(command: _Command) -> _Command:
    """With the options that say which jobs."""
    for option in (
        click.option("--slow", metavar="DURATION", help="That waited or took at least so long: 500ms, 2s."),
        click.option("--since", metavar="TIME", help="Heard of since: 5m, or a time in ISO 8601."),
        click.option("--worker", metavar="NAME", help="That this worker has, or had last."),
        click.option("--framework", metavar="NAME", help="Of this framework: rq, celery, list …"),
        click.option("--status", multiple=True, type=click.Choice(_STATUS), help="In this state; may be repeated."),
        click.option("--type", metavar="NAME", help="Of this type."),
        click.option("--queue", metavar="NAME", help="On this queue."),
        click.option("--correlation-id", metavar="ID", help="With this correlation id."),
        click.option("--trace-id", metavar="ID", help="With spans in this trace; in hex, or as a UUID."),
    ):
        command = option(command)
    return command


@contextmanager
def _asking(admin: str, token_file: str) -> Iterator[Client]:
    from proxy.watch.client import Client, WatchError

    try:
        yield Client(admin, token_file)
    except WatchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if error.status == 400 else 1)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)


@click.group()
def jobs() -> None:
    """Look at recent jobs of a running redspan."""


@jobs.command("list")
@_filtered
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="So many at most.")
@click.option("--cursor", metavar="TEXT", help="Go on where the list before ended.")
@_connected
def list_jobs(admin: str, token_file: str, as_json: bool, **query: object) -> None:
    """List jobs, those heard of last first.

    \b
    Examples:
      redspan jobs list --trace-id 550e8400-e29b-41d4-a716-446655440000
      redspan jobs list --queue mails --status failed --status dead --since 10m
    """
    with _asking(admin, token_file) as client:
        page = client.get("/api/jobs", query)
        if as_json:
            click.echo(json.dumps(page, indent=2))
            return
        from proxy.watch.show import console, jobs_table

        console().print(jobs_table(page["jobs"]))
        if page["next"]:
            click.echo(f"more: --cursor {page['next']}", err=True)


@jobs.command()
@click.argument("job_id", metavar="ID")
@click.option("--output", type=click.Choice(["text", "json", "mermaid"]), default="text", help="mermaid: its trace.")
@_connected
def show(job_id: str, output: str, admin: str, token_file: str, as_json: bool) -> None:
    """Show a job: its context, its attempts, the waterfall of its spans.

    ID may be cut short, as long as only one job's id begins so.
    """
    with _asking(admin, token_file) as client:
        job = client.job(job_id)
        from proxy.watch.show import console, details, mermaid, trace_rows

        if as_json or output == "json":
            click.echo(json.dumps(job, indent=2))
        elif output == "mermaid":
            click.echo(mermaid(list(trace_rows(client.trace(job["trace_id"])["spans"]))))
        else:
            console().print(*details(job), sep="\n")


@jobs.command()
@_filtered
@click.option("--count", type=click.IntRange(1), help="End after so many lines.")
@_connected
def tail(admin: str, token_file: str, as_json: bool, count: int | None, **query: object) -> None:
    """Follow jobs as they change, until Ctrl-C."""
    with _asking(admin, token_file) as client:
        from proxy.watch.show import console, job_line

        out, shown = console(), 0
        for name, data in client.events(query):
            if name == "dropped":
                click.echo(f"{data['jobs']} jobs not shown: there are too many", err=True)
            if name != "job":
                continue
            if as_json:
                click.echo(json.dumps(data))
            else:
                out.print(job_line(data), soft_wrap=True)
            sys.stdout.flush()
            shown += 1
            if shown == count:
                return
        click.echo("error: redspan has ended", err=True)
        sys.exit(1)


@click.command()
@click.argument("trace_id", metavar="ID")
@click.option("--output", type=click.Choice(["text", "json", "mermaid"]), default="text", help="mermaid: a chart.")
@_connected
def trace(trace_id: str, output: str, admin: str, token_file: str, as_json: bool) -> None:
    """Show a trace; its id in hex, or as a UUID.

    ID may be cut short, as long as only one trace's id begins so.
    """
    with _asking(admin, token_file) as client:
        found = client.trace(trace_id)
        from proxy.watch.show import console, jobs_table, mermaid, trace_rows, waterfall

        rows = list(trace_rows(found["spans"]))
        if as_json or output == "json":
            click.echo(json.dumps(found, indent=2))
        elif output == "mermaid":
            click.echo(mermaid(rows))
        else:
            console().print(jobs_table(found["jobs"]), "", waterfall(rows), sep="\n")
            if found["trace_url"]:
                click.echo(found["trace_url"])


@click.command()
@_connected
def queues(admin: str, token_file: str, as_json: bool) -> None:
    """Show each queue: depth, rates, how long jobs waited and took."""
    with _asking(admin, token_file) as client:
        found = client.get("/api/queues")
        from proxy.watch.show import console, queues_table

        if as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            console().print(queues_table(found["queues"]))


@click.command()
@_connected
def workers(admin: str, token_file: str, as_json: bool) -> None:
    """Show who has worked on recent jobs."""
    with _asking(admin, token_file) as client:
        found = client.get("/api/workers")
        from proxy.watch.show import console, workers_table

        if as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            console().print(workers_table(found["workers"]))


@click.command()
@click.argument("payload", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def decode(payload: str | None, as_json: bool) -> NoReturn:
    """Find the trace context in a job's payload or a traceparent; without one, in standard input.

    \b
    Examples:
      redspan decode 00-4a7d0b533801731a0adc411287b02dc5-a3c3bfbf986a0563-03
      redis-cli lindex orders 0 | redspan decode
    """
    from proxy.watch.decode import decode as contexts

    text = sys.stdin.buffer.read(16 * 1024 * 1024).decode(errors="replace") if payload in (None, "-") else str(payload)
    found = contexts(text)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo("error: there is no trace context in it", err=True)
    else:
        from proxy.tracer.console import printable

        for context in found:
            for name, value in context.items():
                if value != "":
                    click.echo(f"{name.replace('_', ' '):<14} {printable(str(value))}")
    sys.exit(0 if found else 1)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete redspan's commands.

    \b
    Examples:
      eval "$(redspan completion bash)"
      redspan completion fish > ~/.config/fish/completions/redspan.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    root = click.get_current_context().find_root()
    assert kind is not None
    click.echo(kind(root.command, {}, "redspan", "_REDSPAN_COMPLETE").source())


@click.command()
@click.option("--trace-id", default="", metavar="ID", help="Begin with the jobs of this trace.")
@click.option("--queue", default="", metavar="NAME", help="Begin with the jobs of this queue.")
@_connected
def top(admin: str, token_file: str, as_json: bool, trace_id: str, queue: str) -> None:
    """Watch queues, jobs and failures in the terminal. Needs the extra ``tui``."""
    if as_json:
        raise click.UsageError("top shows no JSON: use redspan jobs tail --json")
    with _asking(admin, token_file) as client:
        try:
            from proxy.watch.top import Top
        except ModuleNotFoundError as error:
            if error.name != "textual":
                raise
            click.echo(f"error: top needs textual: {sys.executable} -m pip install textual", err=True)
            sys.exit(1)
        Top(client, trace_id=trace_id, queue=queue).run()


COMMANDS = (jobs, trace, queues, workers, decode, completion, top)
