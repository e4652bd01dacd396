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
