"""Reading the head of a request, and answering probes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.health import (
    HEAD_LIMIT,
    BadRequest,
    Head,
    Readiness,
    is_probe,
    probe,
    raw_response,
    read_head,
    refusal,
)

READY = Readiness(True)
GET = b"GET /healthz?verbose=1 HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"


def test_head() -> None:
    assert read_head(GET) == Head("GET", "/healthz", len(GET), "text/plain")
    assert read_head(GET + b"GET / HTTP/1.1\r\n\r\n") == Head("GET", "/healthz", len(GET), "text/plain")
    assert read_head(b"HEAD / HTTP/1.0\r\n\r\n") == Head("HEAD", "/", 19)


@pytest.mark.parametrize("length", range(len(GET)))
def test_incomplete(length: int) -> None:
    assert read_head(GET[:length]) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"G" * HEAD_LIMIT, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT, 431),
    ],
)
def test_not_worth_handing_on(data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        read_head(data)
    assert caught.value.status == status


def test_limit() -> None:
    fits = b"GET / HTTP/1.1\r\nX: " + b"x" * (HEAD_LIMIT - 23) + b"\r\n\r\n"
    assert len(fits) == HEAD_LIMIT
    head = read_head(fits)
    assert head is not None
    assert head.size == HEAD_LIMIT
    with pytest.raises(BadRequest):
        read_head(fits[:20] + b"x" + fits[20:])


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """A head, not yet one, or refused: nothing else."""
    try:
        head = read_head(data)
    except BadRequest:
        return
    assert head is None or data[: head.size].endswith(b"\r\n\r\n")


def answer(path: str, readiness: Readiness = READY, method: str = "GET") -> tuple[int, dict[str, object]]:
    head, _, body = probe(Head(method, path, 0), readiness).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert "Connection: close" in lines
    return int(lines[0].split()[1]), json.loads(body) if body else {}


def test_probes() -> None:
    assert is_probe(Head("GET", "/livez", 0))
    assert not is_probe(Head("GET", "/metrics", 0))
    not_ready = Readiness(False, "draining")
    assert answer("/healthz", not_ready) == (200, {"status": "ok"})
    assert answer("/readyz") == (200, {"status": "ready"})
    assert answer("/readyz", not_ready) == (503, {"status": "not ready", "reason": "draining"})
    assert answer("/readyz", not_ready, "HEAD") == (503, {})
    assert answer("/readyz", method="POST")[0] == 405


def test_refusal() -> None:
    text = refusal(503, "no tracer").decode()
    assert text.startswith("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n")
    assert "\r\nRetry-After: 1\r\n" in text
    assert json.loads(text.partition("\r\n\r\n")[2])["detail"] == "no tracer"
    assert "Retry-After" not in refusal(400, "no").decode()


def test_raw_response() -> None:
    assert raw_response(200, "text/plain", b"abc").endswith(b"Content-Length: 3\r\nCache-Control: no-store\r\n"
                                                            b"Connection: close\r\n\r\nabc")  # fmt: skip
    assert raw_response(200, "text/plain", b"abc", with_body=False).endswith(b"\r\n\r\n")
