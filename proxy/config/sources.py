"""Where settings come from: flags, ``REDSPAN_*``, a YAML file, the standard ``OTEL_*``, the defaults, in this order.

Each source becomes a `Layer`: values by path, each with its origin.  `load` lays them over one another, value by
value: a list as a whole, a mapping (headers, resource attributes, queue rates) entry by entry.  A key with nothing
behind it and an empty variable count as not set.

Nothing is reported one by one: a `ConfigError` has all that is wrong.  Only the ``OTEL_*`` variables, which are shared
with other programs, are forgiven: what cannot be used there is left out, with a warning, as their standard asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, cast

import msgspec

from proxy import ADMIN_URL
from proxy.address import REDIS_PORT, masked
from proxy.config import Settings
from proxy.config.document import Given, Problem, read_yaml
from proxy.config.otel import otel_values
from proxy.config.values import (
    HOST,
    MASK,
    PORT,
    KeyPath,
    Kind,
    dotted,
    entry_of,
    item_of,
    kind_of,
    leaves,
    section_of,
    shown,
)

Layer: TypeAlias = dict[KeyPath, Given]
"""One source's values. A list and a mapping have an entry of their own, besides those of what is in them."""

_LISTENERS: Final[KeyPath] = ("listeners",)
_PROTOCOL: Final[KeyPath] = ("tracing", "protocol")
_FLAGS: Final[dict[str, KeyPath]] = {
    "listen": ("listeners", 0, "bind"),
    "upstream": ("listeners", 0, "upstream"),
    "admin": ("admin", "bind"),
}
_ENV: Final = "REDSPAN"
# Items of lists of sections are known by the name of the first: REDSPAN_LISTENERS__0__BIND.
_INDEXED: Final = re.compile(rf"({_ENV}_(?:LISTENERS|TRACING__EXPORTERS))__(\d{{1,4}})(?=__|$)")
# Kubernetes sets these in every pod beside a Service that is named redspan, or redspan-something.
_SERVICE_LINK: Final = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?)$")
_WIDTH: Final = 60
"""Column of the origins in `Loaded.effective`, where the value leaves room."""


class ConfigError(Exception):
    """All that is wrong with the settings, one `Problem` each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Loaded(msgspec.Struct, frozen=True):
    settings: Settings
    origins: dict[str, str]
    """Origin of each value, by its path as `dotted` writes it; ``default`` where nobody set it."""
    warnings: tuple[str, ...] = ()
    """About ``OTEL_*`` variables that were left out."""

    def effective(self) -> list[str]:
        """Each value and its origin, a line each, secrets masked; then what follows from them for the export."""
        lines = [
            f"{f'{dotted(path)} = {shown(annotation, value)}':<{_WIDTH}}  # {self.origins[dotted(path)]}"
            for path, value, annotation in leaves(self.settings, Settings, ())
        ]
        collectors = [one for _, one in self.settings.tracing.collectors()]
        return [
            *lines,
            *(f"# spans go by {one.resolved_protocol()} to {masked(one.resolved_endpoint())}" for one in collectors),
            *([] if collectors else ["# spans go to nobody"]),
        ]


def load(file: Path | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Loaded:
    """The settings. ``flags`` are ``listen``, ``upstream`` and ``admin``; None is not set.

    Raises `ConfigError` with everything that is wrong, in whatever source.
    """
    problems: list[Problem] = []
    strong = [_flag_layer(flags), _env_layer(environ, problems), _file_layer(file, problems) if file else {}]
    otel, warnings = _otel_layer(environ, strong)
    overlay = _Overlay([*strong, otel], problems, warnings)
    settings = overlay.settings()
    wrong = {problem.path for problem in problems}  # the default stands there, which is in nobody's way
    for path, expected, found, other, ignorable in settings.conflicts():
        if not {dotted(path), dotted(other)} & wrong:
            problem = Problem(dotted(path), overlay.where(path), expected, found)
            if ignorable and problem.where.startswith("env OTEL_"):
                warnings.append(f"{problem}; left out")
            else:
                problems.append(problem)
    if problems:
        raise ConfigError(problems)
    return Loaded(settings, overlay.origins, tuple(warnings))


def _flag_layer(flags: Mapping[str, object]) -> Layer:
    return {_FLAGS[name]: Given(value, f"flag --{name}") for name, value in flags.items() if value is not None}


def _env_layer(environ: Mapping[str, str], problems: list[Problem]) -> Layer:
    layer: Layer = {}
    collector = _Collector(layer, problems)
    known = dict(_env_names(Settings, (), _ENV))
    names = [name for name, text in environ.items() if text and name.upper().startswith(f"{_ENV}_")]
    for name in sorted(names, key=lambda name: (name.count("__"), name)):  # the more specific has the last word
        origin, text = f"env {name}", environ[name]
        upper, index = name.upper(), 0
        if match := _INDEXED.match(upper):
            upper, index = f"{match[1]}__0{upper[match.end() :]}", int(match[2])
        if upper in known:
            path, annotation = known[upper]
            path = tuple(index if isinstance(part, int) else part for part in path)
            compound = section_of(annotation) or item_of(annotation) or entry_of(annotation)
            is_text = not compound and kind_of(annotation).text
            given = Given(text, origin) if is_text else read_yaml(text, partial(_same, origin), problems)
            collector.collect(given, annotation, path)
        elif upper != ADMIN_URL and not _SERVICE_LINK.search(upper):
            hint = _nearest(upper, known, "")
            problems.append(Problem("", origin, "the name of a setting", "an unknown one", hint))
    return layer


def _file_layer(file: Path, problems: list[Problem]) -> Layer:
    layer: Layer = {}
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problems.append(Problem("", str(file), "a YAML file", "bytes that are not UTF-8"))
        return layer
    except OSError as error:
        problems.append(Problem("", str(file), "a YAML file", (error.strerror or "none that can be read").lower()))
        return layer
    tree = read_yaml(text, lambda line: f"file {file}:{line}", problems)
    redis = tree.value.pop("redis", None) if isinstance(tree.value, dict) else None
    collector = _Collector(layer, problems)
    collector.collect(tree, Settings, ())
    if redis and redis.value is not None:
        collector.collect_redis(redis)
    return layer


def _otel_layer(environ: Mapping[str, str], stronger: list[Layer]) -> tuple[Layer, list[str]]:
    protocol = next((layer[_PROTOCOL].value for layer in stronger if _PROTOCOL in layer), "")
    values, warnings = otel_values(environ, str(protocol))
    layer: Layer = {}
    for path, (value, name) in values.items():
        origin = f"env {name}"
        items = [Given(item, origin) for item in value] if isinstance(value, list) else value
        layer[path] = Given(items, origin)
    return layer, warnings


class _Collector:
    """From a tree, as somebody wrote it, to a layer."""

    def __init__(self, layer: Layer, problems: list[Problem]) -> None:
        self._layer = layer
        self._problems = problems

    def collect(self, given: Given, annotation: object, path: KeyPath) -> None:
        section, item, entry = section_of(annotation), item_of(annotation), entry_of(annotation)
        value = given.value
        if value is None:
            return
        if section or entry:
            if not isinstance(value, dict):
                secret = entry and kind_of(entry).secret
                self._wrong(path, given, "a mapping", MASK if secret else _described(value))
            elif section:
                self._section(value, section, path)
            else:
                self._layer[path] = given
                self._layer |= {(*path, key): child for key, child in value.items() if child.value is not None}
        elif item:
            if not isinstance(value, list):
                self._wrong(path, given, "a list", _described(value))
                return
            self._layer[path] = given
            if section_of(item):
                for i, child in enumerate(value):
                    self.collect(child, item, (*path, i))
        else:
            self._layer[path] = given

    def collect_redis(self, redis: Given) -> None:
        """``redis: {host, port}``, as in files of go-redis-work-queue: the upstream of the one listener."""
        if not isinstance(redis.value, dict):
            self._wrong(("redis",), redis, "a mapping", _described(redis.value))
            return
        for key, child in redis.value.items():
            if key not in ("host", "port"):
                self._wrong(("redis", key), child, "host or port", key, "the rest goes into listeners[].upstream")
        for key, kind in (("host", HOST), ("port", PORT)):
            half = redis.value.get(key, Given(None, redis.origin))
            try:
                if half.value is not None:
                    kind.read(half.value)
            except ValueError:
                self._wrong(("redis", key), half, kind.expected, _described(half.value))
                return
        upstream = _FLAGS["upstream"]
        listeners = self._layer.get(_LISTENERS)
        if upstream in self._layer or (listeners and len(_items(listeners)) > 1):
            self._wrong(("redis",), redis, "either redis or listeners[].upstream", "both")
            return
        host, port = (redis.value[key].value if key in redis.value else None for key in ("host", "port"))
        host, port = host or "127.0.0.1", REDIS_PORT if port is None else port
        text = f"[{host}]" if str(host).count(":") > 1 and not str(host).startswith("[") else host
        self._layer[upstream] = Given(f"redis://{text}:{port}", redis.origin)

    def _section(self, entries: dict[str, Given], section: type[msgspec.Struct], path: KeyPath) -> None:
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(section)}
        for key, child in entries.items():
            if key in fields:
                self.collect(child, fields[key], (*path, key))
            else:
                hint = _nearest(key, fields, f"there are {', '.join(fields)}")
                self._wrong((*path, key), child, "a known key", key, hint)

    def _wrong(self, path: KeyPath, given: Given, expected: str, found: str, hint: str = "") -> None:
        self._problems.append(Problem(dotted(path), given.where, expected, found, hint))


_DEFAULT: Final = "default"


class _Overlay:
    """From the layers, the strongest first, to the settings."""

    def __init__(self, layers: list[Layer], problems: list[Problem], warnings: list[str]) -> None:
        self._layers = layers
        self._problems = problems
        self._warnings = warnings
        self.origins: dict[str, str] = {}

    def settings(self) -> Settings:
        return cast(Settings, self._section(Settings, ()))

    def where(self, path: KeyPath) -> str:
        """Where a value comes from, as a message begins; of a section what was given in it, of an item its list."""
        name = dotted(path)
        within = (origin for known, origin in self.origins.items() if known.startswith((f"{name}.", f"{name}[")))
        around = (self.origins.get(dotted(path[:end])) for end in range(len(path), 0, -1))
        found = next(filter(None, around), None) or next((one for one in within if one != _DEFAULT), _DEFAULT)
        return found.removeprefix("file ")

    def _given(self, path: KeyPath) -> Given | None:
        return next((layer[path] for layer in self._layers_of(path) if path in layer), None)

    def _layers_of(self, path: KeyPath) -> list[Layer]:
        """Those that have a say in a value."""
        whole: KeyPath = next((path[:i] for i, part in enumerate(path) if isinstance(part, int)), ())
        # A list hides all of the weaker ones, so an index means the list of the strongest source that has one.
        last = next((i for i, layer in enumerate(self._layers) if whole and whole in layer), len(self._layers))
        return self._layers[: last + 1]

    def _section(self, section: type[msgspec.Struct], path: KeyPath) -> msgspec.Struct:
        values = {
            field.name: self._value(field.type, (*path, field.encode_name)) for field in msgspec.structs.fields(section)
        }
        # What nobody set is left to the struct, which has the defaults.
        return section(**{name: value for name, value in values.items() if value is not msgspec.UNSET})

    def _value(self, annotation: object, path: KeyPath) -> object:
        """What is set; UNSET where nothing is, or nothing that can be used."""
        if section := section_of(annotation):
            return self._section(section, path)
        if entry := entry_of(annotation):
            return self._mapping(entry, path)
        item = item_of(annotation)
        if section := section_of(item):
            return tuple(self._section(section, (*path, i)) for i in range(self._count(path)))
        given = self._given(path)
        self.origins[dotted(path)] = given.origin if given else _DEFAULT
        if not given:
            return msgspec.UNSET
        if not item:
            return self._read(given, kind_of(annotation), path)
        items = [self._read(child, kind_of(item), (*path, i)) for i, child in enumerate(_items(given))]
        return tuple(value for value in items if value is not msgspec.UNSET)

    def _mapping(self, entry: object, path: KeyPath) -> dict[str, object]:
        merged: Layer = {}
        for layer in self._layers_of(path):
            merged |= {at: given for at, given in layer.items() if at[:-1] == path and at not in merged}
        if not merged:
            given = self._given(path)
            self.origins[dotted(path)] = given.origin if given else _DEFAULT
        values: dict[str, object] = {}
        for at, given in merged.items():
            key = str(at[-1])
            if not key.strip():
                self._wrong(at, given, "a key that is not empty", json.dumps(key))
            self.origins[dotted(at)] = given.origin
            if (value := self._read(given, kind_of(entry), at)) is not msgspec.UNSET:
                values[key] = value
        return values

    def _count(self, path: KeyPath) -> int:
        """How many items a list of sections has: those of the strongest source, and what is said of one more."""
        given = self._given(path)
        listeners = path == _LISTENERS  # without any there is nothing to do
        count = len(_items(given)) if given else int(listeners)
        if given and listeners and not count:
            self._wrong(path, given, "at least one", "none")
        named: Layer = {}
        for layer in self._layers_of((*path, 0)):
            named = {at: value for at, value in layer.items() if at[: len(path)] == path and at != path} | named
        for index, at in sorted((cast(int, at[len(path)]), at) for at in named):
            if index == count:
                count += 1
            elif index > count:
                self._wrong(at, named[at], f"an index up to {count}", str(index))
        for at, flag in self._layers[0].items():
            if at in named and count > 1:
                self._wrong(at, flag, "one listener, to know which is meant", str(count))
        if not count:
            self.origins[dotted(path)] = given.origin if given else _DEFAULT
        return count

    def _read(self, given: Given, kind: Kind, path: KeyPath) -> object:
        try:
            return kind.read(given.value)
        except ValueError as error:
            found = MASK if kind.secret else _described(given.value)
            self._wrong(path, given, kind.expected, found, str(error))
            return msgspec.UNSET

    def _wrong(self, path: KeyPath, given: Given, expected: str, found: str, hint: str = "") -> None:
        problem = Problem(dotted(path), given.where, expected, found, hint)
        if given.origin.startswith("env OTEL_"):
            self._warnings.append(f"{problem}; left out")
            self.origins[dotted(path)] = _DEFAULT
        else:
            self._problems.append(problem)


def _items(given: Given) -> list[Given]:
    """The items of something that was collected as a list."""
    return cast("list[Given]", given.value)


def _same(origin: str, _line: int) -> str:
    return origin


def _described(value: object) -> str:
    """What was found, as it may be printed."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    return json.dumps(masked(value), ensure_ascii=False) if isinstance(value, str) else json.dumps(value, default=str)


def _nearest(key: str, known: Iterable[str], otherwise: str) -> str:
    near = get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def _env_names(annotation: object, path: KeyPath, name: str) -> Iterator[tuple[str, tuple[KeyPath, object]]]:
    """The variable of every setting and section, with its path and annotation."""
    if path:
        yield name, (path, annotation)
    if section := section_of(annotation):
        for field in msgspec.structs.fields(section):
            part = field.encode_name.upper().replace("-", "_")
            yield from _env_names(field.type, (*path, field.encode_name), f"{name}{'__' if path else '_'}{part}")
    elif section_of(item := item_of(annotation)):
        yield from _env_names(item, (*path, 0), f"{name}__0")
