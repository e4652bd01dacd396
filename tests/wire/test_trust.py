"""A job that brings a context along, and a redspan that does not believe it."""

from __future__ import annotations

import json
from pathlib import Path

import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver

FOUND = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_it_is_replaced_in_lists_and_streams_and_linked_to(start_sidecar: StartSidecar) -> None:
    with Receiver() as receiver:
        sidecar = start_sidecar(
            {
                "frameworks": {"list": {"queues": ["jobs"]}, "stream": {"queues": ["log"]}},
                "tracing": {
                    "endpoint": receiver.url,
                    "protocol": "http/protobuf",
                    "export": {"interval": "50ms"},
                    "security": {"trust_inbound": False},
                },
            }
        )
        with redis.Redis.from_url(sidecar.url, decode_responses=True) as client:
            client.lpush("jobs", f'{{"id":"1","traceparent":"{FOUND}","n":1e400}}')
            client.xadd("log", {"id": "2", "traceparent": FOUND, "x": "y"})
            stored = str(client.lindex("jobs", 0))
            (_, entry), *_ = client.xrange("log")
        spans = receiver.wait_for(lambda spans: len(spans) == 2)
        assert stored.startswith('{"id":"1","traceparent":"00-')
        assert stored.endswith('","n":1e400}')
        assert FOUND[:35] not in stored + repr(entry)
        assert list(entry) == ["id", "traceparent", "x"]
        assert {stored[27:59], entry["traceparent"][3:35]} <= {span.trace_id for span in spans} | {stored[27:59]}
        for span in spans:
            assert span.parent_id == ""
            assert [(link.trace_id, link.span_id) for link in span.links] == [(FOUND[3:35], FOUND[36:52])]


def test_who_has_no_key_cannot_compute_the_trace_of_an_id(
    start_sidecar: StartSidecar, tmp_path: Path, direct: redis.Redis
) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")
    lists = {"list": {"queues": ["jobs"], "identity": ["id"]}}
    found = []
    for tracing in ({"identity_key_file": str(key)}, {"identity_key_file": str(key)}, {}, {}):
        sidecar = start_sidecar({"frameworks": lists, "tracing": tracing})
        with redis.Redis.from_url(sidecar.url) as client:
            client.lpush("jobs", '{"id":"known"}')
        stored = direct.lpop("jobs")
        assert isinstance(stored, bytes)
        found.append(json.loads(stored)["traceparent"][3:35])
    keyed, again, plain, computed = found
    assert keyed == again
    assert plain == computed
    assert keyed != plain
