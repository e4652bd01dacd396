"""Headers of requests to a collector that stand in a file: a token that somebody renews while redspan runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from proxy.files import FromFiles
from proxy.tracer.export.base import Result, Status

REFUSED: Final = frozenset({401, 403})
"""Who is refused may have a better token a little later."""


def parse(text: str) -> dict[str, str]:
    """One ``name: value`` a line; empty lines and those that begin with # are left out. Raises ValueError."""
    headers: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not name or not value or not value.isascii() or not name.isascii() or " " in name:
            raise ValueError(f"line {number} is no header such as Authorization: Bearer …")
        headers[name] = value
    return headers


class FileHeaders:
    """Those of a file, read again when it changes; without a file there are none."""

    def __init__(self, file: str = "") -> None:
        self.changing: Final = bool(file)
        self._of = FromFiles(lambda: _read(file), [file] if file else [], "the headers for the collector")

    def get(self) -> Mapping[str, str]:
        return self._of.get()

    def merged(self, metadata: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """GRPC's metadata with them; one of the same name is replaced."""
        changing = {name.lower(): value for name, value in self.get().items()}
        return [*(one for one in metadata if one[0] not in changing), *changing.items()]

    def refusal(self, code: int | str, reason: str) -> Result | None:
        """The result where a refusal may end with the next token; None: it does not, or it is none."""
        if self.changing and (code in REFUSED or code in ("UNAUTHENTICATED", "PERMISSION_DENIED")):
            return Result(Status.RETRYABLE, reason=reason)
        return None


def _read(file: str) -> dict[str, str]:
    return parse(Path(file).read_text(encoding="utf-8")) if file else {}
