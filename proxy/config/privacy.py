"""The settings of privacy: what of a job may be seen in spans, and what is masked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy.config.values import Conflict, Count, Glob, KeyPath, Name, Path, Section


class Allowed(Section, frozen=True):
    """Content of jobs that spans may show, as ``redspan.payload.<path>``."""

    framework: Name = "*"
    """Glob of the framework's name."""
    queue: Glob = "*"
    """Glob of the queue's name."""
    paths: tuple[Path, ...] = ()
    """Dotted paths into JSON; of streams and hashes the first name is a field. Only what is text, a number, a bool."""


class AttributeFilter(Section, frozen=True):
    """Which attributes spans have."""

    allow: tuple[Allowed, ...] = ()
    """Content of jobs; by default none."""
    deny: tuple[Glob, ...] = ()
    """Globs of names of attributes that no span has."""
    max_length: Count = 1024
    """Characters of a text; the rest is cut off."""
    max_count: Count = 64
    """Attributes from ``allow`` on a span."""


class Security(Section, frozen=True):
    """What is kept back, and whom redspan believes."""

    filter_attributes: bool = True
    """Go by ``attribute_filter``; false: no content of jobs is shown, and no attribute is denied."""
    redact_pii: bool = True
    """Mask e-mail and IP addresses, card, social security and phone numbers, wherever text is exported."""
    pii_patterns: tuple[Name, ...] = ()
    """Regular expressions of what to mask besides. They see 4,096 characters of a text."""
    trust_inbound: bool = True
    """False: a context that a job brings along is replaced by one of redspan's own, and linked to."""

    def conflicts(self, path: KeyPath) -> Iterator[Conflict]:
        """Patterns that are none, or that could take a very long time."""
        for i, pattern in enumerate(self.pii_patterns):
            at = (*path, "pii_patterns", i)
            try:
                empty = re.compile(pattern).search("")
            except (re.error, RecursionError, OverflowError):
                yield Conflict(at, "a regular expression", f'"{pattern}"', at)
                continue
            if empty:
                yield Conflict(at, "a pattern that does not match nothing at all", f'"{pattern}"', at)
            elif len(pattern) > 500 or _NESTED.search(pattern):
                yield Conflict(at, "a pattern without repetition inside of repetition", f'"{pattern}"', at)


_NESTED = re.compile(r"(?:[*+}][^()]*|\|[^()]*)\)+[*+{]|\\[1-9]")
"""A group with a repetition or a choice in it that is repeated itself, or a reference back."""
