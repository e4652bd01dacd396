"""docs/configuration.md: every setting, from the structs of `proxy.config`, their defaults and their docstrings."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Final

import msgspec

from proxy.config import FrameworkSettings, JobPaths, Settings
from proxy.config.values import Section, entry_of, item_of, kind_of, section_of, shown
from tests.docs.markdown import MADE, prose, table

_HEAD: Final = f"""# Configuration

{MADE}

A YAML file (`redspan run --config redspan.yaml`) holds any part of what follows, or nothing: all has a default.
[config.example.yaml](../config.example.yaml) is the same as one file to copy from.

What is set in several places comes from the first of these:

1. the options `--listen`, `--upstream` and `--admin`, for the first listener and the admin pages;
2. variables `REDSPAN_…`: a setting's path in capitals, with two underscores between its parts and `-` as `_`.
   `tracing.sampling.default_rate` is `REDSPAN_TRACING__SAMPLING__DEFAULT_RATE`, the first listener's upstream
   `REDSPAN_LISTENERS__0__UPSTREAM`. Lists and mappings are given as YAML or JSON;
3. the file;
4. the standard [`OTEL_*` variables](#opentelemetrys-variables);
5. the default.

Lists replace one another; mappings (headers, resource attributes, rates) are merged key by key. A key with nothing
behind it, and an empty variable, count as not set. Durations are written `25s`, `500ms`, `1m30s`, or as a number of
seconds; sizes `1048576`, `64KiB`, `1MiB`.

```sh
redspan check-config               # the variables that are set here
redspan check-config --effective   # every value, and where it comes from; secrets masked
```

With a file it is `redspan check-config redspan.yaml`. What is wrong is said with its path, what was expected and what
was found; an unknown key with the nearest that there is.

SIGHUP makes a running redspan read all of it again. It says what differs, and goes by it at once; if anything is wrong,
it says what, and all stays as it was. Only a restart changes where it listens (`listeners`, `admin.bind`), the
upstreams and `relay.workers`.
"""
_COMMON: Final = {
    FrameworkSettings: ("Every framework", "What all the sections under `frameworks` have."),
    JobPaths: (
        "Jobs of your own format",
        "What `frameworks.list`, `.stream`, `.zset` and `.script` have besides: paths into the job.",
    ),
}
_OTEL: Final = """## OpenTelemetry's variables

Understood as their standard says, and weaker than the file, because they are shared with other programs. What redspan
cannot use is left out, with a warning.
"""
_VARIABLES: Final = (
    ("OTEL_SERVICE_NAME", "`tracing.service_name`"),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "`tracing.service_name`, `.service_version`, `.environment`; the rest `tracing.resource_attributes`",
    ),
    ("OTEL_SDK_DISABLED", "`tracing.enabled`"),
    ("OTEL_TRACES_EXPORTER", "`otlp`, `zipkin`, `console`, `none`: `tracing.protocol`, `tracing.console_exporter`"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_TRACES_ENDPOINT OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        "`tracing.endpoint`",
    ),
    ("OTEL_EXPORTER_OTLP_PROTOCOL OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "`tracing.protocol`"),
    ("OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_TRACES_HEADERS", "`tracing.headers`"),
    (
        "OTEL_EXPORTER_OTLP_TIMEOUT OTEL_EXPORTER_OTLP_TRACES_TIMEOUT OTEL_BSP_EXPORT_TIMEOUT",
        "`tracing.export.timeout` (they are milliseconds)",
    ),
    ("OTEL_EXPORTER_OTLP_COMPRESSION OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "`tracing.export.compression`"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "`tracing.tls.ca_file`"),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "`tracing.tls.cert_file`"),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "`tracing.tls.key_file`"),
    (
        "OTEL_EXPORTER_OTLP_INSECURE OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        "`false`: an endpoint without a scheme is `https://`",
    ),
    (
        "OTEL_BSP_MAX_QUEUE_SIZE OTEL_BSP_MAX_EXPORT_BATCH_SIZE OTEL_BSP_SCHEDULE_DELAY",
        "`tracing.export.buffer`, `.batch_size`, `.interval`",
    ),
    ("OTEL_TRACES_SAMPLER OTEL_TRACES_SAMPLER_ARG", "`tracing.sampling.default_rate`; every sampler is parent-based"),
    ("OTEL_PROPAGATORS", "nothing: W3C contexts are what jobs carry; other names are warned of"),
)


def page() -> str:
    variables = [(", ".join(f"`{name}`" for name in names.split()), what) for names, what in _VARIABLES]
    return "\n".join([_HEAD, *_section(Settings, "", 2), _OTEL, *table(("variable", "becomes"), variables), ""])


def _section(section: type[Section], path: str, level: int) -> Iterator[str]:
    """A section's own values as a table, then the sections in it."""
    inner: list[tuple[type[msgspec.Struct], str]] = []
    for field in msgspec.structs.fields(section):
        at = f"{path}.{field.encode_name}".lstrip(".")
        one, each = section_of(field.type), section_of(item_of(field.type))
        inner += [(one, at)] if one else [(each, f"{at}[]")] if each else []
    if path:
        yield f"{'#' * min(level, 4)} `{path}`\n"
        yield f"{prose(inspect.getdoc(section) or '')}\n"
    common = {name for base in _COMMON if issubclass(section, base) for name in base.__struct_fields__}
    yield from _values(section, common - section.__annotations__.keys())
    if path == "frameworks":
        for base, (title, what) in _COMMON.items():
            yield f"### {title}\n\n{what}\n"
            yield from _values(base, set(base.__struct_fields__) - base.__annotations__.keys())
    for below, at in inner:
        assert issubclass(below, Section)
        yield from _section(below, at, level + 1 if path else 2)


def _values(section: type[Section], but: set[str]) -> Iterator[str]:
    """What can be set in a section, but for what is told of elsewhere."""
    told = _docstrings(section)
    rows = []
    for field in msgspec.structs.fields(section):
        if field.name not in but and not section_of(field.type) and not section_of(item_of(field.type)):
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            value = f"`{shown(field.type, default)}`"
            rows.append((f"`{field.encode_name}`", _expected(field.type), value, told[field.name]))
    if rows:
        yield from table(("setting", "what may be written", "default", "what it is"), rows)
        yield ""


def _expected(annotation: object) -> str:
    if item := item_of(annotation):
        return f"a list: {kind_of(item).expected}"
    if entry := entry_of(annotation):
        return f"a mapping: {kind_of(entry).expected}"
    return kind_of(annotation).expected


@cache
def _docstrings(section: type[Section]) -> dict[str, str]:
    """What stands below each field of a section, and of those that it comes from."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if base.__module__.startswith("proxy.config"):
            found |= _written(base)
    return found


def _written(section: type) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(sys.modules[section.__module__]))
    body = next(one.body for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == section.__name__)
    return {
        ast.unparse(field.target): prose(after.value.value)
        for field, after in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }
