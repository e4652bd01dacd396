"""The settings of the job frameworks: one section for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from proxy.config.described import ListSettings, ScriptSettings, StreamSettings, ZsetSettings, unusable
from proxy.config.framework import FrameworkSettings
from proxy.config.values import (
    Conflict,
    Glob,
    Key,
    KeyPath,
    Natural,
    Prefix,
    Section,
    dotted,
)

_PREFIX: Final = "jobqueue:"
_QUEUES: Final = (f"{_PREFIX}high_priority", f"{_PREFIX}low_priority")
_PROCESSING: Final = (f"{_PREFIX}worker:*:processing",)
_HEARTBEAT: Final = (f"{_PREFIX}processing:worker:*",)
_COMPLETED: Final = (f"{_PREFIX}completed",)
_DEAD_LETTER: Final = (f"{_PREFIX}dead_letter",)
_RATE_LIMIT: Final = (f"{_PREFIX}rate_limit:producer",)


class GoRedisWorkQueueSettings(FrameworkSettings, frozen=True):
    """go-redis-work-queue. The globs are full key names; those not given follow ``prefix``."""

    prefix: Prefix = _PREFIX
    """What all of its keys begin with."""
    queues: tuple[Glob, ...] = _QUEUES
    """Its ``worker.queues``."""
    processing: tuple[Glob, ...] = _PROCESSING
    """Its ``worker.processing_list_pattern``."""
    heartbeat: tuple[Glob, ...] = _HEARTBEAT
    """Its ``worker.heartbeat_key_pattern``."""
    completed: tuple[Glob, ...] = _COMPLETED
    """Its ``worker.completed_list``."""
    dead_letter: tuple[Glob, ...] = _DEAD_LETTER
    """Its ``worker.dead_letter_list``."""
    rate_limit: tuple[Glob, ...] = _RATE_LIMIT
    """Its ``producer.rate_limit_key``."""
    max_retries: Natural = 3
    """Its ``worker.max_retries``: the wire does not tell."""

    def __post_init__(self) -> None:
        if self.prefix == _PREFIX:
            return
        for name in ("queues", "processing", "heartbeat", "completed", "dead_letter", "rate_limit"):
            globs: tuple[str, ...] = getattr(self, name)
            # The very object of the default: an equal list that the user wrote stays as written.
            if globs is _FIELDS[name]:
                moved = tuple(self.prefix + glob.removeprefix(_PREFIX) for glob in globs)
                msgspec.structs.force_setattr(self, name, moved)


_FIELDS: Final = {field.name: field.default for field in msgspec.structs.fields(GoRedisWorkQueueSettings)}


class CelerySettings(FrameworkSettings, frozen=True):
    """Celery, with Redis as its broker."""

    prefix: Prefix = ""
    """Its ``global_keyprefix``, of broker and result backend."""
    unacked_key: Key = "unacked"
    """Its ``broker_transport_options.unacked_key``."""


class RqSettings(FrameworkSettings, frozen=True):
    """RQ."""

    prefix: Prefix = "rq:"
    """What all of its keys begin with."""


class HueySettings(FrameworkSettings, frozen=True):
    """huey. Nothing is ever written into its tasks."""

    prefix: Prefix = "huey."
    """What all of its keys begin with."""
    results: bool = True
    """Its ``results``: with them, a task that ended and stored nothing has succeeded. The wire does not tell."""


class DramatiqSettings(FrameworkSettings, frozen=True):
    """dramatiq, with Redis as its broker, whatever its namespace."""


class TaskiqSettings(FrameworkSettings, frozen=True):
    """taskiq with taskiq-redis: ListQueueBroker and RedisStreamBroker."""

    result_prefix: Prefix = ""
    """Its result backend's ``prefix_str``; empty: keys are bare task ids."""
    schedule_prefix: Prefix = "schedule"
    """Its ListRedisScheduleSource's ``prefix``."""
    ack_type: Literal["when_saved", "when_executed", "when_received", "manual"] = "when_saved"
    """Its workers' ``--ack-type``: only the default's acknowledgement is the end of a task."""


class BullmqSettings(FrameworkSettings, frozen=True):
    """BullMQ."""

    prefix: Key = "bull"
    """Its ``prefix``. Queues that have another one are traced, too, but a colon in their names is misunderstood."""


class ArqSettings(FrameworkSettings, frozen=True):
    """arq. Nothing is ever written into its jobs."""

    queues: tuple[Glob, ...] = ("arq:*",)
    """Globs of its ``queue_name``, of all workers."""


class StreaqSettings(FrameworkSettings, frozen=True):
    """streaq. Nothing is ever written into its tasks."""

    prefix: Prefix = "streaq:"
    """What all of its keys begin with."""


class BullSettings(FrameworkSettings, frozen=True):
    """Bull 4."""

    prefix: Key = "bull"
    """Its ``prefix``. Queues that have another one are traced, too, but a colon in their names is misunderstood."""


class BeeQueueSettings(FrameworkSettings, frozen=True):
    """bee-queue."""

    prefix: Key = "bq"
    """Its ``prefix``."""


class LaravelSettings(FrameworkSettings, frozen=True):
    """Laravel's queues on Redis, whatever its prefix and queues are called."""

    tries: Natural = 1
    """Its workers' ``--tries`` (0: no end), for jobs that do not say: one that ends with tries left has succeeded."""


class AsynqSettings(FrameworkSettings, frozen=True):
    """asynq."""


class MachinerySettings(FrameworkSettings, frozen=True):
    """machinery, with Redis as its broker, whatever its queues are called."""

    delayed_tasks_key: Key = "delayed_tasks"
    """Its ``redis.delayed_tasks_key``."""


class GocraftWorkSettings(FrameworkSettings, frozen=True):
    """gocraft/work, whatever its namespace. Nothing is ever written into its jobs."""


class SidekiqSettings(FrameworkSettings, frozen=True):
    """Sidekiq, whatever its namespace."""


class ResqueSettings(FrameworkSettings, frozen=True):
    """Resque, whatever its namespace."""


_RENAMED: Final = {
    "go_redis_work_queue": "go-redis-work-queue",
    "bee_queue": "bee-queue",
    "gocraft_work": "gocraft-work",
}
_TAKING: Final = ("dead_letter", "completed", "processing")
"""Roles that come before that of a queue, where a key could have both."""


class Frameworks(Section, frozen=True, rename=_RENAMED):
    """One section for each job framework."""

    list: ListSettings = ListSettings()
    """Lists of the user's own; nothing until queues are named."""
    stream: StreamSettings = StreamSettings()
    """Streams of the user's own; nothing until queues are named."""
    zset: ZsetSettings = ZsetSettings()
    """Sorted sets of the user's own; nothing until queues are named."""
    script: ScriptSettings = ScriptSettings()
    """Lua scripts of the user's own; nothing until entries are named."""
    go_redis_work_queue: GoRedisWorkQueueSettings = GoRedisWorkQueueSettings()
    """The Go job queue of that name."""
    celery: CelerySettings = CelerySettings()
    """Celery, on Redis as its broker."""
    rq: RqSettings = RqSettings()
    """RQ."""
    huey: HueySettings = HueySettings()
    """huey, on Redis."""
    dramatiq: DramatiqSettings = DramatiqSettings()
    """dramatiq, with Redis as its broker."""
    taskiq: TaskiqSettings = TaskiqSettings()
    """taskiq with taskiq-redis."""
    bullmq: BullmqSettings = BullmqSettings()
    """BullMQ."""
    arq: ArqSettings = ArqSettings()
    """arq."""
    streaq: StreaqSettings = StreaqSettings()
    """streaq."""
    bull: BullSettings = BullSettings()
    """Bull 4, the forerunner of BullMQ."""
    bee_queue: BeeQueueSettings = BeeQueueSettings()
    """bee-queue."""
    laravel: LaravelSettings = LaravelSettings()
    """Laravel's queues, on Redis."""
    asynq: AsynqSettings = AsynqSettings()
    """asynq."""
    machinery: MachinerySettings = MachinerySettings()
    """machinery, with Redis as its broker."""
    gocraft_work: GocraftWorkSettings = GocraftWorkSettings()
    """gocraft/work."""
    sidekiq: SidekiqSettings = SidekiqSettings()
    """Sidekiq."""
    resque: ResqueSettings = ResqueSettings()
    """Resque."""

    def conflicts(self) -> Iterator[Conflict]:
        """Queues that would not be traced: another role takes their keys first."""
        for section, settings in (("list", self.list), ("go-redis-work-queue", self.go_redis_work_queue)):
            path: KeyPath = ("frameworks", section)
            others = [role for role in _TAKING if getattr(settings, role)]
            if not settings.queues and others:
                beside = dotted((*path, "queues"))
                yield Conflict((*path, others[0]), f"{beside} beside it", "none", (*path, "queues"))
            for queue in settings.queues:
                for role in _TAKING:
                    if any(_covers(glob, queue) for glob in getattr(settings, role)):
                        wanted = f"lists that {role} does not take"
                        yield Conflict((*path, "queues"), wanted, f'"{queue}"', (*path, role))

        yield from unusable(self.script.entries)

    def traced(self) -> Sequence[str]:
        """In words: what is recognised, and of the user's own queues, which."""
        own = (("list", self.list), ("stream", self.stream), ("zset", self.zset))
        named = [f"{name} ({', '.join(one.queues)})" for name, one in own if one.enabled and one.queues]
        if self.script.enabled and self.script.entries:
            named.append(f"script ({', '.join(dict.fromkeys(entry.key for entry in self.script.entries))})")
        mine = ("list", "stream", "zset", "script")
        others = [field.name for field in msgspec.structs.fields(self) if field.name not in mine]
        return [*named, *(name.replace("_", "-") for name in others if getattr(self, name).enabled)]


def _covers(glob: str, queue: str) -> bool:
    plain = not any(mark in queue for mark in "*?[")
    return glob == queue or (plain and fnmatchcase(queue, glob))
