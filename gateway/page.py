"""The page at / and the API documentation at /docs: static, without anything from elsewhere."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

_FOLDER = Path(__file__).parent / "explorer"
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:;"
                               " frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}


async def index(_: web.Request) -> web.Response:
    """GET /: drop a file, get a link."""
    return _file("index.html", "text/html")


async def docs(_: web.Request) -> web.Response:
    """GET /docs: the API, drawn from /openapi.json."""
    return _file("docs.html", "text/html")


async def asset(request: web.Request) -> web.Response:
    """GET /explorer/NAME: styles and scripts of the two pages."""
    types = {"explorer.css": "text/css", "explorer.js": "text/javascript",
             "sign_in.js": "text/javascript", "docs.js": "text/javascript"}
    name = request.match_info["name"]
    if name not in types:
        raise web.HTTPNotFound
    return _file(name, types[name])


def _file(name: str, content_type: str) -> web.Response:
    return web.Response(body=(_FOLDER / name).read_bytes(), content_type=content_type,
                        charset="utf-8", headers=_HEADERS)
