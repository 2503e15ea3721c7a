"""A real browser for tests: this system's Chromium, driven by Playwright; what a page did is noted.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome",
         "/Applications/Chromium.app/Contents/MacOS/Chromium",
         "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
REQUIRED = "BROWSER_TESTS"
"""Environment: `required` where a missing browser is a failure and no reason to skip."""
PATIENCE_MS = 60_000
HARMLESS = ("Failed to load resource", "net::ERR_")
"""The browser's own words about answers that are no 2xx: the page tells of those itself."""
_T = TypeVar("_T")


def chromium() -> str:
    """Where it is; skips, or fails where it has to be, with the reason."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    why = "" if found else "no Chromium here: apt install chromium"
    try:
        import playwright  # noqa: F401
    except ImportError:
        why = "playwright is not installed: pip install -e '.[test]'"
    if why and os.environ.get(REQUIRED) == "required":
        pytest.fail(f"the page cannot be tested: {why}")
    if why:
        pytest.skip(why)
    return str(found)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window. One at a time in a process, and no event loop beside it."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    options = ["--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
    if sys.platform == "linux" and os.geteuid() == 0:
        options.append("--no-sandbox")  # as root it starts no other way
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=options)
        try:
            yield running
        finally:
            running.close()


def aside(work: Callable[..., _T], *arguments: Any) -> _T:
    """The result of `work` from a thread of its own: Playwright's loop runs in this one."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()


class Visit:
    """A page at `url`, in a window of its own. said: what its console and its errors told; asked:
    requests to where it may not ask.
    """

    def __init__(self, running: Any, url: str, *, width: int = 1200, path: str = "/",
                 **options: Any) -> None:
        self.url = url
        self.said: list[str] = []
        self.asked: list[str] = []
        self.size = 0
        self.context = running.new_context(viewport={"width": width, "height": 800}, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(url + path)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.context.close()
        if kind is None:
            assert self.said == [], "the console of the browser"
            assert self.asked == [], "requests to elsewhere"

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(
                harmless in message.text for harmless in HARMLESS):
            self.said.append(message.text)

    def _request(self, request: Any) -> None:
        home, there = urlsplit(self.url), urlsplit(request.url)
        if there.scheme in ("http", "https", "ws", "wss") and there.netloc != home.netloc:
            self.asked.append(request.url)

    def see(self, selector: str, text: str = "") -> Any:
        """The first element that fits, once it is seen."""
        found = self.page.locator(selector)
        if text:
            found = found.filter(has_text=text)
        found.first.wait_for(state="visible")
        return found.first

    def gone(self, selector: str) -> None:
        """Wait until nothing that fits is seen."""
        self.page.locator(selector).first.wait_for(state="hidden")

    def press(self, selector: str, text: str = "") -> None:
        """Click it, once it is seen."""
        self.see(selector, text).click()

    def run(self, script: str, argument: Any = None) -> Any:
        """What a JavaScript expression or function comes to in the page."""
        return self.page.evaluate(script, argument)

    def until(self, script: str, argument: Any = None) -> None:
        """Wait until a JavaScript expression or function is true in the page."""
        self.page.wait_for_function(script, arg=argument)

    def choose(self, *files: tuple[str, bytes]) -> None:
        """Files for the file chooser of the page."""
        self.page.set_input_files("#files", [
            {"name": name, "mimeType": "application/octet-stream", "buffer": body}
            for name, body in files])

    def tab_to(self, selector: str, most: int = 120) -> None:
        """Press Tab until what fits has the focus."""
        for _ in range(most):
            self.page.keyboard.press("Tab")
            if self.run("(wanted) => document.activeElement.matches(wanted)", selector):
                return
        raise AssertionError(f"no way to {selector} by Tab")
