"""Globs of keys, as one pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

_NOTHING = re.compile(rb"(?!)")


def compile_globs(globs: Sequence[str]) -> re.Pattern[bytes]:
    """Matches a key that any of ``globs`` matches, as `fnmatch` reads them; none: nothing."""
    return re.compile("|".join(map(translate, globs)).encode()) if globs else _NOTHING
