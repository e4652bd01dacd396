"""Jobs that name other jobs, batches, business operations; and several jobs in one command."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.events import Op
from proxy.tracer import attributes as a
from proxy.tracer.book import Policy
from proxy.tracer.span import Span
from tests.frameworks import lists
from tests.playbook import Play, play, traceparent
from tests.unit.test_lifecycle import dequeue, enqueue, event, lifecycle, run

PATHS = {"parent_id": "parent", "depends_on": "after", "batch_id": "batch"}
RELATED = {"policy": {"related": frozenset({"list"})}}


def links(span: Span) -> list[tuple[str, bytes]]:
    return [(link.relation, link.span_id) for link in span.links]


def sent(at: int, members: str, **more: Any) -> Any:
    return enqueue(at, value=b"{%s}" % members.encode(), context=b"", **more)


def test_a_job_leads_to_those_that_it_names() -> None:
    life = lifecycle(**PATHS, **RELATED)
    (payment,) = run(life, sent(0, '"id":"pay"'))
    (mail,) = run(life, sent(1, '"id":"mail","after":["pay","unknown"]'))
    assert links(mail) == [("depends_on", payment.span_id)]
    (taken,) = run(life, dequeue(2, value=b'{"id":"pay"}'))
    (child,) = run(life, sent(3, '"id":"child","parent":"pay"'))
    (process,) = run(life, event(Op.ACK, 4, key=b"work", queue="", number=1, value=b'{"id":"pay"}'))
    assert links(child) == [("child_of", process.span_id)]
    assert process.parent_id == taken.span_id
    assert a.attributes(child)[a.PARENT_ID] == "pay"
    assert a.attributes(mail)[a.DEPENDS_ON] == "pay,unknown"


def test_members_of_a_batch_lead_to_its_first() -> None:
    life = lifecycle(**PATHS, **RELATED)
    first, *others = run(life, *(sent(at, f'"id":"{at}","batch":"b-1"') for at in range(3)))
    assert links(first) == []
    assert [links(one) for one in others] == 2 * [[("batch", first.span_id)]]
    assert {a.attributes(one)[a.BATCH_ID] for one in (first, *others)} == {"b-1"}


def test_where_nobody_names_others_nothing_is_kept() -> None:
    life = lifecycle(**PATHS)
    run(life, sent(0, '"id":"pay"'), sent(1, '"id":"mail","after":["pay"]'))
    assert not life._book.related


def test_what_is_known_of_others_is_bounded() -> None:
    life = lifecycle(**PATHS, **RELATED)
    run(life, *(sent(at, f'"id":"{at}","batch":"{at}"') for at in range(6000)))
    assert len(life._book.related) == 5000


def batch(**policy: Any) -> Play:
    jobs = [f'{{"id":{number}}}' for number in (1, 2, 3)]
    stored = [f'{{"id":{number},"traceparent":"{traceparent(number)}"}}' for number in (1, 2, 3)]
    sends, arrives = (" ".join(f"'{one}'" for one in those) for those in (jobs, stored))
    return play(
        f"p >> RPUSH jobs {sends}\nredis >> RPUSH jobs {arrives}\nredis << :3", lists(), policy=Policy(**policy)
    )


def test_jobs_of_one_command_have_a_span_each_and_if_wanted_one_together() -> None:
    assert batch().tree() == "\n".join(3 * ["queue.enqueue PRODUCER jobs"])
    run = batch(batches=True)
    *each, whole = run.spans
    assert [link.span_id for link in whole.links] == [span.span_id for span in each]
    assert {link.relation for link in whole.links} == {"batch"}
    assert whole.parent_id == b""
    assert {a.attributes(span)[a.BATCH_COUNT] for span in run.spans} == {3}
    assert a.MESSAGE_ID not in a.attributes(whole)


@pytest.mark.parametrize(
    ("template", "job", "correlation"),
    [
        ("order-{order_id}", b'{"order_id":12345}', "order-12345"),
        ("{meta.shop}/{order}!", b'{"meta":{"shop":"a"},"order":"b"}', "a/b!"),
        ("order-{order_id}", b'{"order":1}', ""),
        ("order_id", b'{"order_id":"12345"}', "12345"),
    ],
)
def test_a_business_operation_by_its_own_name(template: str, job: bytes, correlation: str) -> None:
    framework = lists(correlation_id=template)
    assert framework.fields(job).correlation_id == correlation
    assert framework.fields(framework.summary(job)).correlation_id == correlation
