"""The commands that look at a running sidecar, each option of each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import StartSidecar
from tests.redis import RedisServer, free_port
from tests.sidecar import ROOT, Sidecar
from tests.wire.shop import SECRET, SETTINGS, TRACE, busy, job
from tests.wire.surfaces import redspan

UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture(scope="module")
def shop(_redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with redis.Redis.from_url(_redis_server.url) as client:
        client.flushall()
    settings = {**SETTINGS, "listeners": [{"upstream": _redis_server.url}]}
    with Sidecar(tmp_path_factory.mktemp("shop"), settings) as sidecar:
        busy(sidecar)
        yield sidecar


def listed(sidecar: Sidecar, *options: str) -> list[str]:
    page = json.loads(redspan("jobs", "list", "--admin", f"http://{sidecar.admin}", "--json", *options))
    return sorted(one["id"] for one in page["jobs"])


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", ["bad", "ok", "on", "todo"]),
        (f"--trace-id {TRACE}", ["ok"]),
        (f"--trace-id {UUID}", ["ok"]),
        ("--correlation-id o-1", ["bad", "ok"]),
        ("--queue orders", ["ok", "on"]),
        ("--type send", ["bad", "todo"]),
        ("--status dead --status running", ["bad", "on"]),
        ("--framework rq", []),
        ("--worker nobody", []),
        ("--since 1h", ["bad", "ok", "on", "todo"]),
        ("--since 2999-01-01", []),
        ("--slow 1h", []),
        ("--limit 4", ["bad", "ok", "on", "todo"]),
    ],
)
def test_list(shop: Sidecar, options: str, found: list[str]) -> None:
    assert listed(shop, *options.split()) == found


def test_list_as_a_table_and_on(shop: Sidecar) -> None:
    admin = ("--admin", shop.admin)
    text = redspan("jobs", "list", *admin)
    assert text.splitlines()[0].split()[:4] == ["STATUS", "QUEUE", "ID", "TYPE"]
    assert TRACE in text
    assert "\x1b" not in text
    for where in ({"REDSPAN_ADMIN__BIND": shop.admin}, {"REDSPAN_ADMIN_URL": f"http://{shop.admin}"}):
        page = json.loads(redspan("jobs", "list", "--json", "--limit", "3", env=where))
        assert len(listed(shop, "--cursor", page["next"])) == 1


def test_show(shop: Sidecar) -> None:
    admin = ("--admin", shop.admin)
    text = redspan("jobs", "show", "ok", *admin)
    assert f" 00-{TRACE}-" in text
    assert f"http://jaeger:16686/trace/{TRACE}" in text
    assert "job.process" in text
    assert "#" in text
    assert SECRET not in text
    assert json.loads(redspan("jobs", "show", "ok", "--json", *admin))["status"] == "succeeded"
    assert json.loads(redspan("jobs", "show", "ok", "--output", "json", *admin))["status"] == "succeeded"
    chart = redspan("jobs", "show", "bad", "--output", "mermaid", *admin).splitlines()
    assert chart[:2] == ["gantt", "    dateFormat x"]
    assert any("job.process bad" in line and ":crit, " in line for line in chart)
    assert "no such job" in redspan("jobs", "show", "nobody", *admin, status=1)
    assert "no trace that is remembered has an id that begins with dead" in redspan("trace", "dead", *admin, status=1)


def test_ids_cut_short(shop: Sidecar) -> None:
    admin = ("--admin", shop.admin)
    assert json.loads(redspan("jobs", "show", "tod", "--json", *admin))["id"] == "todo"
    said = redspan("jobs", "show", "o", *admin, status=1)
    assert said.startswith("error: 2 jobs have an id that begins with o: ")
    assert {"ok", "on"} <= set(said.replace(",", "").split())
    for beginning in (TRACE[:7], UUID[:11].upper()):
        assert json.loads(redspan("trace", beginning, "--json", *admin))["trace_id"] == TRACE
    assert "no trace that is remembered" in redspan("trace", TRACE[:7] + "f", *admin, status=1)


def test_each_step_is_said_once(shop: Sidecar) -> None:
    text = redspan("jobs", "show", "bad", "--admin", shop.admin)
    steps = [line.split("  ", 1)[1] for line in text.split("\n\n")[1].splitlines()]
    assert steps == ["enqueued", "delivered", "started", "dead_letter", "failed: dead_letter"]


def test_a_job_whose_end_nothing_shows(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"frameworks": {"list": {"queues": ["orders"]}}})
    sidecar.page("/")
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush("orders", job("gone"))
        client.rpop("orders")
    sidecar.wait_for(lambda: listed(sidecar, "--status", "unknown") == ["gone"], "not unknown")
    text = redspan("jobs", "show", "gone", "--admin", sidecar.admin)
    assert "was not seen: nothing on the wire has told when, or how" in text


def test_trace(shop: Sidecar) -> None:
    admin = ("--admin", shop.admin)
    assert "    job.process" not in redspan("jobs", "list", *admin)
    assert "\n  job.process" in redspan("trace", UUID, *admin)
    assert json.loads(redspan("trace", TRACE, "--json", *admin))["trace_id"] == TRACE
    assert redspan("trace", TRACE, "--output", "mermaid", *admin).startswith("gantt\n")
    assert "hex digits" in redspan("trace", "zzz", *admin, status=2)


def test_queues_and_workers(shop: Sidecar) -> None:
    admin = ("--admin", shop.admin)
    assert "orders" in redspan("queues", *admin)
    assert {one["queue"] for one in json.loads(redspan("queues", "--json", *admin))["queues"]} >= {"orders", "mail"}
    assert "127.0.0.1:" in redspan("workers", *admin)
    assert json.loads(redspan("workers", "--json", *admin))["workers"][0]["jobs"] == 3


@pytest.mark.parametrize("as_json", [False, True])
def test_tail(start_sidecar: StartSidecar, as_json: bool) -> None:
    sidecar = start_sidecar(SETTINGS)
    sidecar.page("/")
    command = [sys.executable, "-m", "proxy", "jobs", "tail", "--admin", sidecar.admin, "--queue", "mail"]
    command += ["--count", "2", *(["--json"] if as_json else [])]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with redis.Redis.from_url(sidecar.url) as client:
            number = 0

            def ended() -> bool:
                nonlocal number
                number += 1
                client.lpush("orders", job(f"o{number}"))
                client.lpush("mail", job(f"m{number}"))
                return process.poll() is not None

            sidecar.wait_for(ended, "no jobs came")
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert len(lines) == 2
    for line in lines:
        assert '"queue": "mail"' in line if as_json else "enqueued" in line
        assert "  orders" not in line


def test_what_a_terminal_would_obey_is_shown_as_text(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar(SETTINGS)
    sidecar.page("/")
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush("mail\x1b]0;owned\x07", job("x\x1b[31m"))
    sidecar.wait_for(lambda: listed(sidecar) != [], "no job")
    text = redspan("jobs", "list", "--admin", sidecar.admin) + redspan("queues", "--admin", sidecar.admin)
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_token(tmp_path: Path, start_sidecar: StartSidecar) -> None:
    file = tmp_path / "token"
    file.write_text("open sesame")
    sidecar = start_sidecar({"admin": {"bind": f"0.0.0.0:{free_port()}", "token_file": str(file)}})
    sidecar.page("/")
    assert "token" in redspan("queues", "--admin", sidecar.admin, status=1)
    assert "QUEUE" in redspan("queues", "--admin", sidecar.admin, "--token-file", str(file))
    assert "QUEUE" in redspan("queues", "--admin", sidecar.admin, env={"REDSPAN_ADMIN__TOKEN_FILE": str(file)})
    assert "cannot be read" in redspan("queues", "--token-file", "/nowhere", status=1)


def test_nobody_there() -> None:
    admin = f"http://127.0.0.1:{free_port()}"
    said = redspan("jobs", "list", "--admin", admin, status=1)
    assert said.startswith(f"error: no redspan answers at {admin}: ")
    assert "--admin or REDSPAN_ADMIN_URL" in said
    assert "--admin" in redspan("jobs", "list", "--admin", "ftp://x", status=1)


class TestDecode:
    def test_payload(self) -> None:
        text = redspan("decode", job("1", meta={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-03"}))
        assert text.splitlines() == [
            f"trace id       {TRACE}",
            "span id        00f067aa0ba902b7",
            f"trace id uuid  {UUID}",
            "sampled        True",
            "random         True",
            "flags          03",
            "path           meta.traceparent",
        ]

    def test_standard_input(self) -> None:
        (found,) = json.loads(redspan("decode", "--json", stdin=f"00-{TRACE}-00f067aa0ba902b7-00\n"))
        assert found["trace_id"] == TRACE
        assert found["sampled"] is False

    def test_bare_ids_of_go_redis_work_queue(self) -> None:
        (found,) = json.loads(redspan("decode", "--json", json.dumps({"trace_id": TRACE, "span_id": "a" * 16})))
        assert found["span_id"] == "a" * 16

    def test_nothing(self) -> None:
        assert "no trace context" in redspan("decode", "nothing here", status=1)
        assert "no trace context" in redspan("decode", f"00-{'0' * 32}-00f067aa0ba902b7-00", status=1)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_REDSPAN_COMPLETE" in redspan("completion", shell)
    if shell == "bash":
        words = {"COMP_WORDS": "redspan jobs ", "COMP_CWORD": "2", "_REDSPAN_COMPLETE": "bash_complete"}
        assert "plain,list" in redspan(env=words)
