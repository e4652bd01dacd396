"""What is in deploy/prometheus and deploy/grafana, against a real Prometheus that scrapes a real sidecar."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import redis
import yaml

from proxy.admin.catalogue import ALL
from proxy.events import Op
from tests.conftest import StartSidecar
from tests.load import LISTS, Load
from tests.metrics import Page
from tests.prometheus import JOB, Prometheus
from tests.receiver import Receiver
from tests.redis import RedisServer
from tests.sidecar import ROOT, Sidecar
from tests.wire.shop import SETTINGS, busy

RULES: Final = ROOT / "deploy" / "prometheus" / "redspan.rules.yaml"
GRAFANA: Final = ROOT / "deploy" / "grafana"
SEEDS: Final = ("RedspanExportFailing", "RedspanExportSlow", "RedspanSpansDropped", "RedspanMemoryHigh")
"""The alerts that the design document asks for, at its thresholds: 5 %, 1 s, 100 a minute, 100 MB."""

_SELECTOR = re.compile(r"(?<![:\w])((?:redspan|messaging)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_BY = re.compile(r"\bby \(([^)]*)\)")
_RECORD = re.compile(r"\b\w+:\w+:\w+\b")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboards() -> dict[str, Any]:
    return runpy.run_path(str(GRAFANA / "dashboards.py"))


class Query(NamedTuple):
    where: str
    text: str
    """Without Grafana's variables."""
    exemplars: bool = False


def panel_queries() -> list[Query]:
    """Of all panels, over all that there is."""
    found = []
    for file in GRAFANA.glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                text = re.sub(r"\$(framework|queue|job|instance)\b", ".*", target["expr"])
                where = f"{file.stem}: {panel['title']}"
                found.append(Query(where, text.replace("$__rate_interval", "30s"), target["exemplar"]))
    assert not [query for query in found if "$" in query.text]
    return found


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shop(_redis_server: RedisServer, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that has seen jobs of each kind."""
    settings = {**SETTINGS, "listeners": [{"upstream": _redis_server.url}]}
    settings["tracing"] = {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "50ms"}}
    with redis.Redis.from_url(_redis_server.url) as client:
        client.flushall()
    with Sidecar(tmp_path_factory.mktemp("shop"), settings) as sidecar:
        busy(sidecar)
        # What the relay counts is told once a second.
        sidecar.wait_for(lambda: sidecar.metric("redspan_jobs_total", event="enqueue") == 4, "not counted")
        yield sidecar


@pytest.mark.tools
@pytest.mark.parametrize("asked", [("check", "rules", RULES.name), ("test", "rules", "redspan.tests.yaml")])
def test_promtool_has_nothing_to_say(asked: tuple[str, ...]) -> None:
    told = subprocess.run(["promtool", *asked], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    tested = (RULES.parent / "redspan.tests.yaml").read_text()
    for alert in alerts:
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}, alert["alert"]
        assert alert["labels"]["severity"] in ("info", "warning", "critical")
        assert f'"{alert["alert"]}"' in tested, "promtool tests no such alert"
    assert set(SEEDS) <= {alert["alert"] for alert in alerts}


def test_dashboards_are_what_their_tables_say() -> None:
    made = dashboards()
    for name in made["DASHBOARDS"]:
        assert (GRAFANA / f"{name}.json").read_text() == made["text"](name), "run deploy/grafana/dashboards.py"


def test_each_name_label_and_value_is_on_a_real_page(shop: Sidecar) -> None:
    page = Page(shop.page("/metrics").body)
    records = {rule["record"] for rule in rules() if "record" in rule}
    texts = [Query(str(rule.get("alert") or rule["record"]), rule["expr"]) for rule in rules()]
    for where, text, _ in [*texts, *panel_queries()]:
        assert set(_RECORD.findall(text)) <= records, where
        labels = {"job", "instance", "framework", "queue", "le"} if _RECORD.search(text) else {"job", "instance"}
        for name, matchers in _SELECTOR.findall(text):
            found = page.labels(name)
            labels |= set(found)
            for label, _, value in _MATCHER.findall(matchers):
                if label in ("job", "instance"):
                    continue
                assert label in found, f"{where}: {name} has no label {label}"
                known = found[label] | ({op.name.lower() for op in Op} if label == "event" else set())
                assert value == ".*" or set(value.split("|")) <= known, f"{where}: {name}{{{label}={value}}}"
        for wanted in _BY.findall(text):
            assert {label.strip() for label in wanted.split(",")} <= labels, where


def test_every_metric_of_the_catalogue_is_there(shop: Sidecar) -> None:
    assert set(re.findall(r"^# TYPE (\S+)", shop.page("/metrics").body, re.MULTILINE)) == set(ALL)


@pytest.mark.tools
def test_every_query_answers_and_points_lead_to_traces(shop: Sidecar, receiver: Receiver, tmp_path: Path) -> None:
    with Prometheus(tmp_path, [shop.admin], RULES.read_text()) as prometheus:
        # A rate needs two scrapes.
        prometheus.wait_for("count_over_time(redspan_build_info[1m]) > 2")
        for query in panel_queries():
            assert prometheus.query(query.text), f"{query.where}: nothing for {query.text}"
        for rule in rules():
            if "record" in rule:
                assert prometheus.wait_for(rule["record"]), rule["record"]
        assert all(series.labels["job"] == JOB for series in prometheus.query("instance:redspan_memory_bytes:sum"))
        exported = {span.trace_id for span in receiver.spans}
        with_traces = [query for query in panel_queries() if query.exemplars]
        assert with_traces
        for query in with_traces:
            shown = prometheus.exemplars(query.text)
            assert shown, f"{query.where}: no exemplars"
            assert {labels["trace_id"] for labels in shown} <= exported


def test_depth_is_that_of_all_databases(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"frameworks": {"list": {"queues": ["jobs"]}}})
    for db, count in ((0, 7), (5, 3)):
        with redis.Redis.from_url(sidecar.url, db=db) as client:
            client.lpush("jobs", *(f'{{"id":"{db}-{number}"}}' for number in range(count)))
    sidecar.wait_for(lambda: sidecar.metric("redspan_queue_depth", queue="jobs") == 10, "not the sum")
    with redis.Redis.from_url(sidecar.url, db=5) as client:
        client.rpop("jobs")
    sidecar.wait_for(lambda: sidecar.metric("redspan_queue_depth", queue="jobs") == 9, "not one less")


def lowered(text: str) -> str:
    """The rules, as quick to speak as they are scraped, and at thresholds that a test comes to."""
    for old, new in (
        ("[5m]", "[10s]"),
        ("for: 5m", "for: 0s"),
        ("for: 1m", "for: 0s"),
        ("mean_rate5m > 1\n", "mean_rate5m > 0.2\n"),
        ("per_minute_rate5m > 100\n", "per_minute_rate5m > 1\n"),
        ("> 100e6\n", "> 1e6\n"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.tools
def test_each_of_the_seed_s_alerts_fires_on_a_sidecar_in_trouble(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    with Receiver() as receiver:
        export = {"interval": "100ms", "batch_size": 50}
        tracing = {"protocol": "http/protobuf", "endpoint": receiver.url, "export": export}
        sidecar = start_sidecar({"frameworks": {"list": LISTS}, "tracing": tracing})
        with (
            Load(sidecar.url, producers=1, consumers=1, bystanders=0, pause=0.02),
            Prometheus(tmp_path, [sidecar.admin], lowered(RULES.read_text())) as prometheus,
        ):
            for record in ("redspan_export_failures:ratio_rate5m", "redspan_spans_dropped:per_minute_rate5m"):
                assert [series.value for series in prometheus.wait_for(f"instance:{record}")] == [0]
            assert not prometheus.query('ALERTS{alertname=~"RedspanExportFailing|RedspanSpansDropped"}')
            # Two requests fail, then each takes its time, and a part of its spans is not wanted.
            receiver.answer(503, delay=0.3, times=2)
            receiver.answer(delay=0.3, rejected=5, message="too old", times=None)
            for alert in SEEDS:
                prometheus.wait_for(f'ALERTS{{alertname="{alert}",alertstate="firing"}}')
