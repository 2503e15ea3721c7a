"""The page at / and the API documentation at /docs: static, without anything from elsewhere."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from blake3 import blake3

from gateway.services import services_of

_FOLDER = Path(__file__).parent / "explorer"
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_ASSETS = frozenset(path.name for path in _FOLDER.iterdir() if path.suffix in _TYPES)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def index(request: web.Request) -> web.Response:
    """GET /: drop a file, get a link, watch what runs."""
    return _file(request, "index.html", "text/html")


async def docs(request: web.Request) -> web.Response:
    """GET /docs: the API, drawn from /openapi.json."""
    return _file(request, "docs.html", "text/html")


async def asset(request: web.Request) -> web.Response:
    """GET /explorer/NAME: styles and scripts of the two pages."""
    name = request.match_info["name"]
    if name not in _ASSETS:
        raise web.HTTPNotFound
    return _file(request, name, _TYPES[Path(name).suffix])


def _file(request: web.Request, name: str, content_type: str) -> web.Response:
    body = (_FOLDER / name).read_bytes()
    etag = f'"{blake3(body).hexdigest(16)}"'
    headers = _HEADERS | {"ETag": etag,
                          "Content-Security-Policy": _policy(services_of(request).content.url)}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)


def _policy(content_url: str) -> str:
    """content_url: where pictures that were stored may be served too; may be empty.

    Trusted types: a name of a store or a file that a mistake of ours made markup stays text.
    """
    pictures = " ".join(filter(None, ("'self'", "data:", content_url)))
    return (f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
            f" img-src {pictures}; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
            " require-trusted-types-for 'script'")
