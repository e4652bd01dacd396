"""Settings files for tests, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from proxy.config.sources import ConfigError, Loaded, load

Write: TypeAlias = Callable[[str], Path]
RATE = "tracing.sampling.default_rate"
ENV_RATE = "REDSPAN_TRACING__SAMPLING__DEFAULT_RATE"
SEED = """\
redis:
  host: localhost
  port: 6379

tracing:
  enabled: true
  service_name: "work-queue"
  endpoint: "localhost:4317"
  sampling:
    default_rate: 0.1
    queue_rates:
      critical: 1.0
      batch: 0.01
  security:
    filter_attributes: true
    redact_pii: true
"""
"""The file of the design document that redspan goes back to ("Configuration Migration", After)."""


def from_env(**environ: str) -> Loaded:
    return load(None, {}, environ)


def problems(
    file: Path | None = None, flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> list[str]:
    """What is wrong, in the words that the user sees."""
    with pytest.raises(ConfigError) as caught:
        load(file, flags or {}, environ or {})
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]
