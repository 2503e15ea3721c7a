"""The page at / and the API documentation at /docs: static, without anything from elsewhere."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.services import services_of

_FOLDER = Path(__file__).parent / "explorer"
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


async def index(request: web.Request) -> web.Response:
    """GET /: drop a file, get a link."""
    return _file(request, "index.html", "text/html")


async def docs(request: web.Request) -> web.Response:
    """GET /docs: the API, drawn from /openapi.json."""
    return _file(request, "docs.html", "text/html")


async def asset(request: web.Request) -> web.Response:
    """GET /explorer/NAME: styles and scripts of the two pages."""
    types = {"explorer.css": "text/css", "explorer.js": "text/javascript",
             "sign_in.js": "text/javascript", "docs.js": "text/javascript"}
    name = request.match_info["name"]
    if name not in types:
        raise web.HTTPNotFound
    return _file(request, name, types[name])


def _file(request: web.Request, name: str, content_type: str) -> web.Response:
    pictures = " ".join(filter(None, ("'self'", "data:", services_of(request).content.url)))
    policy = (f"default-src 'self'; img-src {pictures}; frame-ancestors 'none'; base-uri 'none'")
    return web.Response(body=(_FOLDER / name).read_bytes(), content_type=content_type,
                        charset="utf-8", headers=_HEADERS | {"Content-Security-Policy": policy})
