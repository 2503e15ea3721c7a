"""The command line and a running zerostor where people sign in with their keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.person import Ended, Person
from tests.fakes.running_up import Answer, Up, content_of

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHoVbl9x0D6yjMBdpvSnVXyfp0iJ0ph38n0xGtT3Jqxk\n"


class House:
    """A zerostor in mode keys, its boss, and anna, who may use it."""

    def __init__(self, folder: Path) -> None:
        self.up = Up(folder / "zerostor", '[gateway]\nsecurity = "keys"\n'
                     "[ssh]\nenabled = true\nlisten = '127.0.0.1:0'\n")
        self.boss, self.anna = Person(folder / "boss"), Person(folder / "anna")
        self.keys = {"boss": self.boss.key(), "anna": self.anna.key()}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.up.port}"

    def list(self, *arguments: str) -> str:
        """`zerostor keys`, on the host of the gateway."""
        return self.boss.do("keys", *arguments, "--data", str(self.up.folder), "--config",
                            str(self.up.settings))

    def sign_in(self, person: Person) -> None:
        person.do("login", self.url, "--yes")


def works(person: Person, *arguments: str) -> bool:
    try:
        person.do(*arguments)
    except AssertionError:
        return False
    return True


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    made.list("add", "boss", made.keys["boss"], "--role", "admin")
    made.list("add", "anna", made.keys["anna"])
    try:
        made.up.start()
        made.sign_in(made.boss)
        made.sign_in(made.anna)
        yield made
    finally:
        made.up.close()


def test_a_user_stores_and_reads(house: House, tmp_path: Path) -> None:
    anna, server = house.anna, ("--server", house.url)
    file = tmp_path / "photo.jpg"
    file.write_bytes(content_of(3_000_000))
    nobody = Person(tmp_path / "nobody")
    told = nobody.do("put", str(file), *server, code=1)
    assert f"zerostor login {house.url}" in told
    link = anna.run("put", str(file), *server).told.strip()
    for person in (anna, nobody):
        person.do("get", link, "-o", str(tmp_path / "back.jpg"))
        assert (tmp_path / "back.jpg").read_bytes() == file.read_bytes()
        person.do("exists", link)
        person.do("check", link)
    anna.do("check", link, "--hard")
    assert "zerostor login" in nobody.do("check", link, "--hard", code=1)
    accepted = anna.do("put", str(file), "--no-wait", "--ext", "png", *server).split()[-1]
    nobody.do("status", accepted, "--wait", "60", *server)


def test_each_command_says_who_asks(house: House, tmp_path: Path) -> None:
    boss, anna, nobody = house.boss, house.anna, Person(tmp_path / "nobody")
    server = ("--server", house.url)
    key = tmp_path / "id.pub"
    key.write_text(PUBLIC)
    house.up.until(lambda: works(boss, "ssh-enable", "anna", "--key", str(key), *server),
                   "the home is made")
    for asked in ("stores", "jobs", "ssh-size", "ssh-size anna", "ssh-links anna",
                  "ssh-events anna", "sessions ls"):
        words = asked.split()
        boss.do(*words, *server)
        assert "zerostor login" in nobody.do(*words, *server, code=1), asked
    for asked in ("node ls", "node jobs", "node events", "node ledger", "telemetry ls",
                  "telemetry read x", "telemetry write x y", "node rm x --yes", "node rotate x"):
        assert "no node hub" in boss.do(*asked.split(), *server, code=1), asked
        assert "zerostor login" in nobody.do(*asked.split(), *server, code=1), asked
    for asked in ("ssh-size anna", "ssh-links anna", "sessions ls"):
        anna.do(*asked.split(), *server)
    for asked in ("stores", "jobs", "ssh-size", "ssh-size boss", "node ls"):
        told = anna.do(*asked.split(), *server, code=1)
        assert "HTTP 403" in told, asked
        assert "zerostor login" not in told, "who signed in is not told to do so"


def test_a_session_is_listed_and_revoked(house: House, tmp_path: Path) -> None:
    boss, server = house.boss, ("--server", house.url)
    cleo = Person(tmp_path / "cleo")
    key = cleo.key()
    assert "HTTP 401" in cleo.do("login", house.url, "--yes", code=1)
    assert not (cleo.kept / "known_gateways").exists(), "who is not let in has no proof of a key"
    house.list("add", "cleo", key)
    house.up.until(lambda: works(cleo, "login", house.url, "--yes"), "the list was read again")
    shown = cleo.do("sessions", "ls", *server)
    assert shown.count("cleo") == 1
    assert "this one" in shown
    assert "boss" in boss.do("sessions", "ls", *server)
    (one,) = json.loads(cleo.do("sessions", "ls", "--json", *server))["sessions"]
    assert "1 session revoked" in boss.do("sessions", "revoke", one["session"], *server)
    assert "zerostor login" in cleo.do("sessions", "ls", *server, code=1)
    house.sign_in(cleo)
    cleo.do("sessions", "revoke", "--key", key, *server)
    assert "zerostor login" in cleo.do("sessions", "ls", *server, code=1)
    house.sign_in(cleo)
    secret = json.loads((cleo.kept / "credentials").read_text())[house.url]["secret"]
    cleo.do("logout", house.url)
    told = house.up.get("/api/sessions", {"Authorization": f"Bearer {secret}"})
    assert told.status == 401, "who signs out ends the session at the gateway"
    house.sign_in(cleo)
    house.list("rm", "cleo")
    house.up.until(lambda: not works(cleo, "sessions", "ls", *server), "the list was read again")


def test_no_secret_is_in_what_is_written(house: House, tmp_path: Path) -> None:
    """Logs of all processes, what they printed, and what the commands told."""
    told = house.anna.do("login", house.url) + house.anna.do("login", house.url, "--json")
    shown = house.anna.do("login", house.url, "--show").split()[-1]
    assert re.fullmatch(r"zs1\.[\w-]{194}", shown)
    assert house.up.get(f"/api/sessions?secret={shown}").status == 200
    kept = json.loads((house.anna.kept / "credentials").read_text())[house.url]["secret"]
    seed = (house.anna.kept / "key").read_text().strip()
    written = told + house.up.screen() + "".join(
        log.read_text(errors="replace") for log in (house.up.folder / "logs").glob("*"))
    for secret in (kept, shown, seed, kept[4:], shown[4:]):
        assert secret not in written
    assert (house.anna.kept / "credentials").stat().st_mode & 0o077 == 0


def test_who_uploads_too_much_waits_and_others_do_not(tmp_path: Path) -> None:
    """By key and not by address: all of them are on this host."""
    house = House(tmp_path)
    house.up.settings.write_text(house.up.settings.read_text() + "[limits]\nkey_uploads = 12\n")
    for name, key in house.keys.items():
        house.list("add", name, key)
    file = tmp_path / "a.txt"
    file.write_text("of anna")
    with house.up:
        house.sign_in(house.boss)
        secret = house.anna.do("login", house.url, "--yes", "--show").strip().splitlines()[-1]
        house.sign_in(house.anna)

        def refused() -> Answer | None:
            answer = house.up.upload(b"x", {"Authorization": f"Bearer {secret}"})
            return answer if answer.status == 429 else None

        def waited() -> Ended | None:
            answer = house.up.until(refused, "she has none left")
            assert 1 <= int(answer.headers["Retry-After"]) <= 6
            assert "key" in answer.json["detail"]
            house.boss.do("put", str(file), "--server", house.url)
            said = house.anna.run("put", str(file), "--json", "--server", house.url)
            told = json.loads(said.told)
            assert (told["state"], told["size"]) == ("DONE", file.stat().st_size)
            # Else this took so long that she had one again.
            return said if "trying again in" in said.errors else None

        assert "limits.key_uploads" in house.up.until(waited, "she waits").errors
