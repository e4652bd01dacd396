"""What is masked, what is not, and what of a job may be seen."""

from __future__ import annotations

import pytest

from proxy.config.privacy import Security
from proxy.context.fields_slot import pack
from proxy.tracer import attributes as a
from proxy.tracer.content import Allowed, Content
from proxy.tracer.redaction import Redaction


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("write to jane.doe+x@mail.example.co.uk today", "write to [email] today"),
        ("queue:jane@example.com:mails", "queue:[email]:mails"),
        ("from 203.0.113.9:443", "from [ip]:443"),
        ("from 2001:db8::8a2e:370:7334.", "from [ip]."),
        ("card 4111 1111 1111 1111 declined", "card [card] declined"),
        ("card 5500-0000-0000-0004", "card [card]"),
        ("340000000000009", "[card]"),
        ("ssn 078-05-1120", "ssn [ssn]"),
        ("call +49 30 1234567", "call [phone]"),
        ("call (555) 123-4567 or 555.123.4567", "call [phone] or [phone]"),
    ],
)
def test_personal_data_is_masked(text: str, shown: str) -> None:
    assert Redaction().text(text) == shown
    assert Redaction(pii=False).text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "0af7651916cd43dd8448eb211c80319c",
        "2f1c5f2e-9f0a-4d5e-8a57-0c1d5e4f7a11",
        # With the digits of a card in them.
        "45276756-2855-4ebe-a483-5d8f3dde1b15",
        "ad474223-5323-428e-bf77-780ceb7b5f0e",
        "54f19bafb293a69859286398927bd302",
        "82f220dde209115201090193",
        "1700000000000-0",
        "1526919030474",
        "4111111111111112",
        "rq:queue:default",
        "orders::eu",
        "bull:mails:wait",
        "12:34:56",
        "v1.2.3",
        "999.1.1.1",
        "2024-01-02T03:04:05",
        "000-12-3456",
    ],
)
def test_ids_keys_and_times_are_not(text: str) -> None:
    assert Redaction().text(text) == text


def test_length_deny_and_patterns() -> None:
    rule = Redaction(["client.*"], patterns=[r"ACC-\d+"], max_length=12)
    assert rule(a.CLIENT_ADDRESS, "10.0.0.1") is None
    assert rule(a.SERVER_ADDRESS, "10.0.0.1") == "10.0.0.1"
    assert rule(a.JOB_ID, "ACC-12345678901") == "[custom]"
    assert rule(a.KEY, "x" * 50) == "x" * 12
    assert rule(a.DEPTH, 4111111111111111) == 4111111111111111
    assert rule(a.PAYLOAD + "card", 4111111111111111) == "[card]"[:12]


@pytest.mark.parametrize("pattern", ["(", "(a+)+$", "(a|aa)+", r"(a)\1", "a*", "x" * 501])
def test_patterns_that_are_none_or_could_take_long_are_refused(pattern: str) -> None:
    assert len(list(Security(pii_patterns=("ok", pattern)).conflicts(("s",)))) == 1


def test_content_is_what_is_allowed_for_framework_and_queue() -> None:
    content = Content([Allowed("list", "orders*", ("a.b", "n", "o", "gone")), Allowed("*", "vip", ("n",))], limit=2)
    job = b'{"a":{"b":"x"},"n":7,"o":{"c":1},"secret":"s"}'
    assert content.of("list", "orders:eu", job) == {"a.b": "x", "n": 7}
    assert content.of("celery", "vip", job) == {"n": 7}
    assert content.of("list", "other", job) == {}
    assert content.of("stream", "vip", pack(b"1-0", [b"n", b"8", b"s", b"t"])) == {"n": "8"}
    assert content.of("list", "orders", b"\x80\x05pickle") == {}
    assert Content().of("list", "orders", job) == {}
