"""The pages are small, whole, and do nothing that their own policy forbids."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from gateway import page
from gateway.content import Content
from gateway.services import SERVICES

FOLDER = Path(page.__file__).parent / "explorer"
PAGES = ("index.html", "docs.html")
SIZE_MAX = 99_000


class Reader(HTMLParser):
    """Gathers what a test asks of a page."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.forbidden: list[str] = []
        self.wanted: list[str] = []
        self.ids: list[str] = []
        self.pointers: list[str] = []
        self._script = False
        self.feed((FOLDER / name).read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script = tag == "script"
        self.forbidden += [name for name in given if name.startswith("on") or name == "style"]
        self.forbidden += [tag] if tag in ("style", "base", "iframe") else []
        self.wanted += [given[key] or "" for key in ("src", "href")
                        if key in given and tag in ("script", "link", "img")]
        self.ids += [given["id"] or ""] if "id" in given else []
        for key in ("for", "aria-labelledby", "aria-describedby"):
            self.pointers += (given.get(key) or "").split()

    def handle_data(self, text: str) -> None:
        if self._script and text.strip():
            self.forbidden.append(text)


def app() -> web.Application:
    routes = web.Application()
    routes[SERVICES] = cast("Any", SimpleNamespace(content=Content("https://files.example.org")))
    routes.add_routes([web.get("/", page.index), web.get("/docs", page.docs),
                       web.get("/explorer/{name}", page.asset)])
    return routes


@pytest.mark.parametrize("name", PAGES)
def test_nothing_inline_that_the_policy_blocks(name: str) -> None:
    assert Reader(name).forbidden == []


@pytest.mark.parametrize("name", PAGES)
async def test_all_that_a_page_asks_for_is_served(aiohttp_client: AiohttpClient, name: str) -> None:
    client = await aiohttp_client(app())
    wanted = [url for url in Reader(name).wanted if not url.startswith("data:image/")]
    assert len(wanted) >= 2
    for url in wanted:
        assert url.startswith("/"), "nothing comes from elsewhere"
        answer = await client.get(url)
        assert answer.status == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = await client.get(url, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_policy_goes_with_the_page(aiohttp_client: AiohttpClient, path: str) -> None:
    answer = await (await aiohttp_client(app())).get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "img-src 'self' data: https://files.example.org;" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.content_type == "text/html"


@pytest.mark.parametrize("name", ["index.html", "nope.js", "..%2fpage.py", "%2e%2e/page.py", ""])
async def test_only_styles_and_scripts_are_parts(aiohttp_client: AiohttpClient, name: str) -> None:
    assert (await (await aiohttp_client(app())).get(f"/explorer/{name}")).status == 404


@pytest.mark.parametrize("name", PAGES)
def test_labels_point_at_something(name: str) -> None:
    reader = Reader(name)
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.pointers) <= set(reader.ids)


SCRIPTS = sorted(path.name for path in FOLDER.glob("*.js"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_find_what_they_look_for(script: str) -> None:
    text = (FOLDER / script).read_text()
    looked_for = re.findall(r'(?:\$|getElementById)\("([\w-]+)"\)', text)
    assert set(looked_for) <= set(Reader("docs.html" if script == "docs.js" else "index.html").ids)
    for markup in ("innerHTML", "outerHTML", "insertAdjacentHTML", "DOMParser", "eval("):
        assert markup not in text, "names of files and stores are text, never markup"


def test_all_scripts_are_asked_for_at_once() -> None:
    """Else the browser learns of each only from the one that imports it."""
    wanted = {url.rpartition("/")[2] for url in Reader("index.html").wanted}
    assert set(SCRIPTS) - {"docs.js"} <= wanted


def test_the_pages_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < SIZE_MAX
