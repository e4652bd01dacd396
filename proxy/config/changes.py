"""What differs between two sets of settings, and what of it a running redspan can take over."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec.structs import replace

from proxy.config import Settings
from proxy.config.values import KeyPath, dotted, leaves, shown

_NOT_SET: Final = "(not set)"


class Change(NamedTuple):
    path: KeyPath
    old: str
    new: str
    """Both as they may be printed: secrets are masked."""

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.old} -> {self.new}"


def changes(old: Settings, new: Settings) -> list[Change]:
    """Every single value that differs, new ones last. Secrets differ although they look the same."""
    before, after = _values(old), _values(new)
    found = []
    for path in dict.fromkeys((*before, *after)):
        (was, was_shown), (now, now_shown) = before.get(path, _ABSENT), after.get(path, _ABSENT)
        # Where one is empty and the other is not, the entries of the other tell.
        if was != now and not {was_shown, now_shown} <= _NOTHING:
            found.append(Change(path, was_shown, now_shown))
    return found


def applicable(old: Settings, new: Settings) -> Settings:
    """``new``, but with what stays as it is until a restart: sockets, and who listens on them."""
    listeners = old.listeners
    if len(new.listeners) == len(listeners):
        listeners = tuple(
            replace(one, service_name=other.service_name)
            if (one.bind, one.upstream) == (other.bind, other.upstream)
            else one
            for one, other in zip(listeners, new.listeners, strict=True)
        )
    admin = replace(new.admin, bind=old.admin.bind)
    relay = replace(new.relay, workers=old.relay.workers)
    return replace(new, listeners=listeners, relay=relay, admin=admin)


def tracer_differs(old: Settings, new: Settings) -> bool:
    """Whether a tracer with the one would do anything else than with the other."""
    return _for_the_tracer(old) != _for_the_tracer(new)


def _for_the_tracer(settings: Settings) -> tuple[object, ...]:
    admin = settings.admin
    pages = (admin.token_file, admin.trace_links)
    return settings.tracing, settings.frameworks, settings.listeners, settings.index, settings.events, pages


_ABSENT: Final = (None, _NOT_SET)
_NOTHING: Final = frozenset({_NOT_SET, "{}", "[]"})


def _values(settings: Settings) -> dict[KeyPath, tuple[object, str]]:
    return {path: (value, shown(annotation, value)) for path, value, annotation in leaves(settings, Settings, ())}
