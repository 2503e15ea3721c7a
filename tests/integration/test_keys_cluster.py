"""Two gateways of one cluster: signed in at one is signed in at both, and out as well."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.running_up import ROOT, Answer, Up, tied
from tests.integration.test_keys_mode import ANNA, BOSS, Keyed, line, told
from zerostor.core.sign_in import Role

SECRET = "0123456789abcdef0123456789abcdef"


class Beside(Keyed):
    """A gateway process beside that of `up`, on its Redis and metadata."""

    def __init__(self, up: Up) -> None:
        super().__init__(up.folder.with_name("beside"))
        run = up.folder / "run"
        self.settings.write_text(
            f'[redis]\nurl = "unix://{run}/redis.sock"\n[metadata]\nurl = "unix://{run}/zdb.sock"\n'
            + settings(up, self.port))

    def start(self, *, wait: bool = True) -> None:
        command = [sys.executable, "-m", "gateway", "gateway", "--data", str(self.folder),
                   "--config", str(self.settings), "--listen", f"127.0.0.1:{self.port}"]
        with open(self.screen_file, "ab") as screen:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=screen, stderr=screen,
                                            stdin=subprocess.DEVNULL, preexec_fn=tied)
        self.until(lambda: self.get("/healthz").status == 200, "it answers")


def settings(up: Up, port: int) -> str:
    secret = up.folder.with_suffix(".secret")
    secret.write_text(SECRET)
    return (f'[gateway]\nsecurity = "keys"\nkeys_file = "{up.folder}.keys"\n[cluster]\n'
            f'secret_file = "{secret}"\nadvertise = "http://127.0.0.1:{port}"\n')


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    up = Keyed(tmp_path_factory.mktemp("c") / "z")
    up.settings.write_text(settings(up, up.port))
    up.list.write_text(line(BOSS, "boss", Role.ADMIN) + line(ANNA, "anna"))
    beside = Beside(up)
    try:
        up.start()
        beside.start()
        for gateway in (up, beside):
            gateway.until(lambda one=gateway: one.asked(
                "/api/authenticate", one.login(BOSS)).status == 200, "logins are taken")
        yield up, beside
    finally:
        for gateway in (beside, up):
            gateway.close()


def test_they_have_one_key_and_take_a_login_once(both):
    up, beside = both
    assert up.get("/api/pubkey").body == beside.get("/api/pubkey").body
    for _ in range(3):
        login = up.login(ANNA)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number, login=login: both[number % 2].asked(
                "/api/authenticate", login).status, range(8)))
        assert sorted(answers) == [200] + [401] * 7


def test_a_session_is_good_and_void_at_both(both):
    up, beside = both
    anna = up.sign_in(ANNA)
    assert up.get("/api/sessions", anna).status == 200
    assert beside.get("/api/sessions", anna).status == 200
    (current,) = [one for one in up.get("/api/sessions", anna).json["sessions"] if one["current"]]
    # At the other one than where it was issued, by who has it.
    assert beside.asked("/api/sessions/revoke", {"session": current["session"]}, anna).status == 200
    told(beside.get("/api/sessions", anna), 401, "sign-in-needed")
    up.until(lambda: up.get("/api/sessions", anna).status == 401, "the other one heard of it")


def test_a_redis_that_forgot_opens_nothing_again(both):
    up, beside = both
    boss, anna, login = up.sign_in(BOSS), up.sign_in(ANNA), up.login(ANNA)
    assert up.asked("/api/authenticate", login).status == 200
    key = bytes(ANNA.verify_key).hex()
    assert up.asked("/api/sessions/revoke", {"key": key}, boss).status == 200
    beside.until(lambda: beside.get("/api/sessions", anna).status == 401, "it is void there")
    up.redis("FLUSHALL")
    told(beside.asked("/api/authenticate", login), 503, "queue-unavailable")
    again = beside.until(lambda: _not_503(beside.asked("/api/authenticate", login)),
                         "logins are taken")
    told(again, 401, "sign-in-needed")
    told(beside.get("/api/sessions", anna), 401, "sign-in-needed")
    up.until(lambda: up.redis("ZCARD", "{zerostor}:revoked"), "it was told again")
    assert beside.get("/api/sessions", beside.sign_in(ANNA)).status == 200


def test_without_redis_who_is_signed_in_stays_so(both):
    up, beside = both
    boss = up.sign_in(BOSS)
    with up.stopped("redis"):
        told(beside.asked("/api/authenticate", beside.login(BOSS)), 503, "queue-unavailable")
        assert beside.get("/api/sessions", boss).status == 200
    beside.until(lambda: beside.asked("/api/authenticate", beside.login(BOSS)).status == 200,
                 "logins are taken again")


def _not_503(answer: Answer) -> Answer | None:
    return None if answer.status == 503 else answer
