"""Messages of Google's own protobuf, described where they are used."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES: Final = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _TYPES.LABEL_OPTIONAL, _TYPES.LABEL_REPEATED


def message_type(fields: dict[str, tuple[int, str]], headers: int) -> Any:
    """A class of messages: by name, number and type of its fields; ``headers`` is the number of a map of that name."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    message = file.message_type.add(name="T")
    for name, (number, kind) in fields.items():
        message.field.add(name=name, number=number, type=_type(kind), label=_ONE)
    entry = message.nested_type.add(name="HeadersEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=_type("string"), label=_ONE)
    whole = _type("message")
    message.field.add(name="headers", number=headers, type=whole, label=_MANY, type_name=".t.T.HeadersEntry")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.T"))


def _type(kind: str) -> Any:
    return _TYPES.Type.Value(f"TYPE_{kind.upper()}")
