"""What all sessions of a relay worker share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from proxy.context.carry import Carrier
from proxy.context.sampling import Rates
from proxy.events import Record
from proxy.frameworks.router import Router
from proxy.relay.counters import UNKNOWN_SHAPE, Counters
from proxy.relay.ledger import CONTROLS
from proxy.resp.commands import FIRST
from proxy.resp.requests import NAME_LIMIT, Watch

_SPELLINGS: Final = 4096


class Names(dict[bytes, bytes | None]):
    """From a command's name, as clients spell it, to the name in upper case; None for one that nobody watches."""

    def __init__(self, watched: Mapping[bytes, Watch]) -> None:
        super().__init__({name: name for name in watched})
        self._watched = watched

    def __missing__(self, name: bytes) -> bytes | None:
        upper = name.upper()
        known = upper if upper in self._watched else None
        if len(self) < _SPELLINGS and len(name) <= NAME_LIMIT:
            self[name] = known
        return known


class RelayContext:
    """Handed to every `Session`.

    ``emit`` takes a record for the tracer; ``notice(reason, conn, detail)`` tells of a session that went
    blind, or of a framework whose scripts are not known; the detail says where or whose, never with what bytes.
    """

    def __init__(
        self,
        router: Router,
        carrier: Carrier,
        rates: Rates,
        emit: Callable[[Record], None],
        notice: Callable[[str, int, str], None],
        *,
        worker: int = 0,
        inject: bool = True,
        max_inspect: int = 1 << 20,
    ) -> None:
        self.emit: Final = emit
        self.notice: Final = notice
        self.worker: Final = worker
        self.counters: Final = Counters()
        self._strange: Final[set[str]] = set()
        self.adopt(router, carrier, rates, inject=inject, max_inspect=max_inspect)
        self.epoch = 0
        """Goes up with every new tracer: connections announce themselves again."""

    def unrecognised(self, framework: str, conn: int) -> None:
        """A script of ``framework``, in a form that is not known, went by untouched."""
        self.counters.injection(framework, UNKNOWN_SHAPE)
        if framework not in self._strange:
            self._strange.add(framework)
            self.notice(UNKNOWN_SHAPE, conn, framework)

    def adopt(self, router: Router, carrier: Carrier, rates: Rates, *, inject: bool, max_inspect: int) -> None:
        """Go by other settings from now on. A session's framer has to be told: `Session.settings_changed`."""
        self.router = router
        self.carrier = carrier
        self.rates = rates
        self.inject = inject
        self.max_inspect = max_inspect
        self.watched = {
            **dict.fromkeys(CONTROLS, Watch.COPY),
            **dict.fromkeys(router.commands, Watch.COPY),
            **dict.fromkeys(router.commands & FIRST, Watch.CLAIMED),
            **dict.fromkeys(router.rewritable, Watch.HOLD),
        }
        self.names = Names(self.watched)
