"""What is done to a whole queue of BullMQ, and to a job that waits in one, by hand."""

from __future__ import annotations

import pytest

from tests.frameworks import bullmq
from tests.playbook import play
from tests.wire.bullmq_lines import BASE, add, keys
from tests.wire.lines import script


def test_a_queue_is_emptied() -> None:
    run = play(
        f"""
        admin >> {script(keys("wait paused delayed prioritized repeat"), BASE, 0)}
        admin << nil
        admin >> {script([BASE + "meta", BASE], 1000, "force")}
        admin << :1
        admin >> {script([BASE + "meta", BASE], 1000, "force")}
        admin << :0
        event drain queue=mails
        event purge queue=mails
        """,
        bullmq(),
    )
    assert run.tree() == "queue.drain CLIENT mails\nqueue.purge CLIENT mails"


PAUSE = {
    "4.18": ("wait paused meta prioritized events", "paused wait meta prioritized events"),
    "5.12": (
        "wait paused meta prioritized events delayed marker",
        "paused wait meta prioritized events delayed marker",
    ),
}


@pytest.mark.parametrize("words", PAUSE.values(), ids=PAUSE)
def test_a_queue_is_paused_and_goes_on(words: tuple[str, str]) -> None:
    run = play(
        f"""
        admin >> {script(keys(words[0]), "paused")}
        admin << nil
        admin >> {script(keys(words[1]), "resumed", "1")}
        admin << :1
        admin >> {script(keys(words[1]), "resumed", "0")}
        admin << :0
        event pause  queue=mails
        event resume queue=mails
        """,
        bullmq(),
    )
    assert run.tree() == "queue.pause CLIENT mails\nqueue.resume CLIENT mails"


def test_all_but_what_is_delayed_is_drained() -> None:
    words = [BASE + "wait", BASE + "paused", "", BASE + "prioritized"]
    run = play(f"admin >> {script(words, BASE)}\nadmin << nil", bullmq())
    assert run.tree() == "queue.drain CLIENT mails"


def test_a_job_that_is_removed_while_it_waits_is_cancelled() -> None:
    remove = script([BASE, BASE + "meta", BASE + "repeat"], "1", 1, BASE)
    run = play(f"{add()}\nadmin >> {remove}\nadmin << :1", bullmq())
    assert run.tree() == "queue.enqueue PRODUCER mails\n  queue.cancel CLIENT mails"
