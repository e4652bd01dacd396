"""The frameworks that a configuration turns on. A new framework is one file, its tests, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.frameworks.arq import Arq
from proxy.frameworks.asynq import Asynq
from proxy.frameworks.base import Framework
from proxy.frameworks.bee_queue import BeeQueue
from proxy.frameworks.bull import Bull
from proxy.frameworks.bullmq import Bullmq
from proxy.frameworks.celery import Celery
from proxy.frameworks.dramatiq import Dramatiq
from proxy.frameworks.go_redis_work_queue import GoRedisWorkQueue
from proxy.frameworks.gocraft_work import GocraftWork
from proxy.frameworks.huey import Huey
from proxy.frameworks.laravel import Laravel
from proxy.frameworks.list_shape import ListShape
from proxy.frameworks.lists import Lists
from proxy.frameworks.machinery import Machinery
from proxy.frameworks.resque import Resque
from proxy.frameworks.rq import Rq
from proxy.frameworks.script import Script
from proxy.frameworks.sidekiq import Sidekiq
from proxy.frameworks.streams import Streams
from proxy.frameworks.streaq import Streaq
from proxy.frameworks.taskiq import Taskiq
from proxy.frameworks.zsets import Zsets

if TYPE_CHECKING:
    from proxy.config import Frameworks as Options


_OWN: Final[Mapping[str, Callable[[Any], Framework]]] = {"list": Lists, "stream": Streams, "zset": Zsets}
"""What the user names himself; nothing until he does."""
_KNOWN: Final[Mapping[str, Callable[[Any], Framework]]] = {
    "go_redis_work_queue": GoRedisWorkQueue,
    "celery": Celery,
    "rq": Rq,
    "huey": Huey,
    "dramatiq": Dramatiq,
    "taskiq": Taskiq,
    "bullmq": Bullmq,
    "arq": Arq,
    "streaq": Streaq,
    "bull": Bull,
    "bee_queue": BeeQueue,
    "laravel": Laravel,
    "asynq": Asynq,
    "machinery": Machinery,
    "gocraft_work": GocraftWork,
    "sidekiq": Sidekiq,
    "resque": Resque,
}


def build(options: Options, *, health: bool = False) -> tuple[Framework, ...]:
    """In the order in which they claim keys: what the user names himself comes first.

    ``health``: they read commands that only look at a queue, too.
    """
    own = [(make, getattr(options, name)) for name, make in _OWN.items() if getattr(options, name).queues]
    if options.script.entries:
        own.append((Script, options.script))
    known = [(make, getattr(options, name)) for name, make in _KNOWN.items()]
    built = tuple(make(settings) for make, settings in (*own, *known) if settings.enabled)
    for one in built if health else ():
        if isinstance(one, ListShape):
            one.looked_at()
    return built
