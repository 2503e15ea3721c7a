"""The page at / of a gateway that asks who one is: by its secret, by keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.browser import Visit, browser
from tests.fakes.running_up import Up, content_of
from tests.integration.test_keys_mode import ANNA, BOSS, Keyed, line
from tests.integration.test_secret_mode import BEARER, SECRET
from zerostor.core.sign_in import Role


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with browser() as found:
        yield found


def url(up: Up) -> str:
    return f"http://127.0.0.1:{up.port}"


def stranger(visit: Visit, link: str) -> None:
    """What everybody may, and nothing else, is on the page."""
    visit.see("#sign-in")
    visit.see("#health", "for who signs in")
    for hidden in ("#upload", "#stores", "#jobs", "#events", "#now", "#live"):
        assert not visit.page.locator(hidden).is_visible(), hidden
    visit.page.fill("#hash", link)
    visit.press("#lookup button", "Look it up")
    visit.see(".verdict.healthy")
    assert visit.page.locator(".acts button:visible").all_text_contents() == ["Look again"]


def sign_in(visit: Visit, secret: str) -> None:
    visit.page.fill("#secret", secret)
    visit.press("#sign-in button")


def test_the_secret_opens_it(running: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    gateway = f'[gateway]\nsecurity = "secret"\nsecret_file = "{tmp_path}/secret"\n'
    with Up(tmp_path / "z", gateway) as up:
        link = up.upload(content_of(2000), BEARER, ext="bin", wait=60).link
        with Visit(running, url(up)) as visit:
            asked: list[str] = []
            visit.page.on("request", lambda request: asked.append(request.url))
            stranger(visit, link)
            sign_in(visit, "not-the-secret-of-this")
            visit.see("#sign-in-why", "not the secret")
            sign_in(visit, SECRET)
            visit.see(".bay >> nth=19")
            visit.see("#live", "live")
            visit.choose(("a.txt", b"with the secret"))
            visit.see("#uploads .link")
            visit.page.reload()
            visit.see("#live", "live")
            visit.press("#sign-out")
            visit.see("#sign-in")
            visit.gone("#stores")
            assert not [address for address in asked if SECRET in address], "in no address"


def test_admins_see_everything_and_users_what_is_theirs(running: Any, tmp_path: Path) -> None:
    up = Keyed(tmp_path / "z", '[gateway]\nsecurity = "keys"\n'
               f'keys_file = "{tmp_path}/z.keys"\n')
    up.list.write_text(line(BOSS, "boss", Role.ADMIN) + line(ANNA, "anna"))
    with up:
        boss, anna = (up.sign_in(key)["Authorization"].split()[1] for key in (BOSS, ANNA))
        link = up.upload(content_of(2000), {"Authorization": f"Bearer {boss}"}, ext="bin",
                         wait=60).link
        with Visit(running, url(up)) as visit:
            stranger(visit, link)
            sign_in(visit, anna)
            visit.see("#health", "signed in")
            visit.choose(("hers.txt", b"of anna"))
            visit.press("#uploads button:has-text('Check')")
            visit.press(".acts button", "Remove…")
            visit.press("dialog .danger")
            visit.press(".acts button", "Bring it back")
            visit.see(".verdict.healthy")
            for hidden in ("#stores", "#jobs", "#events", "#live"):
                assert not visit.page.locator(hidden).is_visible(), hidden
            assert visit.page.locator(".acts", has_text="Quarantine").count() == 0
            visit.press("#sign-out")
            sign_in(visit, boss)
            visit.see(".bay >> nth=19")
            visit.see("#live", "live")
