"""What strangers stored, in a browser: what may act there, and on which host name it is served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from aiohttp import web

from zerostor.core.errors import WrongHost
from zerostor.core.link import Hash, format_link
from zerostor.core.media_types import is_inert

OBJECT_PATH = "/{link}"
"""The route of objects."""


@dataclass(frozen=True)
class Content:
    """url: scheme and host of the one origin that serves objects and nothing else; empty: any does.

    inline: whether also what may act in a browser is shown there, not saved.
    """

    url: str = ""
    inline: bool = False

    def link(self, name: str) -> str:
        """Where `name`, HASH.ext, is served."""
        return f"{self.url}/{name}"

    def disposition(self, name: str, ext: str) -> str | None:
        """The Content-Disposition of an object; None where it may be shown. name: its HASH.ext, of
        whose characters none has a meaning in a header.
        """
        return None if self.inline or is_inert(ext) else f'attachment; filename="{name}"'

    def require_host(self, request: web.Request) -> None:
        """Return unless what is no object was asked of the host of objects. Raises WrongHost."""
        if self._is_here(request) and _path_of(request) != OBJECT_PATH:
            raise WrongHost("this host name serves objects and nothing else: ask the gateway by its"
                            " own name")

    def elsewhere(self, request: web.Request, wanted: Hash, ext: str) -> web.Response | None:
        """The way to an object for who asked another host for it; None where it is served."""
        if not self.url or self._is_here(request):
            return None
        # Without the query, which may have a secret in it; and not kept, for names may change.
        return web.Response(status=308, headers={
            "Location": self.link(format_link(wanted, ext)), "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer"})

    @cached_property
    def _host(self) -> str:
        return host_of(self.url)

    def _is_here(self, request: web.Request) -> bool:
        return bool(self.url) and host_of(f"//{request.host}") == self._host


ANY_HOST = Content()


def host_of(url: str) -> str:
    """The host name in it, in one spelling; empty for none. Ports do not count: proxies have their
    own.
    """
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _path_of(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical
