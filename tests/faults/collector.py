"""The collector is away, slow, refuses, throttles, or is not who it should be."""

from __future__ import annotations

from pathlib import Path

from tests.certificates import make
from tests.faults.scene import Fault, Scene
from tests.receiver import Receiver
from tests.redis import free_port

LASTS = 4.0


def down(scene: Scene) -> None:
    scene.work(LASTS)


def slow(scene: Scene) -> None:
    scene.receiver.answer(delay=3.0, times=None)
    scene.work(LASTS)
    scene.receiver.answer(times=None)


def failing(scene: Scene) -> None:
    scene.receiver.answer(500, times=None)
    scene.work(LASTS)
    scene.receiver.answer(times=None)


def throttling(scene: Scene) -> None:
    scene.receiver.answer(429, headers={"Retry-After": "1"}, times=None)
    scene.work(LASTS)
    scene.receiver.answer(times=None)


def untrusted(scene: Scene) -> None:
    scene.work(LASTS)
    assert not scene.receiver.spans, "spans went to a stranger"


def stranger(directory: Path) -> Receiver:
    """With a certificate of an authority that nobody here knows."""
    return Receiver(tls=make(directory).server_context())


FAULTS = (
    Fault("collector: down", down, settings={"tracing": {"endpoint": f"http://127.0.0.1:{free_port()}"}}),
    Fault("collector: answers after 3 s", slow),
    Fault("collector: 500", failing),
    Fault("collector: 429", throttling),
    Fault("collector: bad certificate", untrusted, receiver=stranger),
)
