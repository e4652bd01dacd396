"""Reliable fetches of Sidekiq, replayed: GitLab's, run as 0.8, and Pro's super_fetch, as its users show it."""

from __future__ import annotations

import pytest

from proxy.events import Op
from proxy.tracer import attributes as a
from tests.frameworks import sidekiq
from tests.playbook import play
from tests.wire.lines import TRIED, bulk, command, raw
from tests.wire.sidekiq_lines import LOST, ONE, WORKER, ask, failed, given, job, processes, push, sent, waited

FETCHES = {
    "LMOVE": (f"LMOVE queue:mails queue:sq|{WORKER}|mails RIGHT LEFT", f"queue:sq|{WORKER}|mails"),
    "BLMOVE": (f"BLMOVE queue:mails queue:sq|{WORKER}|mails RIGHT LEFT 2", f"queue:sq|{WORKER}|mails"),
    "RPOPLPUSH": (f"RPOPLPUSH queue:mails working:queue:mails:{WORKER}", f"working:queue:mails:{WORKER}"),
    "with a namespace": (
        f"RPOPLPUSH ns:queue:mails ns:working:queue:mails:{WORKER}",
        f"ns:working:queue:mails:{WORKER}",
    ),
}


def fetch(how: str = "LMOVE", value: str = "") -> str:
    return f"worker >> {FETCHES[how][0]}\nworker << {raw(bulk(value or job(1)))}\n"


def acked(how: str = "LMOVE", value: str = "", number: int = 1) -> str:
    return sent("LREM", FETCHES[how][1], 1, value or job(1), reply=f":{number}")


@pytest.mark.parametrize("how", FETCHES)
def test_the_end_is_exact(how: str) -> None:
    run = play(push() + fetch(how) + acked(how), sidekiq())
    assert run.tree() == ONE
    (process,) = processes(run)
    assert a.END_INFERRED not in process.facts
    assert process.facts[a.WORKER_ID] == WORKER
    assert process.end == run.events[-1].done


def test_a_failure_is_known_before_the_acknowledgement() -> None:
    retried = sent("ZADD", "retry", "1700000010.5", failed())
    run = play(push() + fetch() + retried + acked(), sidekiq())
    assert run.tree() == ONE.replace("success", "retry !retry") + "\n  queue.enqueue CLIENT mails ~retry_of"
    (process,) = processes(run)
    assert process.end == run.events[-1].done


def test_a_silent_failure_may_have_been_acknowledged() -> None:
    run = play(push(retry=False) + fetch(value=job(1, retry=False)) + acked(value=job(1, retry=False)), sidekiq())
    assert run.tree() == ONE.removesuffix(" success")


def test_an_acknowledgement_that_comes_too_late() -> None:
    assert play(push() + fetch() + acked(number=0), sidekiq()).tree() == ONE.replace("success", "failure !ack_lost")


def test_pro_takes_back_what_a_dead_worker_had() -> None:
    back = f"other >> LMOVE queue:sq|{WORKER}|mails queue:mails RIGHT LEFT\nother << {raw(bulk(job(1)))}\n"
    run = play(push() + fetch() + back + fetch() + acked(), sidekiq())
    tried = TRIED.format("retry !reclaimed", "", "reclaimed_from").splitlines()
    tried[3:5] = [f"{tried[4]} ~reclaimed_from"]
    assert run.tree() == "\n".join(tried)


def test_gitlab_takes_back_what_a_dead_worker_had() -> None:
    """It counts that in the job."""
    again = job(1, interrupted_count=1)
    pop = f"other >> RPOP working:queue:mails:{WORKER}\nother << {raw(bulk(job(1)))}\n"
    run = play(
        push()
        + fetch("RPOPLPUSH")
        + pop
        + sent("LPUSH", "queue:mails", again, who="other")
        + fetch("RPOPLPUSH", again)
        + acked("RPOPLPUSH", again),
        sidekiq(),
    )
    assert run.tree() == TRIED.format("retry !reclaimed", "reclaimed_from", "reclaimed_from")


def test_gitlab_gives_back_what_it_interrupts_and_that_has_not_failed() -> None:
    again = job(1, interrupted_count=1)
    lrem = command("LREM", FETCHES["RPOPLPUSH"][1], 1, job(1))
    replies = raw(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n")
    given_back = f"w >> MULTI\nw >> {command('LPUSH', 'queue:mails', again)}\nw >> {lrem}\nw >> EXEC\nw << {replies}\n"
    run = play(
        push() + fetch("RPOPLPUSH") + given_back + fetch("RPOPLPUSH", again) + acked("RPOPLPUSH", again), sidekiq()
    )
    assert run.tree() == TRIED.format("retry", "previous", "previous")


def test_gitlabs_semi_reliable_fetch_puts_a_job_away_itself() -> None:
    held = f"working:queue:mails:{WORKER}"
    begun = waited("a", "b") + push() + push(2, jid="b") + given("a", job(1)) + given("b", job(2, jid="b"))
    kept = sent("LPUSH", held, job(1)) + sent("LPUSH", held, job(2, jid="b"))
    run = play(
        begun + kept + sent("LREM", held, 1, job(1)) + ask("a") + sent("LREM", held, 1, job(2, jid="b")), sidekiq()
    )
    assert run.tree() == ONE + "\n" + ONE
    assert not any(a.END_INFERRED in process.facts for process in processes(run))


def test_nothing_to_fetch() -> None:
    run = play(push() + f"worker >> {FETCHES['LMOVE'][0]}\nworker << nil\n", sidekiq())
    assert [event.op for event in run.events] == [Op.ENQUEUE]
    assert run.tree() == LOST.splitlines()[0]
