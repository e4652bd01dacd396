"""How an attempt ended, in a word, for those who count."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from proxy.events import Verdict

End: TypeAlias = Literal[
    "success", "failure", "retry", "dead_letter", "taken_over", "ack_lost", "undelivered", "lost", "unknown"
]
"""``taken_over``: somebody else was given the job. ``ack_lost``: there was nothing to acknowledge any more, so somebody
else may have the job as well. ``undelivered``: the client had gone before the job could be written to it.
``lost``: taken from its holder, and on no queue since."""

ENDS: Final[tuple[End, ...]] = get_args(End)

_BY_ERROR: Final[dict[str, End]] = {
    "retry": "retry",
    "dead_letter": "dead_letter",
    "ack_lost": "ack_lost",
    "reclaimed": "taken_over",
    "redelivered": "taken_over",
    "lost": "lost",
}


def how(verdict: Verdict, error: str) -> End:
    """``error``: ``error.type`` of the process span."""
    if verdict is Verdict.FAILURE:
        return _BY_ERROR.get(error, "failure")
    return "success" if verdict is Verdict.SUCCESS else "unknown"
