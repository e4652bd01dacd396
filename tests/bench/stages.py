"""What the tracer does with a span, step by step, and what each step costs: in this process, on one thread."""

from __future__ import annotations

import gc
import gzip
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from proxy import __version__
from proxy.config import Settings
from proxy.events import Batch, Record, decode, encode
from proxy.tracer import assembly
from proxy.tracer.export.post import Poster, target
from proxy.tracer.otlp import Encoder
from proxy.tracer.resource import resource_attributes
from proxy.tracer.span import Span
from tests.bench import jobs

_P = ParamSpec("_P")
_T = TypeVar("_T")

STAGES: Final = ("decode events", "lifecycle", "buffer", "encode OTLP", "gzip", "post")
_RECORDS: Final = 300
"""In a datagram."""


class Stages:
    """``cost`` is in microseconds of CPU for each span; ``raw`` and ``packed`` are bytes of OTLP for each span."""

    def __init__(self, settings: Settings, collector: str) -> None:
        self._spent = dict.fromkeys(STAGES, 0)
        self._spans = self._raw = self._packed = 0
        self._settings = settings
        self._lifecycle = assembly.lifecycle(settings)
        self._buffer = assembly.buffer(settings)
        self._encoder = Encoder(resource_attributes(), __version__, settings.tracing.spans.naming)
        self._poster = Poster(target(collector), "application/x-protobuf", compression="none")

    def run(self, count: int) -> None:
        """``count`` jobs, every one of them complete."""
        made = jobs.Jobs()
        first: list[Record] = [*jobs.connections(time.time_ns())]
        gc.collect()
        gc.freeze()
        for _ in range(0, count, _RECORDS // jobs.SPANS):
            records: list[Record] = [*first]
            for _ in range(_RECORDS // jobs.SPANS):
                records += made.events(time.time_ns())
            first.clear()
            self._datagram(encode(Batch(0, 0, records)))
        self._poster.close()
        gc.unfreeze()

    @property
    def cost(self) -> dict[str, float]:
        return {name: spent / 1000 / self._spans for name, spent in self._spent.items()}

    @property
    def raw(self) -> float:
        return self._raw / self._spans

    @property
    def packed(self) -> float:
        return self._packed / self._spans

    def _datagram(self, datagram: bytes) -> None:
        batch = self._timed("decode events", decode, datagram)
        spans = self._timed("lifecycle", self._live, batch.records)
        self._timed("buffer", self._keep, spans)
        while self._buffer.waiting >= self._buffer.batch:
            taken = self._timed("buffer", self._buffer.take, time.monotonic())
            body = self._timed("encode OTLP", self._encoder.encode, taken)
            packed = self._timed("gzip", gzip.compress, body, 1, mtime=0)
            self._timed("post", self._poster.post, packed)
            self._timed("buffer", self._buffer.sent, taken)
            self._spans += len(taken)
            self._raw += len(body)
            self._packed += len(packed)

    def _live(self, records: list[Record]) -> list[Span]:
        spans = [span for record in records for span in self._lifecycle.feed(0, record)]
        return spans + self._lifecycle.tick(time.time_ns())

    def _keep(self, spans: list[Span]) -> None:
        for span in spans:
            self._buffer.add(span, time.monotonic())

    def _timed(self, stage: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        began = time.thread_time_ns()
        try:
            return call(*args, **kwargs)
        finally:
            self._spent[stage] += time.thread_time_ns() - began
