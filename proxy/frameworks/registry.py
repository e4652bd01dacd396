"""The frameworks that a configuration turns on. A new framework is one file, its tests, and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.frameworks.base import Framework
from proxy.frameworks.bee_queue import BeeQueue
from proxy.frameworks.bull import Bull
from proxy.frameworks.bullmq import Bullmq
from proxy.frameworks.celery import Celery
from proxy.frameworks.go_redis_work_queue import GoRedisWorkQueue
from proxy.frameworks.lists import Lists
from proxy.frameworks.rq import Rq
from proxy.frameworks.streams import Streams
from proxy.frameworks.zsets import Zsets

if TYPE_CHECKING:
    from proxy.config import Frameworks as Options


def build(options: Options) -> tuple[Framework, ...]:
    """In the order in which they claim keys: what the user names himself comes first."""
    frameworks: list[Framework] = []
    if options.list.enabled and options.list.queues:
        frameworks.append(Lists(options.list))
    if options.stream.enabled and options.stream.queues:
        frameworks.append(Streams(options.stream))
    if options.zset.enabled and options.zset.queues:
        frameworks.append(Zsets(options.zset))
    if options.go_redis_work_queue.enabled:
        frameworks.append(GoRedisWorkQueue(options.go_redis_work_queue))
    if options.celery.enabled:
        frameworks.append(Celery(options.celery))
    if options.rq.enabled:
        frameworks.append(Rq(options.rq))
    if options.bullmq.enabled:
        frameworks.append(Bullmq(options.bullmq))
    if options.bull.enabled:
        frameworks.append(Bull(options.bull))
    if options.bee_queue.enabled:
        frameworks.append(BeeQueue(options.bee_queue))
    return tuple(frameworks)
