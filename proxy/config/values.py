"""What a single setting may hold: the kinds of values, as annotations for the structs of `proxy.config`.

A `Kind` says in words what is expected, reads a value as YAML gives it, and knows how to show one: durations with
their unit, secrets not at all.  ``Duration`` and its like are ordinary types (float, int, str) that carry a `Kind`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from proxy.address import masked, parse_bind, parse_upstream

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list indices from the root of the tree to a value."""

MASK: Final = "***"
"""What is printed in a secret's place."""


def dotted(path: KeyPath) -> str:
    """``listeners[0].bind``; a key that is no plain word stands in brackets and quotes."""
    text = ""
    for part in path:
        if isinstance(part, str) and re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


class Conflict(NamedTuple):
    """Values that are fine one by one, but not together, or not with what is outside."""

    path: KeyPath
    expected: str
    found: str
    other: KeyPath
    """The value that it collides with."""
    ignorable: bool = False
    """The value is of no use where it stands, and that is all: no reason not to start, for one from ``OTEL_*``."""


class Kind(NamedTuple):
    expected: str
    """What may be written, in words."""
    read: Callable[[object], object]
    """From YAML's value to the setting's. Raises ValueError; its text, if any, says why and shows no secret."""
    text: bool = False
    """An environment variable holds the value itself: it is not read as YAML first."""
    secret: bool = False
    """Never printed."""
    show: Callable[[object], str] = lambda value: json.dumps(value, ensure_ascii=False)
    """The setting's value as it may be printed."""


# Reading. `True` is an int to Python, never to a user.

_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_DURATIONS: Final = re.compile(rf"(?:{_DURATION.pattern})+", re.ASCII)
_LONGEST: Final = 366 * 24 * 3600.0

_FACTORS: Final = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE: Final = re.compile(rf"(\d{{1,12}}) ?({'|'.join(_FACTORS)})", re.ASCII)
_LARGEST: Final = 2**31 - 1


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("put it in quotes" if isinstance(value, bool | int | float) else "")
    return value


def _read_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _read_number(value: object, low: float, high: float) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError
    return value


def _read_int(value: object, low: int, high: int) -> int:
    number = _read_number(value, low, high)
    if not isinstance(number, int):
        raise ValueError
    return number


def read_duration(value: object) -> float:
    """Seconds, from a number of them or from text such as ``25s``, ``500ms``, ``1m30s``."""
    if isinstance(value, str) and _DURATIONS.fullmatch(value):
        # By way of milliseconds: 300 / 1000 is 0.3, while 300 * 0.001 is not.
        value = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(value)) / 1000
    return float(_read_number(value, 0.0, _LONGEST))


def _read_positive_duration(value: object) -> float:
    seconds = read_duration(value)
    if not seconds:
        raise ValueError
    return seconds


def read_size(value: object) -> int:
    """Bytes, from a number of them or from text such as ``64KiB``."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        value = int(match[1]) * _FACTORS[match[2]]
    return _read_int(value, 1, _LARGEST)


def _read_name(value: object) -> str:
    if not (text := _read_text(value)).strip():
        raise ValueError
    return text


def _read_path(value: object) -> str:
    text = _read_text(value)
    if not all(text.split(".")):
        raise ValueError
    return text


def _read_optional_path(value: object) -> str:
    return "" if value == "" else _read_path(value)


def _read_template(value: object) -> str:
    text = _read_text(value)
    if "{" not in text and "}" not in text:
        return _read_optional_path(text)
    if not TEMPLATE.fullmatch(text):
        raise ValueError("paths stand in braces")
    return text


TEMPLATE: Final = re.compile(r"[^{}]*(?:\{[^{}.]+(?:\.[^{}.]+)*\}[^{}]*)+")
_PLACE: Final = re.compile(
    r"arguments? [1-9]\d{0,3}|reply(?: (?:[1-9]\d{0,3}|\*)(?:\.(?:[1-9]\d{0,3}|\*))*)?", re.ASCII
)


def _read_place(value: object) -> str:
    if (text := _read_text(value)) and not _PLACE.fullmatch(text):
        raise ValueError
    return text


def _read_key(value: object) -> str:
    if "." in (text := _read_slot(value)):
        raise ValueError("a path into the job is not in this release")
    return text


def _read_slot(value: object) -> str:
    text = _read_path(value)
    if not re.fullmatch(r"[\x21-\x7e]+", text) or '"' in text or "\\" in text:
        raise ValueError("it would have to be escaped in JSON")
    return text


def _read_prefix(value: object) -> str:
    text = _read_text(value)
    if re.search(r"[*?\[\]\\]", text):
        raise ValueError("it is no glob")
    return text


def _read_bind(value: object) -> str:
    parse_bind(text := _read_text(value))
    return text


def _read_upstream(value: object) -> str:
    parse_upstream(text := _read_text(value))
    return text


def _read_endpoint(value: object) -> str:
    if not (text := _read_text(value)):
        return text
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("the host or the port is not one") from None  # the message has the text, credentials and all
    if "@" in url.netloc:
        raise ValueError("credentials go into tracing.headers")
    if url.scheme not in ("http", "https") or not host:
        raise ValueError
    return text


def _read_console(value: object) -> bool | str:
    if isinstance(value, bool) or value in ("tree", "json"):
        return value
    raise ValueError


# Showing.


def show_duration(value: object) -> str:
    """``25s``, ``500ms``, ``1h``: the largest unit that leaves a whole number."""
    seconds = read_duration(value)
    milliseconds = round(seconds * 1000, 6)
    for unit in ("h", "m", "s"):
        if milliseconds and milliseconds % _UNITS[unit] == 0:
            return f"{milliseconds / _UNITS[unit]:.0f}{unit}"
    return f"{milliseconds:g}ms" if milliseconds else "0s"


def _read_port(value: object) -> int:
    """A number, or the digits of one."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6
    return _read_int(int(str(value)) if digits else value, 1, 65535)


def _whole(low: int, high: int, words: str) -> Kind:
    return Kind(words, lambda value: _read_int(value, low, high))


TEXT: Final = Kind("text", _read_text, text=True)
BOOL: Final = Kind("true or false", _read_bool)
HOST: Final = Kind("a name or an address", _read_name, text=True)
PORT: Final = Kind("a whole number from 1 to 65535", _read_port)

Duration: TypeAlias = Annotated[
    float, Kind("a duration above 0, such as 25s, 500ms or 2m", _read_positive_duration, show=show_duration)
]
Wait: TypeAlias = Annotated[float, Kind("a duration, such as 25s, 500ms or 0s", read_duration, show=show_duration)]
Size: TypeAlias = Annotated[int, Kind("a size above 0, such as 1048576, 64KiB or 1MiB", read_size)]
Rate: TypeAlias = Annotated[float, Kind("a number from 0 to 1", lambda value: float(_read_number(value, 0.0, 1.0)))]
Count: TypeAlias = Annotated[int, _whole(1, _LARGEST, "a whole number above 0")]
Natural: TypeAlias = Annotated[int, _whole(0, _LARGEST, "a whole number, 0 or above")]
Workers: TypeAlias = Annotated[int, _whole(1, 64, "a whole number from 1 to 64")]
BatchSize: TypeAlias = Annotated[int, _whole(1, 10_000, "a whole number from 1 to 10000")]
Console: TypeAlias = Annotated[bool | Literal["tree", "json"], Kind("true, false, tree or json", _read_console)]
Name: TypeAlias = Annotated[str, Kind("text that is not empty", _read_name, text=True)]
Glob: TypeAlias = Annotated[str, Kind("a glob that is not empty, such as orders:*", _read_name, text=True)]
Prefix: TypeAlias = Annotated[str, Kind("the plain text that keys begin with", _read_prefix, text=True)]
Key: TypeAlias = Annotated[str, Kind("a top-level key, such as traceparent", _read_key, text=True)]
SlotPath: TypeAlias = Annotated[
    str, Kind("a key, such as traceparent, or a dotted path, such as metadata.traceparent", _read_slot, text=True)
]
Path: TypeAlias = Annotated[str, Kind("a dotted path, such as meta.tenant", _read_path, text=True)]
OptionalPath: TypeAlias = Annotated[
    str, Kind("a dotted path, such as meta.tenant, or nothing", _read_optional_path, text=True)
]
Template: TypeAlias = Annotated[
    str,
    Kind(
        "a dotted path, such as meta.order, or a text with paths in it, such as order-{meta.order}, or nothing",
        _read_template,
        text=True,
    ),
]
OptionalGlob: TypeAlias = Annotated[str, Kind("a glob, such as orders:*, or nothing", _read_text, text=True)]
Text: TypeAlias = Annotated[str, TEXT]
Place: TypeAlias = Annotated[
    str,
    Kind(
        "argument 2, arguments 2 (and all that follow), reply, reply 1.2, reply *, or nothing", _read_place, text=True
    ),
]
Secret: TypeAlias = Annotated[str, Kind("text", _read_text, text=True, secret=True, show=lambda _: MASK)]
Bind: TypeAlias = Annotated[
    str, Kind("an address such as 127.0.0.1:6380, [::1]:6380 or unix:///path", _read_bind, text=True)
]
Upstream: TypeAlias = Annotated[
    str,
    Kind(
        "an address such as redis://127.0.0.1:6379, rediss://user:password@host:6379 or unix:///path",
        _read_upstream,
        text=True,
        show=lambda value: json.dumps(masked(str(value))),
    ),
]
Endpoint: TypeAlias = Annotated[
    str,
    Kind(
        "a URL such as http://127.0.0.1:4318, or host:port",
        _read_endpoint,
        text=True,
        # Some collectors take their key in the query.
        show=lambda value: json.dumps(masked(str(value))),
    ),
]


# The annotations of the tree, taken apart.


def section_of(annotation: object) -> type[msgspec.Struct] | None:
    """The struct, where this is a section."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct) else None


def item_of(annotation: object) -> object | None:
    """The annotation of an item, where this is a list (``tuple[X, ...]``)."""
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None


def entry_of(annotation: object) -> object | None:
    """The annotation of an entry's value, where this is a mapping with keys of the user's choice."""
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


def kind_of(annotation: object) -> Kind:
    """The kind of a single value."""
    if get_origin(annotation) is Annotated:
        return next(extra for extra in get_args(annotation)[1:] if isinstance(extra, Kind))
    if get_origin(annotation) is Literal:
        return _choice(get_args(annotation))
    return BOOL if annotation is bool else TEXT


def shown(annotation: object, value: object) -> str:
    """A setting's value as it may be printed, secrets masked."""
    if isinstance(value, msgspec.Struct):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(shown(item_of(annotation), item) for item in value)}]"
    if isinstance(value, dict):
        entries = (f"{json.dumps(key, ensure_ascii=False)}: {shown(entry_of(annotation), value[key])}" for key in value)
        return f"{{{', '.join(entries)}}}"
    return kind_of(annotation).show(value)


def leaves(value: object, annotation: object, path: KeyPath) -> Iterator[tuple[KeyPath, object, object]]:
    """Every single value in a tree with its path and its annotation. An empty mapping is one, too."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            yield from leaves(getattr(value, field.name), field.type, (*path, field.encode_name))
    elif isinstance(value, tuple) and value and section_of(item := item_of(annotation)):
        for i, inner in enumerate(value):
            yield from leaves(inner, item, (*path, i))
    elif isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, entry_of(annotation), (*path, key))
    else:
        yield path, value, annotation


def _choice(choices: tuple[str, ...]) -> Kind:
    def read(value: object) -> object:
        if value not in choices:
            raise ValueError
        return value

    words = [choice or '""' for choice in choices]
    return Kind(f"{', '.join(words[:-1])} or {words[-1]}", read, text=True)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    def __repr__(self) -> str:
        # A repr ends up in logs and tracebacks, so it goes through the same masking as `check-config --effective`.
        fields = msgspec.structs.fields(self)
        return f"{type(self).__name__}({', '.join(f'{f.name}={shown(f.type, getattr(self, f.name))}' for f in fields)})"
