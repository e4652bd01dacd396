"""W3C Baggage (https://www.w3.org/TR/baggage/): read for those who allow it in spans; never written, never changed.

A job's baggage rides beside its context, and stays there as it came.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

KEY: Final = "baggage"
ENTRIES: Final = 32
"""Of a longer one the rest is left out."""
LENGTH: Final = 256
"""Characters of a value; a longer entry is left out."""
_READ_LIMIT: Final = 8192
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_VALUE: Final = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")


def parse(header: str) -> dict[str, str]:
    """Keys and values, percent-decoded, without properties. What is no entry is left out."""
    entries: dict[str, str] = {}
    for part in header[:_READ_LIMIT].split(","):
        name, equals, rest = part.partition("=")
        key, value = name.strip(" \t"), rest.partition(";")[0].strip(" \t")
        if equals and len(entries) < ENTRIES and _TOKEN.fullmatch(key) and _VALUE.fullmatch(value):
            text = unquote(value)
            if len(text) <= LENGTH:
                entries[key] = text
    return entries
