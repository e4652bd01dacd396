"""SIGHUP: what a running sidecar takes over from a changed file, and what it says of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.sidecar import Sidecar


def hang_up(sidecar: Sidecar, said: str = "settings read again") -> str:
    """SIGHUP; what was logged from then on, once it has ``said`` so."""
    before = len(sidecar.log)
    sidecar.signal(signal.SIGHUP)
    sidecar.wait_for(lambda: said in sidecar.log[before:], f"nothing about {said}")
    return sidecar.log[before:]


def change(sidecar: Sidecar, sections: Mapping[str, Mapping[str, Any]], said: str = "settings read again") -> str:
    """Write these into its file, and have it read again."""
    for name, values in sections.items():
        sidecar.settings[name] = {**sidecar.settings.get(name, {}), **values}
    sidecar.write()
    return hang_up(sidecar, said)


def queues(*globs: str) -> dict[str, Any]:
    return {"list": {"queues": list(globs)}}


def renewed(sidecar: Sidecar, was: int) -> None:
    sidecar.wait_for(lambda: sidecar.tracer_pid not in (0, was), "no other tracer")
    sidecar.page("/")


def test_queues_and_sampling(start_sidecar: StartSidecar) -> None:
    """A client that was there before goes by the new settings, too, and what was traced until then is exported."""
    with Receiver() as receiver:
        tracing = {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "1h"}}
        sidecar = start_sidecar({"frameworks": queues("old"), "tracing": tracing})
        with redis.Redis.from_url(sidecar.url) as client:
            client.lpush("old", '{"id":"1"}')
            client.lpush("new", '{"id":"2"}')
            tracer = sidecar.tracer_pid
            told = change(
                sidecar, {"frameworks": queues("new"), "tracing": {"sampling": {"queue_rates": {"new": 0.0}}}}
            )
            assert 'frameworks.list.queues: ["old"] -> ["new"]' in told
            assert "tracing.sampling.queue_rates.new: (not set) -> 0.0" in told
            assert "2 changed" in told
            assert [span.attributes["queue.name"] for span in receiver.wait_for(lambda spans: len(spans) == 1)] == [
                "old"
            ]
            client.lpush("old", '{"id":"3"}')
            client.lpush("new", '{"id":"4"}')
            renewed(sidecar, tracer)
            assert [b"traceparent" in job for job in client.lrange("old", 0, -1)] == [False, True]
            assert [b"traceparent" in job for job in client.lrange("new", 0, -1)] == [True, False]
            assert client.lrange("new", 0, 0)[0].endswith(b'-02"}'), "sampled"
            sidecar.wait_for(
                lambda: sidecar.metric("redspan_sampling_decisions_total", decision="not_sampled") == 1, "not seen"
            )
            told = change(sidecar, {"tracing": {"sampling": {}, "service_name": "other"}})
            client.lpush("new", '{"id":"5"}')
        assert sidecar.stop() == 0
        old, new = receiver.wait_for(lambda spans: len(spans) == 2)
        assert (new.attributes["queue.name"], new.resource["service.name"]) == ("new", "other")
        assert new.attributes["server.port"] == old.attributes["server.port"], "the connection was not told again"
        assert receiver.wait_for(lambda spans: len(spans) == 2)
    assert sidecar.log.count("tracer_died") == 0


def test_nothing_is_lost_under_load(start_sidecar: StartSidecar) -> None:
    with Receiver() as receiver:
        tracing = {"endpoint": receiver.url, "protocol": "http/protobuf"}
        sidecar = start_sidecar({"frameworks": queues("jobs"), "tracing": tracing})
        with redis.Redis.from_url(sidecar.url) as client:
            pushed = 0
            for number in range(3):
                tracer = sidecar.tracer_pid
                sidecar.settings["tracing"]["service_name"] = f"s{number}"
                sidecar.write()
                sidecar.signal(signal.SIGHUP)
                while sidecar.tracer_pid in (0, tracer):
                    client.lpush("jobs", f'{{"id":"{pushed}"}}')
                    pushed += 1
            sidecar.page("/")
            assert sidecar.metric("redspan_events_dropped_total") == 0
            assert sidecar.metric("redspan_tracer_restarts_total") == 0
        assert sidecar.stop() == 0
        spans = receiver.wait_for(lambda spans: len(spans) >= pushed)
        assert len(spans) == pushed
        assert {span.resource["service.name"] for span in spans} > {"s0", "s1"}


def test_a_job_in_the_works(start_sidecar: StartSidecar) -> None:
    """The next tracer knows nothing of it: its end is counted, not made into a span."""
    frameworks = {"list": {"queues": ["jobs"], "processing": ["doing"]}}
    sidecar = start_sidecar({"frameworks": frameworks})
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush("jobs", '{"id":"1"}')
        job = client.rpoplpush("jobs", "doing")
        tracer = sidecar.tracer_pid
        change(sidecar, {"tracing": {"service_name": "other"}})
        renewed(sidecar, tracer)
        assert client.lrem("doing", 1, job) == 1
        sidecar.wait_for(lambda: sidecar.metric("redspan_orphan_settles_total") == 1, "not counted")
    assert sidecar.metric("redspan_spans_started_total", operation="job.process") == 0


def test_log_level_alone_leaves_the_tracer(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar()
    tracer = sidecar.tracer_pid
    sidecar.page("/")
    assert 'log.level: "info" -> "debug"' in change(sidecar, {"log": {"level": "debug"}})
    with sidecar.connect() as sock:
        sock.sendall(b"LPUSH a b\r\nMONITOR\r\n")
        assert sock.recv(64)
        sidecar.wait_for(lambda: "DEBUG   blind" in sidecar.log, "nothing at debug level")
    # Told before the level that hides it.
    assert '-> "error"' in change(sidecar, {"log": {"level": "error"}})
    # And after the one that shows it.
    assert r"\"error\" -> \"info\"" in change(sidecar, {"log": {"level": "info", "format": "json"}})
    assert sidecar.tracer_pid == tracer
    assert "nothing to change" in hang_up(sidecar)


def test_tracing_off_and_on(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"frameworks": queues("jobs")})
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush("jobs", '{"id":"1"}')
        tracer = sidecar.tracer_pid
        change(sidecar, {"tracing": {"enabled": False}})
        sidecar.wait_for(lambda: sidecar.tracer_pid == 0, "the tracer is still there")
        client.lpush("jobs", '{"id":"2"}')
        assert sidecar.metric("redspan_jobs_total", event="enqueue") == 1
        change(sidecar, {"tracing": {"enabled": True}})
        renewed(sidecar, tracer)
        client.lpush("jobs", '{"id":"3"}')
        assert [b"traceparent" in job for job in client.lrange("jobs", 0, -1)] == [True, False, True]
        sidecar.wait_for(lambda: sidecar.metric("redspan_spans_started_total") == 1, "no span")
    assert sidecar.stop() == 0


def test_a_wrong_file_changes_nothing(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    sidecar = start_sidecar({"frameworks": queues("jobs")})
    tracer = sidecar.tracer_pid
    good = {"log": {}, **sidecar.settings}
    wrong = {"sampling": {"default_rate": 7}, "endpiont": "x", "headers": {"a": 1}}
    told = change(sidecar, {"tracing": wrong, "frameworks": queues("others")}, "stay as they were")
    for problem in ("tracing.sampling.default_rate: expected", "did you mean endpoint?", "tracing.headers.a: expected"):
        assert problem in told
    sidecar.settings.update(good)
    told = change(sidecar, {"tracing": {"identity_key_file": "/nowhere"}, "log": {"level": "error"}}, "as they were")
    assert "tracing.identity_key_file: expected a file that can be read" in told
    sidecar.settings.update(good)
    assert "nothing to change" in change(sidecar, {})
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush("jobs", '{"id":"1"}')
        client.lpush("others", '{"id":"1"}')
        assert b"traceparent" in client.lrange("jobs", 0, 0)[0]
        assert b"traceparent" not in client.lrange("others", 0, 0)[0]
    assert sidecar.tracer_pid == tracer


def test_another_identity_key_in_the_same_file(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef")
    sidecar = start_sidecar({"tracing": {"identity_key_file": str(key)}})
    tracer = sidecar.tracer_pid
    key.write_bytes(b"fedcba9876543210")
    hang_up(sidecar)
    renewed(sidecar, tracer)
    assert "fedcba" not in sidecar.log


def test_what_only_a_restart_changes_is_said_without_secrets(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"tracing": {"headers": {"authorization": "hush-1"}}})
    sidecar.settings["listeners"][0]["upstream"] = "redis://user:hush-2@127.0.0.1:2"
    told = change(sidecar, {"tracing": {"headers": {"authorization": "hush-3"}}, "admin": {"bind": "127.0.0.1:1"}})
    assert "only a restart changes admin.bind" in told
    assert "only a restart changes listeners[0].upstream" in told
    assert "tracing.headers.authorization: *** -> ***" in told
    assert "hush" not in sidecar.log
    with redis.Redis.from_url(sidecar.url) as client:
        assert client.ping()
    assert sidecar.get("/readyz").status == 200


def test_limits(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"relay": {"max_connections": 1}})
    with redis.Redis.from_url(sidecar.url) as first, redis.Redis.from_url(sidecar.url) as second:
        assert first.ping()
        change(sidecar, {"relay": {"max_connections": 2, "drain_timeout": "200ms"}})
        assert second.ping()
        assert sidecar.stop() == 0
    assert "0.2 s" in sidecar.log


def test_ends_in_the_midst_of_it(start_sidecar: StartSidecar) -> None:
    """What was kept for the next tracer is exported by it all the same."""
    with Receiver() as receiver:
        tracing = {"endpoint": receiver.url, "protocol": "http/protobuf"}
        sidecar = start_sidecar({"frameworks": queues("jobs"), "tracing": tracing})
        change(sidecar, {"tracing": {"service_name": "other"}})
        with redis.Redis.from_url(sidecar.url) as client:
            client.lpush("jobs", '{"id":"1"}')
        assert sidecar.stop() == 0
        assert len(receiver.wait_for(lambda spans: len(spans) == 1)) == 1
