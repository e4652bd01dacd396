"""The two legs of a connection, without sockets: what happens when things come in an awkward order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from proxy.relay.legs import ClientLeg, Leg, SessionLike, UpstreamLeg

RESET = ConnectionResetError()


class Transport:
    """As much of uvloop's as a leg uses; refuses what uvloop refuses."""

    def __init__(self, *, half_close: bool = True) -> None:
        self.protocol: Leg | None = None
        self.written = b""
        self.written_at = 0
        self.pending = 0
        self.reading = True
        self.ended = False
        self.closed = ""
        self.receive: Callable[[bytes], None]
        self._half_close = half_close

    def set_protocol(self, protocol: Leg) -> None:
        assert not self.closed
        self.protocol = protocol
        # uvloop looks this up once.
        self.receive = protocol.data_received

    def set_write_buffer_limits(self, *, high: int) -> None:
        assert high == 64 * 1024

    def write(self, data: bytes) -> None:
        assert not self.ended
        assert not self.closed
        self.written_at = time.time_ns()
        self.written += data

    def write_eof(self) -> None:
        assert self._half_close
        self.ended = True

    def can_write_eof(self) -> bool:
        return self._half_close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "aborted"

    def is_closing(self) -> bool:
        return bool(self.closed)

    def get_extra_info(self, name: str) -> None:
        assert name == "socket"

    def get_write_buffer_size(self) -> int:
        return self.pending


class Session:
    """Holds back what follows a ``#``, and goes blind at a ``!``."""

    def __init__(self) -> None:
        self.blind = False
        self.held = b""
        self.seen: list[tuple[bytes, bool]] = []
        self.told_at = 0
        self.ends = 0

    def client_data(self, data: bytes, now: int) -> bytes:
        assert now > 0
        if b"!" in data:
            self.blind = True
        passed, hold, self.held = data.partition(b"#")
        self.held = hold + self.held
        return passed.upper()

    def client_eof(self, now: int) -> bytes:
        assert now > 0
        held, self.held = self.held, b""
        return held

    def upstream_data(self, data: bytes, now: int, delivered: bool) -> None:
        assert now > 0
        self.told_at = now
        self.seen.append((data, delivered))
        if b"!" in data:
            self.blind = True

    def closed(self, now: int) -> None:
        assert now > 0
        self.ends += 1


class Pair:
    def __init__(self, *, joined: bool = True, tls: bool = False) -> None:
        self.gone = 0
        self.session = Session()
        self.client = ClientLeg(self._gone)
        self.upstream = UpstreamLeg()
        self.to_client = Transport()
        self.to_redis = Transport(half_close=not tls)
        for leg, transport in ((self.client, self.to_client), (self.upstream, self.to_redis)):
            transport.set_protocol(leg)
            leg.connection_made(cast(asyncio.Transport, transport))
        if joined:
            self.join()

    def join(self) -> None:
        session: SessionLike = self.session
        self.client.join(self.upstream, session)

    def _gone(self, leg: ClientLeg) -> None:
        assert leg is self.client
        self.gone += 1


def test_moves_bytes_both_ways() -> None:
    pair = Pair()
    pair.to_client.receive(b"ping")
    pair.to_redis.receive(b"+PONG")
    assert pair.to_redis.written == b"PING"
    assert pair.to_client.written == b"+PONG"
    assert pair.session.seen == [(b"+PONG", True)]


def test_a_client_cannot_begin_before_its_delivery() -> None:
    pair = Pair()
    pair.to_redis.receive(b"+PONG")
    assert 0 < pair.session.told_at <= pair.to_client.written_at


def test_back_pressure() -> None:
    pair = Pair()
    pair.client.pause_writing()
    assert (pair.to_redis.reading, pair.to_client.reading) == (False, True)
    pair.client.resume_writing()
    pair.upstream.pause_writing()
    assert (pair.to_redis.reading, pair.to_client.reading) == (True, False)
    pair.upstream.resume_writing()
    assert pair.to_client.reading


def test_after_an_end_reading_is_not_resumed() -> None:
    pair = Pair()
    pair.upstream.pause_writing()
    assert pair.client.eof_received()
    pair.upstream.resume_writing()
    assert not pair.to_client.reading


class TestBeforeTheyAreJoined:
    def test_bytes_wait(self) -> None:
        pair = Pair(joined=False)
        pair.to_client.receive(b"ping")
        waiting = pair.to_client.reading
        pair.to_redis.receive(b"-DENIED")
        pair.join()
        assert (waiting, pair.to_client.reading) == (False, True)
        assert pair.to_redis.written == b"PING"
        assert pair.to_client.written == b"-DENIED"

    def test_back_pressure_of_what_waited(self) -> None:
        """What is written while they are joined may fill the buffer at once."""
        pair = Pair(joined=False)
        pair.to_client.receive(b"much")
        write = pair.upstream.write

        def fill(data: bytes) -> None:
            write(data)
            pair.upstream.pause_writing()

        pair.upstream.write = fill
        pair.join()
        assert not pair.to_client.reading

    def test_end_of_the_client(self) -> None:
        pair = Pair(joined=False)
        pair.to_client.receive(b"ping#held")
        assert pair.client.eof_received()
        pair.join()
        assert pair.to_redis.written == b"PING#held"
        assert pair.to_redis.ended
        assert not pair.to_redis.closed

    def test_end_of_redis(self) -> None:
        pair = Pair(joined=False)
        pair.to_redis.receive(b"-ERR max number of clients reached")
        assert pair.upstream.eof_received()
        pair.join()
        assert pair.to_client.written == b"-ERR max number of clients reached"
        assert pair.to_client.ended

    def test_end_of_both(self) -> None:
        pair = Pair(joined=False)
        pair.client.eof_received()
        pair.upstream.eof_received()
        pair.join()
        assert (pair.to_client.closed, pair.to_redis.closed) == ("closed", "closed")

    def test_client_is_lost(self) -> None:
        """Its commands were read, so they are sent."""
        pair = Pair(joined=False)
        pair.to_client.receive(b"ping")
        pair.client.connection_lost(RESET)
        pair.to_client.abort()
        pair.to_redis.receive(b"unasked")
        pair.join()
        assert pair.to_redis.written == b"PING"
        assert pair.to_redis.closed == "aborted"
        assert (pair.session.ends, pair.gone) == (1, 1)

    def test_redis_is_lost(self) -> None:
        pair = Pair(joined=False)
        pair.to_client.receive(b"ping")
        pair.to_redis.receive(b"-DENIED")
        pair.upstream.connection_lost(RESET)
        pair.to_redis.abort()
        pair.join()
        assert pair.to_client.written == b"-DENIED"
        assert pair.to_client.closed == "closed"
        assert pair.session.ends == 1


class TestEnds:
    def test_client_first(self) -> None:
        pair = Pair()
        pair.to_client.receive(b"ping#held")
        assert pair.client.eof_received(), "it may still read"
        assert pair.to_redis.written == b"PING#held"
        assert pair.to_redis.ended
        pair.to_redis.receive(b"+PONG")
        assert not pair.upstream.eof_received()
        assert pair.to_client.written == b"+PONG"
        assert pair.to_client.closed == "closed"
        pair.upstream.connection_lost(None)
        pair.client.connection_lost(None)
        assert (pair.session.ends, pair.gone) == (1, 1)

    def test_redis_first(self) -> None:
        pair = Pair()
        assert pair.upstream.eof_received()
        assert pair.to_client.ended
        pair.to_client.receive(b"more")
        assert pair.to_redis.written == b"MORE"
        assert not pair.client.eof_received()
        assert pair.to_redis.closed == "closed"

    def test_tls_knows_no_half_close(self) -> None:
        pair = Pair(tls=True)
        pair.client.eof_received()
        assert pair.to_redis.closed == "closed"
        pair.upstream.connection_lost(None)
        assert pair.to_client.closed == "closed"

    @pytest.mark.parametrize(("exc", "how"), [(None, "closed"), (RESET, "aborted")])
    def test_lost(self, exc: Exception | None, how: str) -> None:
        pair = Pair()
        pair.client.connection_lost(exc)
        assert pair.to_redis.closed == how
        pair.upstream.connection_lost(None)
        assert (pair.session.ends, pair.gone) == (1, 1)
        pair = Pair()
        pair.upstream.connection_lost(exc)
        assert pair.to_client.closed == how
        assert (pair.session.ends, pair.gone) == (1, 0), "the client is gone when all was sent to it"
        pair.client.connection_lost(None)
        assert (pair.session.ends, pair.gone) == (1, 1)

    def test_reset_waits_for_what_was_read_before(self) -> None:
        async def scenario() -> None:
            pair = Pair()
            pair.to_redis.pending = 100
            pair.client.connection_lost(RESET)
            assert pair.to_redis.closed == "closed"

        asyncio.run(scenario())

    def test_nothing_refers_to_what_is_gone(self) -> None:
        pair = Pair()
        pair.client.connection_lost(None)
        for leg in (pair.client, pair.upstream):
            assert leg.other is None
            assert leg.session is None
            assert not hasattr(leg.data_received, "__self__") or leg.data_received.__self__ is not leg


class TestBlind:
    @pytest.mark.parametrize("by_client", [True, False])
    def test_transport_to_transport(self, by_client: bool) -> None:
        pair = Pair()
        pair.to_client.receive(b"a#held")
        if by_client:
            pair.session.held = b""
            pair.to_client.receive(b"!#held")
            assert pair.to_redis.written == b"A!#held"
        else:
            pair.to_redis.receive(b"!")
            assert pair.to_redis.written == b"A#held"
        assert cast(Any, pair.to_client.receive).__self__ is pair.to_redis
        assert cast(Any, pair.to_redis.receive).__self__ is pair.to_client
        pair.to_client.receive(b"b")
        pair.to_redis.receive(b"c")
        assert pair.to_redis.written.endswith(b"b")
        assert pair.to_client.written.endswith(b"c")

    def test_ends_as_before(self) -> None:
        pair = Pair()
        pair.to_client.receive(b"!")
        pair.upstream.pause_writing()
        assert not pair.to_client.reading
        pair.upstream.resume_writing()
        assert pair.client.eof_received()
        assert pair.to_redis.ended
        assert not pair.upstream.eof_received()
        assert pair.to_client.closed == "closed"
        pair.client.connection_lost(None)
        pair.upstream.connection_lost(None)
        assert (pair.session.ends, pair.gone) == (1, 1)

    def test_after_the_end_of_the_client(self) -> None:
        """There is nothing held then, and nothing may be written."""
        pair = Pair()
        pair.client.eof_received()
        pair.to_redis.receive(b"!")
        pair.to_redis.receive(b"more")
        assert pair.to_client.written == b"!more"
