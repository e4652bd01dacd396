"""Whether a trace that redspan begins is sampled: a threshold on its id, so that sidecars agree without talking.

OpenTelemetry's consistent probability sampling (OTEP 235): R is the low 56 bits of the trace id; a trace is kept if
R >= T, with T = (1 - rate) * 2**56.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_BITS: Final = 1 << 56


def threshold(rate: float) -> int:
    """T for a rate between 0 and 1; ``2**56`` for 0, which no R reaches."""
    return round((1.0 - rate) * _BITS)


def keeps(trace_id: bytes, threshold: int) -> bool:
    return int.from_bytes(trace_id[9:]) >= threshold


class Rates:
    """The configured rates as samplers: one per queue, made once.

    ``rate(queue, key)`` is the configuration's answer for a queue's name and key.
    """

    _REMEMBERED: Final = 4096

    def __init__(self, rate: Callable[[str, str], float]) -> None:
        self._rate = rate
        self._samplers: dict[tuple[str, bytes], Callable[[bytes], bool]] = {}

    def sampler(self, queue: str, key: bytes) -> Callable[[bytes], bool]:
        """Whether redspan samples a trace that it begins with a job on this queue, by trace id."""
        sampler = self._samplers.get((queue, key))
        if sampler is None:
            if len(self._samplers) >= self._REMEMBERED:
                self._samplers.clear()
            least = threshold(self._rate(queue, key.decode(errors="backslashreplace")))

            def sampler(trace_id: bytes) -> bool:
                return int.from_bytes(trace_id[9:]) >= least

            self._samplers[queue, key] = sampler
        return sampler
