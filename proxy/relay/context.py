"""What all sessions of a relay worker share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.context.carry import Carrier
from proxy.context.sampling import Rates
from proxy.events import Record
from proxy.frameworks.router import Router
from proxy.relay.counters import Counters
from proxy.relay.ledger import CONTROLS
from proxy.resp.requests import Watch


class RelayContext:
    """Handed to every `Session`.

    ``emit`` takes a record for the tracer; ``notice(reason, conn, detail)`` tells of a session that went
    blind; the detail says where, never with what bytes.
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
        self.router: Final = router
        self.carrier: Final = carrier
        self.rates: Final = rates
        self.emit: Final = emit
        self.notice: Final = notice
        self.worker: Final = worker
        self.inject: Final = inject
        self.max_inspect: Final = max_inspect
        self.counters: Final = Counters()
        self.watched: Final = {
            **dict.fromkeys(CONTROLS, Watch.COPY),
            **dict.fromkeys(router.commands, Watch.COPY),
            **dict.fromkeys(router.rewritable, Watch.HOLD),
        }
        self.epoch = 0
        """Goes up with every new tracer: connections announce themselves again."""
