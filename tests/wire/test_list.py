"""``frameworks.list`` on the wire."""

from __future__ import annotations

from tests.frameworks import lists
from tests.playbook import play, traceparent


def test_one_job_through_a_reliable_queue_is_one_trace() -> None:
    run = play(
        f"""
        producer >> LPUSH jobs '{{"id": 1}}'
        redis    >> LPUSH jobs '{{"id": 1, "traceparent": "{traceparent(1)}"}}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work 5
        redis    << '{{"id": 1, "traceparent": "{traceparent(1)}"}}'
        worker   >> LREM work 1 '{{"id": 1, "traceparent": "{traceparent(1)}"}}'
        redis    << :1
        event enqueue queue=jobs number=1 carry=written
        event dequeue queue=jobs dest=work
        event ack     key=work number=1
        """,
        lists(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs success"
    )
