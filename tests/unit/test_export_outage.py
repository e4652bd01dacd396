"""A collector that is away for minutes, on a clock that is handed: every span is somewhere, and tokens are renewed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from proxy.files import FromFiles
from proxy.tracer.export.base import Status
from proxy.tracer.export.buffer import LONGEST_DELAY, SpanBuffer
from proxy.tracer.export.headers import parse
from proxy.tracer.export.http import HttpExporter
from proxy.tracer.otlp import Encoder
from tests.receiver import Receiver
from tests.unit.make_spans import make

SECONDS, RATE = 600, 1000
AWAY = range(120, 420)


def test_600_000_spans_through_an_outage_of_five_minutes() -> None:
    buffer, span = SpanBuffer(10_000, 512, 5.0, jitter=lambda: 0.5), make()
    attempts_while_away, opened = 0, set()
    for tick in range(SECONDS * 10):
        now = tick / 10
        for _ in range(RATE // 10):
            buffer.add(span, now)
        while buffer.due(now):
            batch = buffer.take(now)
            if int(now) in AWAY:
                attempts_while_away += 1
                buffer.give_back(batch, now)
            elif tick % 97 == 0:
                buffer.failed(batch)
            else:
                buffer.sent(batch, rejected=int(tick % 89 == 0))
        opened.add(buffer.broken)
        assert buffer.held <= buffer.capacity
        assert buffer.started == buffer.exported + sum(buffer.dropped.values()) + buffer.held
    assert buffer.started == SECONDS * RATE
    # The outage, less what the buffer holds, plus what came until the collector was asked again.
    lost = buffer.dropped["buffer_full"]
    assert len(AWAY) * RATE - buffer.capacity <= lost <= (len(AWAY) + LONGEST_DELAY * 1.2) * RATE
    assert buffer.dropped["export_failed"] > 0
    assert buffer.dropped["rejected"] > 0
    assert buffer.dropped["shutdown"] == 0
    assert 10 <= attempts_while_away <= 20
    assert attempts_while_away == buffer.retries
    assert opened == {True, False}
    assert not buffer.broken
    held = buffer.abandon()
    assert buffer.dropped["shutdown"] == held
    assert buffer.started == buffer.exported + sum(buffer.dropped.values())


def test_a_token_that_is_renewed_is_sent_and_a_refusal_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.files._EVERY", 0.0)
    file = tmp_path / "headers"
    file.write_text("# of the collector\nAuthorization: Bearer old\n")
    with Receiver() as receiver, closing(HttpExporter(Encoder({}), receiver.url, headers_file=str(file))) as exporter:
        receiver.answer(401)
        assert exporter.export([make()]).status is Status.RETRYABLE
        new = tmp_path / "new"
        new.write_text("Authorization: Bearer renewed\n")
        new.replace(file)
        assert exporter.export([make()]).status is Status.OK
        file.unlink()
        assert exporter.export([make()]).status is Status.OK
        assert [request.headers["authorization"] for request in receiver.requests] == [
            "Bearer old",
            "Bearer renewed",
            "Bearer renewed",
        ]


def test_without_a_file_a_refusal_is_final() -> None:
    with Receiver() as receiver, closing(HttpExporter(Encoder({}), receiver.url)) as exporter:
        receiver.answer(401)
        assert exporter.export([make()]).status is Status.FATAL


@pytest.mark.parametrize("text", ["Bearer secret", ": x", "a b: c", "a:"])
def test_what_is_no_header_is_said_without_saying_what_it_is(text: str) -> None:
    with pytest.raises(ValueError, match="line 1 is no header") as caught:
        parse(text)
    assert "secret" not in str(caught.value)


def test_nothing_is_read_without_files() -> None:
    assert FromFiles(lambda: 1, [], "nothing").get() == 1
