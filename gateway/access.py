"""What a route requires of who asks, and a route with it: none can be made without."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from aiohttp import web

from gateway.http_errors import Handler

READS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


class Access(enum.Enum):
    """Who is let through, in the modes secret and keys; and in mode public, where it is the first
    that counts: whoever reaches the gateway, unless something else is said.
    """

    PUBLIC = "everybody"
    USER = "a user or an admin"
    HOME = "a user for the home that has his name, or an admin; in mode public ssh.admin decides"
    HOMES = "an admin; in mode public ssh.admin decides"
    OWNER = "an admin, or who uploaded the object; in mode public a program on the gateway's host"
    ADMIN = "an admin"
    LOCAL = "an admin; in mode public a program on the gateway's host"
    HERE = "an admin on the gateway's host; in mode public a program there"
    HOST = "a host of the cluster, by the token of its request, which the route itself checks"


Expect: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Answers `Expect: 100-continue`; None lets the request go on."""
Required: TypeAlias = Access | Callable[[web.Request], Access]
"""What a route requires; a function where its parameters decide."""


class Route(NamedTuple):
    """One path and what answers there. methods: GET is followed by HEAD where that is answered."""

    path: str
    methods: tuple[str, ...]
    handler: Handler
    access: Required
    expect: Expect | None = None


def get(path: str, handler: Handler, access: Required) -> Route:
    """GET, and HEAD."""
    return Route(path, ("GET", "HEAD"), handler, access)


def get_only(path: str, handler: Handler, access: Required) -> Route:
    """GET without HEAD."""
    return Route(path, ("GET",), handler, access)


def post(path: str, handler: Handler, access: Required, expect: Expect | None = None) -> Route:
    """POST."""
    return Route(path, ("POST",), handler, access, expect)


def delete(path: str, handler: Handler, access: Required) -> Route:
    """DELETE."""
    return Route(path, ("DELETE",), handler, access)


REQUIRED: web.AppKey[dict[web.AbstractRoute, Required]] = web.AppKey("required", dict)


def add_routes(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Have `app` answer them, and remember what each requires."""
    app[REQUIRED] = {app.router.add_route(method, route.path, route.handler,
                                          expect_handler=route.expect): route.access
                     for route in routes for method in route.methods}


def required_of(app: web.Application) -> dict[tuple[str, str], Required]:
    """What the routes of `app` require, by method (lower case) and path."""
    return {(route.method.lower(), route.resource.canonical): required
            for route, required in app[REQUIRED].items() if route.resource is not None}


def access_of(request: web.Request, app: web.Application) -> Access | None:
    """What the route of `request` in `app` requires; None for one that was not made here."""
    required = app[REQUIRED].get(request.match_info.route)
    return required(request) if callable(required) else required
