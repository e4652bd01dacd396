"""A real Prometheus for tests (Debian's package): scrapes every second, keeps exemplars, evaluates rules.

with Prometheus(tmp_path, [sidecar.admin], rules=RULES.read_text()) as prometheus:
    prometheus.wait_for("redspan_build_info")
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import yaml

from tests.redis import PATIENCE, free_port

JOB: Final = "redspan"
"""What it calls the sidecars."""


class Series(NamedTuple):
    labels: dict[str, str]
    value: float


class Prometheus:
    """Runs from ``with`` to its end. ``rules``: a file of rules, as text."""

    def __init__(self, directory: Path, targets: Sequence[str], rules: str = "") -> None:
        self._directory = directory
        self._url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "rules.yaml").write_text(rules or "groups: []")
        settings = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(targets)}]}],
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(settings))

    def __enter__(self) -> Self:
        directory = self._directory
        arguments = [
            f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
        ]
        with (directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(["prometheus", *arguments], stdout=log, stderr=log)
        try:
            self._until(self._ready, "not ready")
        except AssertionError:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def query(self, expression: str) -> list[Series]:
        """What it answers now; AssertionError: that it cannot."""
        found = self._ask("/api/v1/query", query=expression)
        if found["resultType"] == "scalar":
            return [Series({}, float(found["result"][1]))]
        return [Series(one["metric"], float(one["value"][1])) for one in found["result"]]

    def wait_for(
        self, expression: str, wanted: Callable[[list[Series]], bool] = bool, within: float = 2 * PATIENCE
    ) -> list[Series]:
        """What it answers as soon as that is as wanted: anything at all, if nothing else is said."""
        self._until(lambda: wanted(self.query(expression)), expression, within)
        return self.query(expression)

    def exemplars(self, expression: str) -> list[dict[str, str]]:
        """The labels of the exemplars of the last hour."""
        now = time.time()
        found = self._ask("/api/v1/query_exemplars", query=expression, start=str(now - 3600), end=str(now + 60))
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    def _ask(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters.get('query')}: {error.read().decode()}") from error

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _until(self, condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert self._process is not None
            log = self._directory / "prometheus.log"
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{what}; its log: {log.read_text()[-2000:]}"
            time.sleep(0.1)
