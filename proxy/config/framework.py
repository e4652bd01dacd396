"""What the settings of all job frameworks have in common."""

from __future__ import annotations

from typing import Literal, TypeAlias

from proxy.config.values import Section, Wait

Relation: TypeAlias = Literal["parent", "link"]


class FrameworkSettings(Section, frozen=True):
    """What every framework's section has."""

    enabled: bool = True
    """Recognise its jobs."""
    inject: bool = True
    """Write a context into them; false only observes."""
    process_span: bool = True
    """Make ``job.process`` spans; false where the workers make their own."""
    relation: Relation = "parent"
    """How a dequeue refers to its enqueue: child of it, or a trace of its own with a link."""
    timeout: Wait = 0.0
    """Seconds after which an attempt counts as timed out (0: never). It goes on until its end is seen."""
