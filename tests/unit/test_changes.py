"""What differs between two sets of settings, and sessions that go by new ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import Admin, Listener, Log, Relay, Sampling, Settings, Tracing
from proxy.config.changes import applicable, changes, tracer_differs
from proxy.config.sources import load
from proxy.context.carry import Carrier
from proxy.context.derive import Deriver, PooledIds
from proxy.context.sampling import Rates
from proxy.frameworks.registry import build
from proxy.frameworks.router import Router
from proxy.relay.context import RelayContext
from proxy.relay.session import Session


def told(old: Settings, new: Settings) -> list[str]:
    return [str(change) for change in changes(old, new)]


def test_equal() -> None:
    assert told(Settings(), Settings()) == []
    assert not tracer_differs(Settings(), Settings(log=Log(level="debug")))


def test_values_in_lists_and_mappings() -> None:
    old = Settings(tracing=Tracing(sampling=Sampling(queue_rates={"a": 0.5})))
    new = Settings(listeners=(Listener(), Listener("h:1")), tracing=Tracing(headers={"k": "hush"}))
    plain = [line for line in told(old, new) if ".tls" not in line and ".upstream_" not in line]
    assert sorted(plain) == [
        'listeners[1].bind: (not set) -> "h:1"',
        'listeners[1].service_name: (not set) -> ""',
        'listeners[1].upstream: (not set) -> "redis://127.0.0.1:6379"',
        "tracing.headers.k: (not set) -> ***",
        "tracing.sampling.queue_rates.a: 0.5 -> (not set)",
    ]
    assert tracer_differs(old, new)


def test_secrets_differ_although_they_look_the_same() -> None:
    old, new = (Settings(listeners=(Listener(upstream=f"redis://:{word}@h"),)) for word in ("hush-1", "hush-2"))
    [line] = told(old, new)
    assert line.startswith("listeners[0].upstream: ")
    assert "hush" not in line


def test_what_is_kept_until_a_restart() -> None:
    old = Settings(listeners=(Listener("h:1", service_name="a"),))
    new = Settings(
        listeners=(Listener("h:1", service_name="b"),),
        relay=Relay(workers=4),
        admin=Admin("h:2", token_file="t"),
    )
    got = applicable(old, new)
    assert got == Settings(listeners=new.listeners, admin=Admin(old.admin.bind, token_file="t"))
    assert applicable(old, Settings(listeners=(Listener("h:3", service_name="b"),))).listeners == old.listeners
    assert applicable(old, Settings(listeners=(Listener(), Listener("h:1")))).listeners == old.listeners


def context(tmp_path: Path, queue: str) -> tuple[Router, Carrier, Rates]:
    file = tmp_path / "f.yaml"
    file.write_text(f"frameworks: {{list: {{queues: [{queue}]}}}}")
    router = Router(build(load(file, {}, {}).settings.frameworks))
    return router, Carrier(Deriver(), PooledIds(lambda size: b"\1" * size)), Rates(lambda queue, key: 1.0)


def push(key: bytes) -> bytes:
    return b'*3\r\n$5\r\nLPUSH\r\n$3\r\n%s\r\n$10\r\n{"id":"1"}\r\n' % key


@pytest.mark.parametrize("cut", range(1, len(push(b"old"))))
def test_a_session_in_the_midst_of_a_command(tmp_path: Path, cut: int) -> None:
    """No byte is lost or changed twice, wherever it was; the next command goes by the new settings."""
    notices: list[str] = []
    shared = RelayContext(*context(tmp_path, "old"), lambda _: None, lambda reason, _, _detail: notices.append(reason))
    session = Session(shared, 1, "here", "there", "")
    assert session.client_data(b"PING\r\n", 1) == b"PING\r\n"
    session.upstream_data(b"+PONG\r\n", 1, True)
    command = push(b"old")
    sent = session.client_data(command[:cut], 1)
    shared.adopt(*context(tmp_path, "new"), inject=True, max_inspect=1 << 20)
    session.settings_changed()
    sent += session.client_data(command[cut:], 1)
    assert sent == command
    assert b"traceparent" in session.client_data(push(b"new"), 1)
    session.upstream_data(b":1\r\n:1\r\n", 1, True)
    assert session.client_data(command, 1) == command
    assert notices == []
    assert not session.blind
