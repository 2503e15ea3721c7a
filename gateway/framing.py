"""Where a request ends: what proxies and we could read differently, beyond what the parser refuses.
"""

from __future__ import annotations

from aiohttp import HttpVersion11, hdrs, web

from zerostor.core.errors import BadRequest


class UnclearEnd(BadRequest):
    """What follows on its connection may be a part of it, or another request."""


def require_clear_end(request: web.Request) -> None:
    """Return unless somebody before us may have seen another end of it (RFC 9112, 6.1).

    Raises UnclearEnd, after which the connection has to be closed.
    """
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING, ())
    if codings and (len(codings) > 1 or codings[0].strip().lower() != "chunked"
                    or hdrs.CONTENT_LENGTH in request.headers
                    or request.version < HttpVersion11):
        raise UnclearEnd("a Transfer-Encoding is chunked and nothing else, of a client that knows"
                         " it by its version of HTTP, and without a Content-Length")
