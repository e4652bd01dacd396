"""Whether a trace that redspan begins is sampled: a threshold on its id, so that sidecars agree without talking.

OpenTelemetry's consistent probability sampling (OTEP 235): R is the low 56 bits of the trace id; a trace is kept if
R >= T, with T = (1 - rate) * 2**56.  A trace that is kept by a rate below 1 says so in its tracestate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from proxy.context.tracestate import UNRECORDED, encode_threshold

_BITS: Final = 1 << 56

Sampler: TypeAlias = Callable[[bytes], bytes | None]
"""The tracestate that a trace with this id begins with, if redspan begins it; None: it is not sampled."""


def threshold(rate: float) -> int:
    """T for a rate between 0 and 1; ``2**56`` for 0, which no R reaches."""
    return round((1.0 - rate) * _BITS)


def keeps(trace_id: bytes, threshold: int) -> bool:
    return int.from_bytes(trace_id[9:]) >= threshold


class Rates:
    """The configured rates as samplers: one per queue, made once.

    ``rate(queue, key)`` is the configuration's answer for a queue's name and key; ``enqueue`` the share of enqueues
    that have spans: where one has none, its context says so.
    """

    _REMEMBERED: Final = 4096

    def __init__(self, rate: Callable[[str, str], float], enqueue: float = 1.0) -> None:
        self._rate = rate
        self._enqueue = threshold(enqueue)
        self._samplers: dict[tuple[str, bytes], Sampler] = {}

    def sampler(self, queue: str, key: bytes) -> Sampler:
        """For traces that begin with a job on this queue."""
        sampler = self._samplers.get((queue, key))
        if sampler is None:
            if len(self._samplers) >= self._REMEMBERED:
                self._samplers.clear()
            least = threshold(self._rate(queue, key.decode(errors="backslashreplace")))
            sampler = self._samplers[queue, key] = _sampler(least, self._enqueue)
        return sampler


def _sampler(least: int, enqueue: int) -> Sampler:
    state = b"ot=th:%s" % encode_threshold(least).encode() if least else b""
    without = b"%s,%s" % (state, UNRECORDED) if state else UNRECORDED

    def sampler(trace_id: bytes) -> bytes | None:
        randomness = int.from_bytes(trace_id[9:])
        if randomness < least:
            return None
        return state if randomness >= enqueue else without

    return sampler
