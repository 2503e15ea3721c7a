"""The error tree as HTTP: RFC 9457 problem+json, mapped in this one place."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from gateway.framing import UnclearEnd
from gateway.request_id import CURRENT
from zerostor.core import errors

_log = logging.getLogger(__name__)

STATUS: dict[type[errors.ZerostorError], int] = {
    errors.NotFound: 404,
    errors.TooLarge: 413,
    errors.SignInNeeded: 401,
    errors.NotAllowed: 403,
    errors.TooManyRequests: 429,
    errors.WrongHost: 421,
    errors.ObjectRemoved: 410,
    errors.WrongState: 409,
    errors.RequestError: 400,
    errors.SpoolFull: 507,
    errors.BackendError: 503,
    errors.ObjectUnreadable: 503,
    errors.DataError: 500,
    errors.SetupError: 500,
}
"""The most specific base of an error decides."""
RETRY_AFTER = "5"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, code: str, detail: str, **more: object) -> web.Response:
    """A problem+json answer; `type` is a stable name, `detail` one sentence for a person."""
    title = code.replace("-", " ")
    body = {"type": f"urn:zerostor:{code}", "title": title, "status": status, "detail": detail}
    request = CURRENT.get()
    if request:
        more["request"] = request
    response = web.Response(
        status=status,
        body=msgspec.json.encode(body | more),
        content_type="application/problem+json",
    )
    if status == 503:
        response.headers["Retry-After"] = RETRY_AFTER
    if status == 410:
        # It may be restored, and a cache would keep it dark.
        response.headers["Cache-Control"] = "no-store"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def status_of(error: errors.ZerostorError) -> int:
    """The HTTP status of an error."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def _refusal(status: int, error: errors.ZerostorError) -> web.Response:
    more = {"master": error.master} if isinstance(error, errors.NotTheMaster) else {}
    answer = problem(status, error.code, str(error), **more)
    if isinstance(error, errors.TooManyRequests):
        answer.headers["Retry-After"] = str(error.seconds)
    if isinstance(error, UnclearEnd):
        answer.force_close()
    return answer


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into problem+json; what nobody foresaw is logged and says nothing of itself."""
    try:
        return await handler(request)
    except errors.ZerostorError as error:
        status = status_of(error)
        if status >= 500 and not isinstance(error, errors.NotTheMaster):
            _log.warning("%s %s: %s (request %s)", request.method, request.path, error,
                         CURRENT.get())
        if status == 500:
            return problem(status, error.code, "the gateway cannot answer this; see its log")
        return _refusal(status, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = HTTPStatus(error.status).phrase.lower().replace(" ", "-")
        answer = problem(error.status, code, error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except (ConnectionError, TimeoutError):
        raise
    except Exception:  # noqa: BLE001 - the last line of defence; it must not tell of itself
        _log.exception("%s %s (request %s)", request.method, request.path, CURRENT.get())
        return problem(500, "internal", "the gateway failed on this; see its log")
