"""OTLP over HTTP (``http/protobuf``) by the own encoder."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence

from proxy.tracer.export.base import Result, taken
from proxy.tracer.export.post import Poster, target
from proxy.tracer.otlp import Encoder, parse_partial_success
from proxy.tracer.span import Span


class HttpExporter:
    """Posts spans to an OTLP receiver.

    ``endpoint``: ``http://host:4318`` means its ``/v1/traces``; a path is used as it stands.  The rest is `Poster`'s.
    Raises ValueError for an endpoint or header that cannot be sent, naming it but never a header's value.
    """

    def __init__(
        self,
        encoder: Encoder,
        endpoint: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        compression: str = "gzip",
        tls: ssl.SSLContext | None = None,
        headers_file: str = "",
    ) -> None:
        self._encoder = encoder
        self._poster = Poster(
            target(endpoint),
            "application/x-protobuf",
            headers=headers,
            timeout=timeout,
            compression=compression,
            tls=tls,
            headers_file=headers_file,
        )
        self.where = self._poster.where

    def export(self, spans: Sequence[Span]) -> Result:
        answer = self._poster.post(self._encoder.encode(spans))
        if isinstance(answer, Result):
            return answer
        rejected, message = parse_partial_success(answer)
        return taken(spans, rejected, message and f"receiver: {message[:200]}")

    def close(self) -> None:
        self._poster.close()
