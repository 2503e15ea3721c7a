"""zerostor login and what follows from it, by real processes, against honest and false gateways."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from tests.fakes.certificates import fingerprint, self_signed
from tests.fakes.person import Person
from tests.fakes.signing_gateway import SigningGateway, signing_gateway
from tests.fakes.tiny_gateway import CANNED, tiny_gateway

SECRET = "correct-horse-battery-staple"
QUESTION = "Is that the gateway you mean?"


@pytest.fixture
def ann(tmp_path: Path) -> Person:
    person = Person(tmp_path / "ann")
    person.key()
    return person


def credentials(person: Person) -> dict[str, dict[str, object]]:
    file = person.kept / "credentials"
    return json.loads(file.read_text()) if file.exists() else {}


def known(person: Person) -> str:
    file = person.kept / "known_gateways"
    return file.read_text() if file.exists() else ""


def test_a_person_signs_in_and_the_commands_use_it(ann: Person, tmp_path: Path) -> None:
    with signing_gateway() as gateway:
        photo = tmp_path / "photo.jpg"
        photo.write_bytes(b"photo")
        refused = ann.run("put", str(photo), "--server", gateway.url, code=1)
        assert f"zerostor login {gateway.url}" in refused.errors
        ended = ann.talk("login", gateway.url, answers=[(QUESTION, "y")])
        assert ended.code == 0, ended.told
        assert gateway.key.hex() in ended.told
        assert "as ann (user)" in ended.told
        assert known(ann) == f"{gateway.url} {gateway.key.hex()} -\n"
        assert stat.S_IMODE((ann.kept / "credentials").stat().st_mode) == 0o600
        link = ann.run("put", str(photo), "--server", gateway.url).told.strip()
        ann.run("get", link, "-o", str(tmp_path / "back.jpg"))
        assert (tmp_path / "back.jpg").read_bytes() == b"photo"
        ann.run("jobs", ZEROSTOR_SERVER=gateway.url)
        # The second time there is nothing to ask, and a script can do it.
        again = json.loads(ann.run("login", gateway.url, "--json").told)
        assert (again["name"], again["role"]) == ("ann", "user")
        assert len({login.date for login in gateway.logins}) == 2
        shown = ann.run("login", gateway.url, "--show").told.strip()
        assert shown in gateway.tokens
        assert shown not in (ann.kept / "credentials").read_text()
        for token in gateway.tokens:
            assert token not in ended.told + json.dumps(again)
        kept = credentials(ann)[gateway.url]["session"]
        assert "signed out" in ann.run("logout", gateway.url).told
        assert gateway.revoked == [kept]
        assert credentials(ann) == {}
        assert "zerostor login" in ann.run("jobs", ZEROSTOR_SERVER=gateway.url, code=1).errors


def test_nothing_is_taken_for_right_without_a_person(ann: Person) -> None:
    with signing_gateway() as gateway:
        told = ann.run("login", gateway.url, code=1).errors
        assert gateway.key.hex() in told
        assert "--yes" in told
        refused = ann.talk("login", gateway.url, answers=[(QUESTION, "n")])
        assert refused.code == 1
        assert gateway.logins == []
        assert known(ann) == ""
        ann.run("login", gateway.url, "--yes")
        assert credentials(ann)[gateway.url]["name"] == "ann"


def test_another_key_is_refused_loudly_until_the_old_one_is_forgotten(ann: Person) -> None:
    with signing_gateway() as gateway:
        ann.do("login", gateway.url, "--yes")
        before, pins, first = credentials(ann), known(ann), gateway.key.hex()
        gateway.signer = SigningKey.generate()
        gateway.claimed = gateway.key
        asked, presented = len(gateway.requests), len(gateway.presented)
        told = ann.do("login", gateway.url, "--yes", code=1)
        assert "THE KEY OF" in told
        assert "HAS CHANGED" in told
        assert first in told
        assert gateway.key.hex() in told
        assert f"zerostor logout --forget {gateway.url}" in told
        assert gateway.requests[asked:] == ["/api/pubkey"]
        assert gateway.presented[presented:] == [None]
        assert (credentials(ann), known(ann)) == (before, pins)
        ann.do("logout", "--forget", gateway.url)
        assert known(ann) == ""
        ann.do("login", gateway.url, "--yes")
        assert gateway.key.hex() in known(ann)


@pytest.mark.parametrize("false", ["signer", "user", "login", "bit", "none"])
def test_a_session_that_is_not_ours_by_that_key_is_refused(ann: Person, false: str) -> None:
    """A gateway that says the right key and has not got it; a token that was made for another."""
    with signing_gateway() as gateway:
        gateway.false = false
        told = ann.do("login", gateway.url, "--yes", code=1)
        assert "is not the gateway with the key" in told
        assert len(gateway.logins) == 1
        assert (credentials(ann), known(ann)) == ({}, "")


def test_a_signature_for_one_gateway_opens_no_other(ann: Person) -> None:
    """A false gateway passes on what was signed for it; nor does it get another key signed."""
    with signing_gateway() as true, signing_gateway() as false:
        ann.do("login", false.url, "--yes")
        stolen = false.logins[0]
        # Said to the true one as it is: signed for another key.
        body = {"key": stolen.key.hex(), "date": stolen.date, "signature": stolen.signature.hex()}
        assert _status(true, body) == 401
        # It claims the key of the true one: then its session is not signed by that.
        false.claimed = true.key
        ann.do("logout", "--forget", false.url)
        assert "is not the gateway with the key" in ann.do(
            "login", false.url, "--yes", code=1)
        assert credentials(ann) == {}


def _status(gateway: SigningGateway, body: dict[str, object]) -> int:
    from gateway.http_client import Client, Refused

    try:
        Client(gateway.url).ask("/api/authenticate", method="POST", body=body)
    except Refused as error:
        return error.status
    return 200


def test_a_secret_is_asked_for_and_not_shown(ann: Person, tmp_path: Path) -> None:
    with signing_gateway() as gateway:
        gateway.mode, gateway.secret = "secret", SECRET
        answers = [(QUESTION, "y"), ("Secret of", SECRET)]
        ended = ann.talk("login", gateway.url, answers=answers)
        assert ended.code == 0, ended.told
        assert SECRET not in ended.told
        ann.do("jobs", "--server", gateway.url)
        ann.do("logout", gateway.url)
        assert "zerostor login" in ann.do("jobs", "--server", gateway.url, code=1)
        file = tmp_path / "secret"
        file.write_text(f"{SECRET}\n")
        ann.do("login", gateway.url, "--secret-file", str(file))
        ann.do("jobs", "--server", gateway.url)
        ann.do("logout", gateway.url)
        assert "--secret-file" in ann.do("login", gateway.url, code=1)
        ann.do("login", ZEROSTOR_SERVER=gateway.url, ZEROSTOR_GATEWAY_SECRET=SECRET)
        assert credentials(ann)[gateway.url]["secret"] == SECRET
        file.write_text("something-else-altogether")
        told = ann.do("login", gateway.url, "--secret-file", str(file), code=1)
        assert "HTTP 401" in told
        assert credentials(ann)[gateway.url]["secret"] == SECRET


def test_where_nothing_is_needed_nothing_is_kept(ann: Person) -> None:
    with signing_gateway() as gateway:
        gateway.mode = "public"
        assert "nothing is needed" in ann.do("login", gateway.url)
        assert (credentials(ann), known(ann)) == ({}, "")
        gateway.mode = "something"
        assert "does not say how" in ann.do("login", gateway.url, code=1)
        gateway.mode, gateway.claimed = "keys", bytes(32)
        assert "does not say how" in ann.do("login", gateway.url, "--yes", code=1)


def test_who_has_no_key_is_told_how_to_get_one(tmp_path: Path) -> None:
    with signing_gateway() as gateway:
        told = Person(tmp_path / "bob").do("login", gateway.url, "--yes", code=1)
        assert "zerostor keygen" in told


@pytest.mark.parametrize("mode", ["keys", "secret", "public"])
def test_a_certificate_of_nobody_is_asked_for_and_kept(
        ann: Person, tmp_path: Path, mode: str) -> None:
    made, other = self_signed(tmp_path / "one.pem"), self_signed(tmp_path / "two.pem")
    with signing_gateway(made) as gateway:
        gateway.mode, gateway.secret = mode, SECRET if mode == "secret" else ""
        told = ann.do("jobs", "--server", gateway.url, code=1)
        assert f"zerostor login {gateway.url}" in told
        answers = [(QUESTION, "y")] + [("Secret of", SECRET)] * (mode == "secret")
        ended = ann.talk("login", gateway.url, answers=answers)
        assert ended.code == 0, ended.told
        assert fingerprint(made) in ended.told
        assert fingerprint(made) in known(ann)
        ann.do("jobs", "--server", gateway.url)
        presented = len(gateway.presented)
        # From here on another certificate gets no byte of ours.
        gateway.certify(other)
        for command in (["jobs", "--server"], ["login", "--yes"]):
            told = ann.do(*command, gateway.url, code=1)
            assert "THE CERTIFICATE OF" in told
            assert fingerprint(other) in told
        assert len(gateway.presented) == presented
        ann.do("logout", "--forget", gateway.url)
        assert len(gateway.presented) == presented
        ann.do("login", "--yes", gateway.url, *_given(tmp_path, mode))
        assert fingerprint(other) in known(ann)


def _given(folder: Path, mode: str) -> list[str]:
    (folder / "secret").write_text(SECRET)
    return ["--secret-file", str(folder / "secret")] if mode == "secret" else []


def test_what_a_gateway_says_cannot_paint_on_the_terminal(ann: Person) -> None:
    with signing_gateway() as gateway:
        gateway.called = "\x1b[2Jroot"
        assert "\x1b" not in ann.do("login", gateway.url, "--yes")


def test_a_session_that_is_over_is_begun_again_with_the_same_key(ann: Person) -> None:
    with signing_gateway() as gateway:
        gateway.lasts = -1.0
        ann.do("login", gateway.url, "--yes")
        over = credentials(ann)[gateway.url]["session"]
        gateway.lasts = 86_400.0
        ann.run("jobs", "--server", gateway.url)
        assert len(gateway.logins) == 2
        assert credentials(ann)[gateway.url]["session"] != over
        ann.do("jobs", "--server", gateway.url)
        assert len(gateway.logins) == 2
        # A secret that is stated has nothing to do with it, nor has who logged out.
        ann.do("logout", gateway.url)
        ann.do("jobs", "--server", gateway.url, code=1)
        assert len(gateway.logins) == 2


def test_only_the_known_gateway_begins_it_again(ann: Person) -> None:
    with signing_gateway() as gateway:
        gateway.lasts = -1.0
        ann.do("login", gateway.url, "--yes")
        before, presented = credentials(ann), len(gateway.presented)
        gateway.false = "signer"
        assert "is not the gateway with the key" in ann.do("jobs", "--server", gateway.url, code=1)
        assert gateway.presented[presented:] == [None], "it did not get the old one either"
        # Refused: then the gateway says what becomes of the old session.
        gateway.false, gateway.claimed = "", bytes(SigningKey.generate().verify_key)
        ann.do("jobs", "--server", gateway.url)
        assert credentials(ann) == before
        (ann.kept / "key").unlink()
        gateway.claimed = gateway.key
        ann.do("jobs", "--server", gateway.url)
        assert credentials(ann) == before


PAINT = "\x1b]0;owned\x07\x1b[2J\u202e\x9b1m\rboss"


def test_nothing_that_others_named_paints_on_the_terminal(
        ann: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    monkeypatch.setitem(CANNED, "jobs", CANNED["jobs"] | {
        "workers": [PAINT], "failed": [{"job": PAINT, "detail": PAINT}]})
    monkeypatch.setitem(CANNED, "check", CANNED["check"] | {"state": PAINT})
    with signing_gateway() as gateway:
        gateway.mode, server = "public", ("--server", gateway.url)
        link = ann.do("put", str(tmp_path / "a"), *server).split("/")[-1].strip()
        gateway.fail = PAINT
        told = [ann.do("put", str(tmp_path / "a"), *server),
                ann.do("jobs", *server), ann.do("check", link, *server, code=1),
                ann.do("status", "0" * 32, *server, code=1)]
    assert "boss" in told[1] and "boss" in told[2] and "boss" in told[3]
    assert not [text for text in told if any(sign in text for sign in "\x1b\x07\x9b\r\u202e")]


def test_a_gateway_that_sends_us_elsewhere_uses_nothing_of_ours(ann: Person) -> None:
    """Else it could have us ask another one, who knows us, for what it likes."""
    with signing_gateway() as ours, tiny_gateway() as false:
        ann.do("login", ours.url, "--yes")
        false.moved = ours.url
        ann.do("get", f"{false.url}/{'0' * 56}", "-o", "-", code=1)
        assert ours.opened_by == [None]
