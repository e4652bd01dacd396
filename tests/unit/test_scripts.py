"""Scripts known by their keys."""

from __future__ import annotations

from hashlib import sha1

import pytest

from proxy.frameworks import router as router_module
from proxy.frameworks.bullmq_scripts import SCRIPTS
from proxy.frameworks.router import Router
from proxy.frameworks.scripts import Scripts
from tests.frameworks import bullmq, lists

TOY = Scripts({"put": ("queue id",), "end": ("queue * log:done ?",), "drop": (".",)}, "puts a job")


def read(*keys: str, count: str = "") -> tuple[str, bytes] | None:
    script = TOY.read([b"EVAL", b"text", (count or str(len(keys))).encode(), *(key.encode() for key in keys), b"a"])
    return None if script is None else (script.kind, script.base)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("a:q:queue a:q:id", ("put", b"a:q:")),
        ("a:b:c:q:queue a:b:c:q:id", ("put", b"a:b:c:q:")),
        (":queue :id", ("put", b":")),
        ("a:q:queue a:q:7:x a:q:log:done", None),
        ("a:q:queue a:q:7:x a:q:log:done ?", ("end", b"a:q:")),
        ("a:q:", ("drop", b"a:q:")),
        ("queue id", None),
        ("a:q:queue a:x:id", None),
        ("a:q:queue a:q:id:", None),
        ("a:q:queue a:7 a:q:log:done x", None),
        ("a:qqueue a:qid", None),
        ("", None),
    ],
)
def test_by_the_names_of_all_their_keys(keys: str, found: tuple[str, bytes] | None) -> None:
    assert read(*keys.split(" ")) == found


def test_the_last_key_may_be_empty() -> None:
    assert read("a:q:queue", "a:q:7", "a:q:log:done", "") == ("end", b"a:q:")


@pytest.mark.parametrize("count", ["3", "0", "-1", "x", "999"])
def test_a_count_that_is_not_that_of_the_keys(count: str) -> None:
    assert read("a:q:queue", "a:q:id", count=count) is None


def test_what_follows_the_keys_are_arguments() -> None:
    script = TOY.read([b"EVAL", b"text", b"1", b"a:q:", b"one", b"two"])
    assert script is not None
    assert (script.args, script.at) == ([b"one", b"two"], 4)


def test_no_two_kinds_of_bullmq_have_the_same_keys() -> None:
    kinds: dict[tuple[bytes, ...], str] = {}
    for shapes in SCRIPTS._shapes.values():
        for shape in shapes:
            keys = [b"b:q:%d" % at for at in range(shape.count)]
            for at, suffix in shape._fixed:
                keys[at] = b"b:q:" + suffix
            assert kinds.setdefault(tuple(keys), shape.kind) == shape.kind
            script = SCRIPTS.read([b"EVAL", b"", b"%d" % shape.count, *keys])
            assert script is not None
            assert script.kind == shape.kind


def test_texts_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "_TEXTS", 10)
    router = Router([lists(), bullmq()])
    for number in range(100):
        text = b"--[[\n  Adds a parent job to the queue by doing the following %d" % number
        assert router.read(b"SCRIPT", [b"SCRIPT", b"load", text]) is None
        ran = router.read(b"EVALSHA", [b"EVALSHA", sha1(text).hexdigest().encode(), b"0"])
        assert ran is not None
        assert ran.strange
    assert len(router._texts) <= 10


def test_texts_of_strangers_are_not_remembered() -> None:
    router = Router([bullmq()])
    assert router.read(b"EVAL", [b"EVAL", b"return 1", b"0"]) is None
    assert router.read(b"SCRIPT", [b"SCRIPT", b"LOAD", b"return 1"]) is None
    assert router.read(b"SCRIPT", [b"SCRIPT", b"FLUSH"]) is None
    assert router._texts == {}


def test_without_such_a_framework_scripts_are_not_looked_at() -> None:
    assert not Router([lists()]).commands & {b"SCRIPT", b"EVAL", b"EVALSHA"}
