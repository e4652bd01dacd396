"""Frameworks as a configuration would build them, for tests."""

from __future__ import annotations

from typing import Any

from proxy.config import (
    ArqSettings,
    AsynqSettings,
    BeeQueueSettings,
    BullmqSettings,
    BullSettings,
    CelerySettings,
    DramatiqSettings,
    GocraftWorkSettings,
    GoRedisWorkQueueSettings,
    HueySettings,
    LaravelSettings,
    ListSettings,
    MachinerySettings,
    ResqueSettings,
    RqSettings,
    ScriptEntry,
    ScriptSettings,
    SidekiqSettings,
    StreamSettings,
    StreaqSettings,
    TaskiqSettings,
    ZsetSettings,
)
from proxy.frameworks.arq import Arq
from proxy.frameworks.asynq import Asynq
from proxy.frameworks.bee_queue import BeeQueue
from proxy.frameworks.bull import Bull
from proxy.frameworks.bullmq import Bullmq
from proxy.frameworks.celery import Celery
from proxy.frameworks.dramatiq import Dramatiq
from proxy.frameworks.go_redis_work_queue import GoRedisWorkQueue
from proxy.frameworks.gocraft_work import GocraftWork
from proxy.frameworks.huey import Huey
from proxy.frameworks.laravel import Laravel
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


def lists(**options: Any) -> Lists:
    """``frameworks.list`` with queues ``jobs*``, processing ``work*``, completed ``done`` and dead letters ``dead``."""
    defaults: dict[str, Any] = {
        "queues": ("jobs*",),
        "processing": ("work*",),
        "completed": ("done",),
        "dead_letter": ("dead",),
        "attempt": "attempt",
    }
    return Lists(ListSettings(**{**defaults, **options}))


def go_redis_work_queue(**options: Any) -> GoRedisWorkQueue:
    return GoRedisWorkQueue(GoRedisWorkQueueSettings(**options))


def streams(**options: Any) -> Streams:
    """``frameworks.stream`` with the streams ``jobs*``."""
    return Streams(StreamSettings(**{"queues": ("jobs*",), **options}))


def zsets(**options: Any) -> Zsets:
    """``frameworks.zset`` with the sorted sets ``delayed*``."""
    return Zsets(ZsetSettings(**{"queues": ("delayed*",), **options}))


def script(*entries: dict[str, Any], **options: Any) -> Script:
    """``frameworks.script`` with these entries."""
    return Script(ScriptSettings(entries=tuple(ScriptEntry(**entry) for entry in entries), **options))


def rq(**options: Any) -> Rq:
    return Rq(RqSettings(**options))


def celery(**options: Any) -> Celery:
    return Celery(CelerySettings(**options))


def huey(**options: Any) -> Huey:
    return Huey(HueySettings(**options))


def dramatiq(**options: Any) -> Dramatiq:
    return Dramatiq(DramatiqSettings(**options))


def taskiq(**options: Any) -> Taskiq:
    return Taskiq(TaskiqSettings(**options))


def bullmq(**options: Any) -> Bullmq:
    return Bullmq(BullmqSettings(**options))


def arq(**options: Any) -> Arq:
    return Arq(ArqSettings(**options))


def streaq(**options: Any) -> Streaq:
    return Streaq(StreaqSettings(**options))


def bull(**options: Any) -> Bull:
    return Bull(BullSettings(**options))


def bee_queue(**options: Any) -> BeeQueue:
    return BeeQueue(BeeQueueSettings(**options))


def laravel(**options: Any) -> Laravel:
    return Laravel(LaravelSettings(**options))


def asynq(**options: Any) -> Asynq:
    return Asynq(AsynqSettings(**options))


def machinery(**options: Any) -> Machinery:
    return Machinery(MachinerySettings(**options))


def gocraft_work(**options: Any) -> GocraftWork:
    return GocraftWork(GocraftWorkSettings(**options))


def sidekiq(**options: Any) -> Sidekiq:
    return Sidekiq(SidekiqSettings(**options))


def resque(**options: Any) -> Resque:
    return Resque(ResqueSettings(**options))
