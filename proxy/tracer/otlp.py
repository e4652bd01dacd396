"""OTLP in protobuf, written by hand: spans in, the bytes of an ``ExportTraceServiceRequest`` out.

The library's encoder builds a message object per attribute, which is most of what an export costs.  Here a span is a
few pieces joined: what its queue and operation have in common is encoded once and kept, and of each attribute name
the bytes in front of its value are.  Nothing is kept per payload.  `tests/unit/test_otlp.py` holds the result against
the library's, span by span.

Message and field numbers are those of opentelemetry-proto 1.x (``trace.proto``, ``common.proto``,
``trace_service.proto``).  Protobuf lets the fields of a message come in any order; those of fixed size come first,
in one ``struct``, which also cuts an id of a wrong length to size, so that one bad span cannot spoil a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Final

from proxy.context.protobuf import VARINT, as_varint, fields, varint
from proxy.tracer.attributes import (
    LINK_RELATION,
    SCHEMA_URL,
    STATIC_NAMES,
    Naming,
    Rule,
    apply,
    attributes,
    name_of,
    static_key,
    static_of,
    variable,
)
from proxy.tracer.span import Link, Span, SpanEvent, Value

SCOPE: Final = "redspan"

HAS_IS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200
"""``SpanFlags``: above the W3C flags byte, whether the parent is known to be remote, and whether it is."""

_INT64: Final = 1 << 63
_UINT64: Final = (1 << 64) - 1
_SHORT: Final = 128
"""Values below this length take one byte to say so."""

_NAMES: Final = 512
_STATIC: Final = 1024
_SERVICES: Final = 64


_VARINTS: Final = tuple(as_varint(number) for number in range(1 << 14))
"""All of one or two bytes."""


def _size(number: int) -> bytes:
    return _VARINTS[number] if number < 1 << 14 else as_varint(number)


def _field(tag: int, content: bytes) -> bytes:
    """A length-delimited field; ``tag`` is field number and wire type in one byte."""
    return _VARINTS[tag] + _size(len(content)) + content


def _utf8(text: str) -> bytes:
    """A lone surrogate has no UTF-8, and one of them makes a receiver refuse the whole request: it becomes ``?``."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class _Head:
    """What stands before an attribute's value: the field's tag and length, the name, the value's type and length."""

    __slots__ = ("_key", "_tag", "double", "false", "integer", "text", "true")

    def __init__(self, tag: int, name: str) -> None:
        self._tag = _VARINTS[tag]
        self._key = _field(0x0A, _utf8(name)) + b"\x12"
        self.text: list[bytes] = [b""] * _SHORT
        """By the length of the text; made when first needed."""
        self.integer = tuple(self._before(1 + width, b"\x18") for width in range(11))
        """By the length of the varint."""
        self.double = self._before(9, b"\x21")
        self.true = self._before(2, b"\x10\x01")
        self.false = self._before(2, b"\x10\x00")

    def _before(self, value: int, start: bytes) -> bytes:
        """``value``: bytes of the ``AnyValue``; ``start``: those of them that are known."""
        size = _size(value)
        return self._tag + _size(len(self._key) + len(size) + value) + self._key + size + start

    def short(self, length: int) -> bytes:
        """For a text of ``length`` < 128 bytes."""
        head = self.text[length] = self.long(length)
        return head

    def long(self, length: int) -> bytes:
        size = _size(length)
        return self._before(1 + len(size) + length, b"\x0a" + size)


class _Attributes:
    """Writes attributes as ``KeyValue`` fields of one tag."""

    __slots__ = ("_heads", "_tag")
    _DOUBLE = Struct("<d").pack

    def __init__(self, tag: int) -> None:
        self._tag = tag
        self._heads: dict[str, _Head] = {}

    def _head(self, name: str) -> _Head:
        if len(self._heads) >= _NAMES:
            self._heads.clear()
        head = self._heads[name] = _Head(self._tag, name)
        return head

    def encode(self, attributes: Mapping[str, Value]) -> bytes:
        heads = self._heads
        parts: list[bytes] = []
        add = parts.append
        for name, value in attributes.items():
            head = heads.get(name) or self._head(name)
            kind = type(value)
            if kind is int and -_INT64 <= value < _INT64:  # type: ignore[operator]
                number = _size(value & _UINT64)  # type: ignore[operator]
                add(head.integer[len(number)])
                add(number)
            elif kind is bool:
                add(head.true if value else head.false)
            elif kind is float:
                add(head.double)
                add(self._DOUBLE(value))
            else:
                text = _utf8(value if kind is str else _text(value))  # type: ignore[arg-type]
                length = len(text)
                add(head.text[length] or head.short(length) if length < _SHORT else head.long(length))
                add(text)
        return b"".join(parts)


def _text(value: object) -> str:
    """What OTLP has no type for, an integer beyond 64 bits above all."""
    if isinstance(value, str):
        return str.__str__(value)  # an enum's value, not its name
    try:
        return str(value)
    except ValueError:  # more digits than the interpreter converts (sys.set_int_max_str_digits)
        return hex(value) if isinstance(value, int) else repr(value)


def clean(value: Value) -> Value:
    """The value as `Encoder` sends it: text that has a UTF-8, an integer of 64 bits, a float or a bool."""
    kind = type(value)
    if kind is bool or kind is float or (kind is int and -_INT64 <= value < _INT64):  # type: ignore[operator]
        return value
    return _utf8(_text(value)).decode()


class Encoder:
    """Spans of one process as export requests.

    ``resource_attributes`` are the process's; a span of a listener with a service name of its own goes under a
    resource that differs in ``service.name``.  ``rule`` sees every attribute of spans and events, those of links and
    resource never.
    """

    __slots__ = (
        "_events",
        "_links",
        "_naming",
        "_resource",
        "_resource_attributes",
        "_rule",
        "_scope",
        "_spans",
        "_static",
        "_trailer",
    )
    _ROOT = Struct("<H16sH8sBQBQHHI").pack
    _CHILD = Struct("<H16sH8sH8sBQBQHHI").pack
    _LINK = Struct("<H16sH8sBI").pack
    _EVENT = Struct("<BQ").pack

    def __init__(
        self,
        resource_attributes: Mapping[str, Value],
        scope_version: str = "",
        naming: Naming = "queue",
        rule: Rule | None = None,
    ) -> None:
        self._naming: Naming = naming
        self._rule = rule
        self._spans = _Attributes(0x4A)
        self._events = _Attributes(0x1A)
        self._links = _Attributes(0x22)
        self._static = lru_cache(_STATIC)(self._encode_static)
        self._resource_attributes = resource_attributes
        self._resource = lru_cache(_SERVICES)(self._encode_resource)
        scope = _field(0x0A, _utf8(SCOPE))
        self._scope = _field(0x0A, scope + _field(0x12, _utf8(scope_version)) if scope_version else scope)
        self._trailer = _field(0x1A, SCHEMA_URL.encode())

    def encode(self, spans: Iterable[Span]) -> bytes:
        """The bytes of one ``ExportTraceServiceRequest``."""
        services: dict[str, list[bytes]] = {}
        service, out = None, []
        for span in spans:
            if span.service != service:
                service = span.service
                out = services.setdefault(service, [self._scope])
            body = self._span(span)
            out += (b"\x12", _size(len(body)), body)
        request = []
        for service, out in services.items():
            out.append(self._trailer)
            request.append(_field(0x0A, self._resource(service) + _field(0x12, b"".join(out))))
        return b"".join(request)

    def _span(self, span: Span) -> bytes:
        start, end, kind = max(span.start, 0), max(span.end, 0), 0x30 | span.kind << 8
        flags = span.flags & 0xFF | HAS_IS_REMOTE
        # Tags: trace id 0a, span id 12, parent 22, start 39, end 41, kind 30, flags 85 01; ids with their length.
        if span.parent_id:
            fixed = self._CHILD(
                *(0x100A, span.trace_id, 0x0812, span.span_id, 0x0822, span.parent_id),
                *(0x39, start, 0x41, end, kind, 0x0185, flags | IS_REMOTE),
            )
        else:
            fixed = self._ROOT(
                *(0x100A, span.trace_id, 0x0812, span.span_id), *(0x39, start, 0x41, end, kind, 0x0185, flags)
            )
        if STATIC_NAMES.isdisjoint(span.facts):
            parts = [fixed, self._static(*static_key(span)), self._spans.encode(apply(self._rule, variable(span)))]
        else:  # a name must not come twice
            parts = [fixed, self._name(span.operation.value, span.job.queue)]
            parts.append(self._spans.encode(attributes(span, self._rule)))
        if span.tracestate:
            parts.append(_field(0x1A, _utf8(span.tracestate)))
        if span.events:
            parts += [_field(0x5A, self._event(event)) for event in span.events]
        if span.links:
            parts += [_field(0x6A, self._link(link)) for link in span.links]
        if span.error:
            message = _field(0x12, _utf8(span.message)) if span.message else b""
            parts.append(_field(0x7A, message + b"\x18\x02"))
        return b"".join(parts)

    def _encode_static(self, operation: str, framework: str, queue: str, key: str, upstream: str, db: int) -> bytes:
        """Name and static attributes."""
        rendered = dict(static_of(operation, framework, queue, key, upstream, db))
        return self._name(operation, queue) + self._spans.encode(apply(self._rule, rendered))

    def _name(self, operation: str, queue: str) -> bytes:
        return _field(0x2A, _utf8(name_of(operation, queue, self._naming, self._rule)))

    def _event(self, event: SpanEvent) -> bytes:
        start = self._EVENT(0x09, max(event.at, 0)) + _field(0x12, _utf8(event.name))
        return start + self._events.encode(apply(self._rule, event.attributes))

    def _link(self, link: Link) -> bytes:
        # Where the linked span was made is another process as far as anybody can tell: it came with a job.
        fixed = self._LINK(
            *(0x100A, link.trace_id, 0x0812, link.span_id, 0x35, link.flags & 0xFF | HAS_IS_REMOTE | IS_REMOTE)
        )
        return fixed + self._links.encode({LINK_RELATION: link.relation})

    def _encode_resource(self, service: str) -> bytes:
        own = {"service.name": service} if service else {}
        return _field(0x0A, _Attributes(0x0A).encode({**self._resource_attributes, **own}))


def encode_request(
    spans: Iterable[Span], resource_attributes: Mapping[str, Value], scope_version: str = "", naming: Naming = "queue"
) -> bytes:
    """One request by an `Encoder` of its own; whoever sends many keeps the encoder."""
    return Encoder(resource_attributes, scope_version, naming).encode(spans)


def parse_partial_success(body: bytes) -> tuple[int, str]:
    """Read an ``ExportTraceServiceResponse``: (spans rejected, the receiver's message).

    Empty, cut off or foreign bodies are (0, ""): the status of the answer has said already that it was taken.
    """
    partial = _last(body, 1)
    rejected = _last(partial, 1) if isinstance(partial, bytes) else 0
    message = _last(partial, 2) if isinstance(partial, bytes) else b""
    count = rejected if isinstance(rejected, int) and rejected < _INT64 else 0
    return count, message.decode("utf-8", "replace") if isinstance(message, bytes) else ""


def _last(message: bytes, wanted: int) -> bytes | int:
    """The last field of number ``wanted``; b"" if there is none, or the message is broken."""
    found: bytes | int = b""
    for number, kind, _, content, end in fields(message) or ():
        if number == wanted:
            found = varint(message, content)[0] if kind == VARINT else message[content:end]
    return found
