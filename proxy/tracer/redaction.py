"""What attributes may leave the tracer: names that are denied, personal data that is masked, text that is too long.

A mask can be wrong both ways.  Numbers are taken for cards only if their check digit is right, they begin as cards
do, and they are no part of a UUID or of a word; for phones only if they are written as such.  So most ids pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from proxy.tracer import attributes as a
from proxy.tracer.span import Value

_EMAIL: Final = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_SSN: Final = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_UUID: Final = r"(?<![\w-])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![\w-])"
_CARD: Final = re.compile(rf"(?P<id>{_UUID})|(?<![0-9A-Za-z.])[2-6]\d{{3}}(?:[ -]?\d){{8,15}}(?![0-9A-Za-z])")
_PHONE: Final = re.compile(
    r"(?<![\w+])\+\d{1,3}[ ./-]?(?:\(\d{1,5}\)[ ./-]?)?\d(?:[ ./-]?\d){5,13}(?!\d)"
    r"|(?<![\w-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"
)
_IPV4: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")

_PLACES: Final = frozenset({a.SERVER_ADDRESS, a.CLIENT_ADDRESS, a.DB_NAMESPACE})
"""Addresses of machines, by their meaning."""

READ: Final = 4096
"""Characters of a text that are looked at."""


class Redaction:
    """A `proxy.tracer.attributes.Rule`. ``patterns`` are compiled once, and see `READ` characters at most."""

    def __init__(
        self,
        deny: Iterable[str] = (),
        *,
        pii: bool = True,
        patterns: Iterable[str] = (),
        max_length: int = 1024,
    ) -> None:
        globs = "|".join(map(translate, deny))
        self._denied = lru_cache(1024)(re.compile(globs).match) if globs else None
        self._pii = pii
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._max_length = max_length

    def __call__(self, name: str, value: Value) -> Value | None:
        if self._denied is not None and self._denied(name):
            return None
        if isinstance(value, str):
            return self.text(value, place=name in _PLACES)
        # A number has no blanks or dots: it can only be a card, and measurements are none.
        if type(value) is int and _LARGE < value < _LARGE**2 and name.startswith(a.PAYLOAD):
            return self.text(str(value)) if _CARD.fullmatch(str(value)) else value
        return value

    def text(self, text: str, *, place: bool = False) -> str:
        """The text with what is personal masked, and cut."""
        text = text[: max(READ, self._max_length)]
        if self._pii and not place:
            text = _masked(text)
        for pattern in self._patterns:
            text = pattern.sub("[custom]", text)
        # Only now: half an address would not be known as one.
        return text[: self._max_length]


def _masked(text: str) -> str:
    if "@" in text:
        text = _EMAIL.sub("[email]", text)
    if _DIGITS.search(text):
        text = _SSN.sub("[ssn]", text)
        text = _CARD.sub(_card, text)
        text = _PHONE.sub("[phone]", text)
    if "." in text:
        text = _IPV4.sub(_ipv4, text)
    return _IPV6.sub(_ipv6, text) if ":" in text else text


_DIGITS: Final = re.compile(r"(?:\d[ ()./-]{0,3}){7}")
"""Fewer, or further apart, are no number that is masked."""
_LARGE: Final = 10**11


def _card(match: re.Match[str]) -> str:
    if match["id"]:
        return match[0]
    digits = [int(char) for char in match[0] if char.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return "[card]" if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match[0]


def _ipv4(match: re.Match[str]) -> str:
    try:
        IPv4Address(match[0])
    except AddressValueError:
        return match[0]
    return "[ip]"


def _ipv6(match: re.Match[str]) -> str:
    try:
        IPv6Address(match[0])
    except AddressValueError:
        return match[0]
    # Two words and two colons between them are somebody's key.
    return "[ip]" if len([part for part in match[0].split(":") if part]) > 2 else match[0]
