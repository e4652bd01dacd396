"""BullMQ's scripts, by their keys, in every version from 4.18 to 6.7. What they mean: `proxy.frameworks.bullmq`."""

from __future__ import annotations

from typing import Final

from proxy.frameworks.scripts import Scripts

_MOVES: Final = "wait active prioritized events stalled limiter delayed paused meta pc"
_SCHEDULER: Final = "repeat delayed wait paused meta prioritized marker id events pc"
SCRIPTS: Final = Scripts(
    {
        "add": (
            "wait paused meta id completed events",
            "wait paused meta id completed events marker",
            "wait paused meta id completed active events marker",
            "wait paused meta id completed delayed active events marker",
            "wait paused meta id prioritized completed events pc",
            "marker meta id prioritized completed events pc",
            "marker meta id prioritized completed active events pc",
            "marker meta id prioritized delayed completed active events pc",
            "meta id completed events",
            "meta id delayed completed events",
            "meta id delayed waiting-children completed events",
        ),
        "delay": ("wait paused meta id delayed completed events", "marker meta id delayed completed events"),
        "scheduler": ("marker meta id delayed events repeat", _SCHEDULER, f"{_SCHEDULER} active"),
        "aside": ("repeat delayed", "repeat delayed wait paused meta prioritized"),
        "next": ("marker meta id delayed events repeat ?", f"{_SCHEDULER} ?", f"{_SCHEDULER} ? active"),
        "take": (_MOVES, f"{_MOVES} marker"),
        "finish": tuple(
            f"{_MOVES} {end} * metrics:{end}{marker}" for end in ("completed", "failed") for marker in ("", " marker")
        ),
        "later": (
            "wait active prioritized delayed * events paused meta",
            "marker active prioritized delayed * events meta",
            "marker active prioritized delayed * events meta stalled",
            "marker active prioritized delayed * events meta stalled wait limiter pc",
            "marker active prioritized delayed * events meta stalled wait limiter paused pc",
        ),
        "retry": tuple(
            f"active wait paused * meta events delayed prioritized pc{more}"
            for more in ("", " marker", " marker stalled")
        ),
        "release": (
            "active wait stalled * paused meta limiter prioritized events",
            "active wait stalled * paused meta limiter prioritized marker events",
            "active wait stalled paused meta limiter prioritized marker events",
        ),
        "children": (
            "* active waiting-children *",
            "* active waiting-children * stalled",
            "active waiting-children * * * stalled failed events",
            "active waiting-children * * * stalled events",
        ),
        "stalled": (
            "stalled wait active failed stalled-check meta paused events",
            "stalled wait active failed stalled-check meta paused marker events",
            "stalled wait active stalled-check meta paused marker events",
            "stalled wait active stalled-check meta paused marker events repeat",
        ),
        "reprocess": tuple(
            f"* events {state} wait meta {more}"
            for state in ("completed", "failed")
            for more in ("paused", "paused marker", "paused active marker", "active marker prioritized pc")
        ),
        "promote": (
            "delayed wait paused meta prioritized pc events",
            "delayed wait paused meta prioritized pc events marker",
            "delayed wait paused meta prioritized active pc events marker",
        ),
        "change": ("delayed * events", "delayed meta marker events"),
        "remove": (".", ". meta", ". meta repeat", "* repeat", "* meta repeat"),
        "lock": ("* stalled",),
        "locks": ("stalled",),
        "pause": tuple(
            f"{lists} meta prioritized events{more}"
            for lists in ("wait paused", "paused wait")
            for more in ("", " delayed marker")
        ),
        "drain": ("wait paused ? prioritized", "wait paused delayed prioritized repeat"),
        "obliterate": ("meta .",),
    },
    # Bull's texts begin with the same words, but have keys that BullMQ does not have.
    r"(?s)\A(?!.{0,1500}(?:meta-paused|priority key))--\[\[\s+(?:"
    r"Adds a (?:job to the queue by doing|delayed job|priori(?:ti|t)[tz]ed job|parent job|job scheduler)"
    r"|Updates a job scheduler and adds|Move next job to be processed to active"
    r"|Move job from active to a finished|Moves job from active to delayed set\.\s+Input:\s+KEYS\[1\] (?!active)"
    r"|Retries a failed job by moving it back)",
)
