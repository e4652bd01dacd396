"""Kubernetes' schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import kubernetes_validate

from tests.deploy.pods import Object

VERSIONS: Final = ("1.29", "1.33", "1.37")
"""The first with native sidecars, the one that declared them stable, and the newest that is known here."""


def assert_valid(objects: Iterable[Object]) -> None:
    """Each is what its kind's schema says, and has no field that it does not know; in all of these versions."""
    for one in objects:
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
