"""OTLP over HTTP (``http/protobuf``) by the own encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from proxy.tracer.export.base import Result, taken
from proxy.tracer.export.post import Options, PostExporter, target
from proxy.tracer.otlp import Encoder, parse_partial_success
from proxy.tracer.span import Span


class HttpExporter(PostExporter):
    """Posts spans to an OTLP receiver.

    ``endpoint``: ``http://host:4318`` means its ``/v1/traces``; a path is used as it stands.
    Raises ValueError for an endpoint or header that cannot be sent, naming it but never a header's value.
    """

    def __init__(self, encoder: Encoder, endpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(encoder.encode, target(endpoint), "application/x-protobuf", **options)

    def accepted(self, spans: Sequence[Span], answer: bytes) -> Result:
        rejected, message = parse_partial_success(answer)
        return taken(spans, rejected, message and f"receiver: {message[:200]}")
