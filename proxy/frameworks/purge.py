"""What deleting whole keys means."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.events import Op, Verdict
from proxy.frameworks.base import Framework, Intent, Operation
from proxy.frameworks.wire import integer
from proxy.resp.reply import Reply


def purged(framework: Framework, intent: Intent, reply: Reply) -> Iterator[Operation]:
    """Of DEL and UNLINK: every key that is the framework's. Which of several keys existed is not said."""
    keys, count = intent.args[1:], integer(reply)
    sure = Verdict.NONE if count == len(keys) else Verdict.UNKNOWN
    for key in keys if count else ():
        if framework.role(key) is not None:
            yield Operation(Op.PURGE, key, framework.queue(key), verdict=sure)
