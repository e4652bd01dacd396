"""``/ui``: a page that shows jobs by way of the API. Static files, and nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

_FOLDER: Final = Path(__file__).with_name("ui")
_KINDS: Final = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def ui_routes() -> list[Route]:
    """The page and its files."""
    routes = [_file(f"/ui/{name}" if name != "index.html" else "/ui", name) for name in _KINDS]
    return [*routes, Route("/ui/", _without_slash)]


def _file(path: str, name: str) -> Route:
    content = (_FOLDER / name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=_KINDS[name])

    return Route(path, answer)


async def _without_slash(_: Request) -> Response:
    return RedirectResponse("../ui")
