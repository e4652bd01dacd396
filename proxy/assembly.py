"""From settings to the parts that both processes need: they must agree on every id."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.config import Settings
from proxy.context.carry import Carrier
from proxy.context.derive import Deriver, PooledIds
from proxy.context.sampling import Rates
from proxy.frameworks.base import Framework
from proxy.frameworks.registry import build


class CannotStart(Exception):
    """Its text is for the user: what is wrong, and what to change."""


def identity_key(settings: Settings) -> bytes:
    """What keys the ids that are derived from jobs; empty: nothing does. Raises `CannotStart`."""
    name = settings.tracing.identity_key_file
    if not name:
        return b""
    try:
        key = Path(name).read_bytes().strip()
    except OSError as error:
        raise CannotStart(
            f"cannot read {name}: {error.strerror}; change tracing.identity_key_file, or take it out"
        ) from error
    if not key:
        raise CannotStart(f"{name} is empty; tracing.identity_key_file wants at least 16 random bytes")
    return key


def frameworks(settings: Settings) -> tuple[Framework, ...]:
    """Those that are turned on; none without tracing: then the relay only relays."""
    tracing = settings.tracing
    return build(settings.frameworks, health=tracing.spans.health) if tracing.enabled else ()


def carrier(settings: Settings) -> Carrier:
    """Raises `CannotStart`."""
    tracing = settings.tracing
    trusts, formats = tracing.security.trust_inbound, tracing.formats
    return Carrier(Deriver(identity_key(settings)), PooledIds(os.urandom), trusts, formats if trusts else ())


def rates(settings: Settings) -> Rates:
    sampling, environment = settings.tracing.sampling, settings.tracing.environment
    return Rates(lambda queue, key: sampling.rate(queue, key, environment), sampling.operation_rate("enqueue"))
