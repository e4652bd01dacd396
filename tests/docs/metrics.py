"""docs/metrics.md: every metric, from the table that `/metrics` is made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from proxy.admin.catalogue import BUILD_INFO, INJECTIONS, PROCESSES, QUEUES_LIMIT, RELAY, TRACER, Metric
from proxy.events import Op
from proxy.tracer.measures import BOUNDS
from tests.docs.markdown import MADE, prose, table

_HEAD: Final = f"""# Metrics

{MADE}

`/metrics` on the admin address, as Prometheus' text or OpenMetrics:

```sh service
redspan run
```

```sh
curl -sf http://127.0.0.1:9464/metrics
```

Label sets that are known beforehand are there from the start, at 0, so that the first failure has a rate. The first
{QUEUES_LIMIT} pairs of framework and queue have series of their own; the rest is summed up under the queue `other`.
What is personal in a queue's name is masked. What the relay counts survives a restart of the tracer; what the tracer
counts begins again.

"""
_GROUPS: Final = (
    ("redspan itself", (BUILD_INFO, *PROCESSES)),
    ("The relay: connections, commands, contexts in jobs", RELAY),
    ("The tracer: spans and jobs", TRACER),
)
_STARTS: Final = {
    ("redspan_injections_total", "result"): INJECTIONS,
    ("redspan_jobs_total", "event"): tuple(op.name.lower() for op in Op if op not in (Op.NEXT_POP, Op.DESCRIBE)),
}


def page() -> str:
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS)
    tail = f"Histograms of jobs have the bounds {bounds} seconds.\n"
    return "\n".join([_HEAD, *(line for title, metrics in _GROUPS for line in _group(title, metrics)), tail])


def _group(title: str, metrics: Iterable[Metric]) -> Iterator[str]:
    yield f"## {title}\n"
    rows = [(f"`{one.name}`", one.kind, prose(one.help), _labels(one)) for one in metrics]
    yield from table(("name", "kind", "what it says", "labels"), rows)
    yield ""


def _labels(metric: Metric) -> str:
    told = []
    for number, label in enumerate(metric.labels):
        values = metric.values[number] if metric.values else _STARTS.get((metric.name, label), ())
        told.append(f"`{label}`" + (f": {', '.join(f'`{value}`' for value in values)}" if values else ""))
    return "; ".join(told)
