"""Addresses: what is accepted, what is refused and why, and that no credential ever shows."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.address import Address, masked, parse_bind, parse_upstream


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6380", Address(host="127.0.0.1", port=6380)),
        ("0.0.0.0:0", Address(host="0.0.0.0", port=0)),
        ("LocalHost:6380", Address(host="localhost", port=6380)),
        ("redis_proxy.svc.cluster.local:1", Address(host="redis_proxy.svc.cluster.local", port=1)),
        ("[::1]:6380", Address(host="::1", port=6380)),
        ("[0:0:0:0:0:0:0:1]:6380", Address(host="::1", port=6380)),
        ("unix:///run/redspan.sock", Address(path="/run/redspan.sock")),
    ],
)
def test_bind(text: str, address: Address) -> None:
    assert parse_bind(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the host is missing"),
        (":6380", "the host is missing"),
        ("127.0.0.1", "the port is missing"),
        ("127.0.0.1:", "the port is missing"),
        ("127.0.0.1:x", "a number up to 65535"),
        ("127.0.0.1:65536", "a number up to 65535"),
        ("127.0.0.1:-1", "a number up to 65535"),
        ("127.0.0.1:٣", "a number up to 65535"),
        ("::1:6380", "needs brackets"),
        ("[::1]", "the port is missing"),
        ("[::1]6380", "is written [::1]:6380"),
        ("[::1:6380", "is written [::1]:6380"),
        ("[localhost]:6380", "an IPv6 address"),
        ("a b:6380", "characters that no host has"),
        ("unix://run/redspan.sock", "is absolute"),
        ("unix:///", "is absolute"),
        (f"unix:///{'x' * 107}", "at most 107 bytes"),
        ("redis://127.0.0.1:6380", "no scheme and no credentials"),
        ("user:pass@127.0.0.1:6380", "no scheme and no credentials"),
    ],
)
def test_bind_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_bind(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6379", Address(host="127.0.0.1", port=6379)),
        ("redis", Address(host="redis", port=6379)),
        ("redis://redis", Address(host="redis", port=6379)),
        ("redis://redis:7000/", Address(host="redis", port=7000)),
        ("redis://[::1]", Address(host="::1", port=6379)),
        ("redis://:pw@redis", Address(host="redis", port=6379, password="pw")),
        ("redis://app:p%40ss@redis:1", Address(host="redis", port=1, username="app", password="p@ss")),
        ("redis://app:a/b@c:d@redis:1", Address(host="redis", port=1, username="app", password="a/b@c:d")),
        ("rediss://app:pw@redis:1", Address(host="redis", port=1, tls=True, username="app", password="pw")),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock")),
        ("unix:///run/redis@1.sock", Address(path="/run/redis@1.sock")),
        ("redis+unix:///run/redis.sock", Address(path="/run/redis.sock")),
        ("redis+unix://:pw@/run/redis.sock", Address(path="/run/redis.sock", password="pw")),
        ("unix://app:pw@/run/redis.sock", Address(path="/run/redis.sock", username="app", password="pw")),
    ],
)
def test_upstream(text: str, address: Address) -> None:
    assert parse_upstream(text) == address


@pytest.mark.parametrize("url", ["redis://h/0", "redis://h:6379/3", "rediss://:pw@h/15/"])
def test_upstream_with_a_database_is_refused_with_the_reason(url: str) -> None:
    with pytest.raises(ValueError, match="no database number: it is for the client to SELECT one"):
        parse_upstream(url)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://redis:6379", "write it as redis://"),
        ("user:pw@redis:6379", "write it as redis://"),
        ("redis://pw@redis", "credentials are user:password or :password"),
        ("redis://user:@redis", "credentials are user:password or :password"),
        ("redis://redis?db=1", "options in the URL"),
        ("unix:///run/redis.sock?db=1", "options in the URL"),
        ("redis://redis/path", "nothing may follow the port"),
        ("redis://redis:0", "no server listens on port 0"),
        ("redis://", "the host is missing"),
        ("redis+unix://run/redis.sock", "is absolute"),
    ],
)
def test_upstream_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_upstream(text)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address(host="127.0.0.1", port=6379), "127.0.0.1:6379"),
        (Address(host="::1", port=6379), "[::1]:6379"),
        (Address(host="redis", port=6379, tls=True), "rediss://redis:6379"),
        (Address(path="/run/redis.sock"), "unix:///run/redis.sock"),
    ],
)
def test_display_reads_back(address: Address, text: str) -> None:
    assert address.display() == text
    assert parse_upstream(text) == address


def test_neither_display_nor_repr_show_credentials() -> None:
    address = parse_upstream("rediss://someone:secret@redis:6379")
    for text in (address.display(), repr(address), f"{address}", str([address])):
        assert "secret" not in text
        assert "someone" not in text
        assert "redis:6379" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
        ("redis://redis:6379/0", "redis://redis:6379/0"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://app:secret@redis:6379", "redis://***@redis:6379"),
        ("redis://app:secret/x@y@redis:6379", "redis://***@redis:6379"),
        ("app:secret@redis:6379", "***@redis:6379"),
        ("redis://:secret", "redis://:***"),
        ("redis://:12345", "redis://:***"),
        ("redis://redis:secret", "redis://redis:***"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock?***"),
        ("redis://app:secret?@redis:6379", "redis://***@redis:6379"),
        ("orders:*", "orders:*"),
        ("h?llo", "h?llo"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@given(password=st.text(min_size=1), host=st.from_regex(r"[a-z]{1,8}", fullmatch=True))
def test_no_error_and_no_mask_repeats_a_password(password: str, host: str) -> None:
    secret = f"#begin#{password}#end#"
    url = f"redis://user:{secret}@{host}:0x"
    assert secret not in masked(url)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # whatever it says
        parse_upstream(url)
    assert secret not in str(caught.value)


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for parse in (parse_bind, parse_upstream):
        with contextlib.suppress(ValueError):
            address = parse(text)
            assert bool(address.path) != bool(address.host)
