"""A running zerostor where people sign in with their keys."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time

import pytest
from nacl.signing import SigningKey

from gateway.attempts import BURST
from tests.fakes.running_up import Answer, Up, content_of
from zerostor.core.sign_in import (
    KnownKey,
    Role,
    decode_token,
    is_issued,
    key_line,
    login_message,
    login_of,
)

JSON = {"Content-Type": "application/json"}
BOSS, ANNA, BOB, NOBODY = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3, 4))


def line(key: SigningKey, name: str, role: Role = Role.USER) -> str:
    return key_line(KnownKey(bytes(key.verify_key), name, role)) + "\n"


class Keyed(Up):
    """`up` in mode keys."""

    @property
    def list(self):
        return self.folder.with_suffix(".keys")

    def asked(self, path: str, body: object, headers: dict[str, str] | None = None) -> Answer:
        return self.ask("POST", path, json.dumps(body).encode(), JSON | (headers or {}))

    def login(self, key: SigningKey, date: str | None = None, gateway: str = "") -> dict[str, str]:
        date = date or f"{time.time():.6f}"
        gateway = gateway or self.get("/api/pubkey").body.decode()
        message = login_message(bytes.fromhex(gateway), date)
        return {"key": bytes(key.verify_key).hex(), "date": date,
                "signature": key.sign(message).signature.hex()}

    def sign_in(self, key: SigningKey) -> dict[str, str]:
        """Headers of a new session."""
        answer = self.asked("/api/authenticate", self.login(key))
        assert answer.status == 200, answer.body
        return {"Authorization": f"Bearer {answer.json['secret']}"}


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    running = Keyed(folder / "zerostor",
                    f'[gateway]\nsecurity = "keys"\nkeys_file = "{folder}/zerostor.keys"\n'
                    "[ssh]\nenabled = true\nlisten = '127.0.0.1:0'\n")
    running.list.write_text(
        line(BOSS, "boss", Role.ADMIN) + line(ANNA, "anna") + line(BOB, "bob"))
    try:
        running.start()
        boss = running.sign_in(BOSS)
        running.until(lambda: running.get("/api/ssh/homes", boss).status == 200, "homes answer")
        yield running
    finally:
        running.close()


def told(answer, status, code):
    assert answer.status == status, (answer.status, answer.body)
    assert answer.json["type"] == f"urn:zerostor:{code}"
    return answer.json["detail"]


def test_a_key_becomes_a_session(up):
    login = up.login(ANNA)
    answer = up.asked("/api/authenticate", login)
    assert answer.status == 200, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    told_of = answer.json
    assert (told_of["name"], told_of["role"]) == ("anna", "user")
    assert 86_000 < told_of["expires"] - time.time() < 87_000
    token = decode_token(told_of["secret"])
    gateway = bytes.fromhex(up.get("/api/pubkey").body.decode())
    assert is_issued(token, gateway) and told_of["key"] == gateway.hex()
    assert token.session.key == bytes(ANNA.verify_key)
    assert token.session.login == login_of(bytes.fromhex(login["signature"]))
    assert token.session.id.hex() == told_of["session"]
    bearer = {"Authorization": f"Bearer {told_of['secret']}"}
    link = up.upload(content_of(10_000), bearer, ext="bin", wait=60).link
    assert up.get(link).body == content_of(10_000)
    assert up.upload(b"x").status == 401
    assert up.upload(b"x", None, secret=told_of["secret"]).status == 202
    asked = up.get("/api/pubkey", {"Accept": "application/json"}).json
    assert asked == {"key": gateway.hex(), "security": "keys"}


def test_a_login_is_good_once_also_after_a_restart(up):
    login = up.login(ANNA)
    assert up.asked("/api/authenticate", login).status == 200
    first = told(up.asked("/api/authenticate", login), 401, "sign-in-needed")
    up.kill("gateway")
    up.ready()
    again = up.until(lambda: up.asked("/api/authenticate", login), "it answers")
    assert told(again, 401, "sign-in-needed") == first
    unknown = up.asked("/api/authenticate", up.login(NOBODY))
    assert told(unknown, 401, "sign-in-needed") == first, "which of these it was is not told"


def test_roles(up):
    boss, anna = up.sign_in(BOSS), up.sign_in(ANNA)
    for path in ("/api/stores", "/api/jobs", "/metrics", "/api/ssh/homes"):
        assert up.get(path, boss).status == 200, path
        told(up.get(path, anna), 403, "not-allowed")
        told(up.get(path), 401, "sign-in-needed")


def test_a_user_has_his_own_home(up):
    boss, anna, bob = up.sign_in(BOSS), up.sign_in(ANNA), up.sign_in(BOB)
    ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkBxA"
    asked = {"username": "anna", "sshpubkey": ssh_key}
    told(up.asked("/api/ssh/enable", asked, bob), 403, "not-allowed")
    told(up.asked("/api/ssh/enable", asked | {"max_size_mb": 10**6}, anna), 403, "not-allowed")
    made = up.asked("/api/ssh/enable", asked, anna)
    assert made.status == 200, made.body
    for path in ("size", "links", "events"):
        assert up.get(f"/api/ssh/{path}/anna", anna).status == 200
        assert up.get(f"/api/ssh/{path}/anna", boss).status == 200
        told(up.get(f"/api/ssh/{path}/anna", bob), 403, "not-allowed")
        told(up.get(f"/api/ssh/{path}/nobody", bob), 403, "not-allowed")
        told(up.get(f"/api/ssh/{path}/anna"), 401, "sign-in-needed")
    (up.folder / "homes" / "anna" / "a.txt").write_text("mine")
    wanted = {"user": "anna", "path": "/a.txt"}
    told(up.asked("/api/ssh/process", wanted, bob), 403, "not-allowed")
    assert up.asked("/api/ssh/process", wanted, anna).status == 202
    told(up.asked("/api/ssh/disable", {"user": "anna"}, anna), 403, "not-allowed")
    fingerprint = made.json["keys"][0]["fingerprint"]
    assert up.asked("/api/ssh/disable", {"user": "anna", "fingerprint": fingerprint},
                    anna).status == 200
    assert up.asked("/api/ssh/disable", {"user": "anna"}, boss).status == 200
    told(up.asked("/api/ssh/enable", asked, anna), 403, "not-allowed")
    assert up.asked("/api/ssh/enable", asked, boss).status == 200


def test_sessions_are_listed_and_revoked(up):
    boss, anna, other, bob = (up.sign_in(key) for key in (BOSS, ANNA, ANNA, BOB))
    mine = up.get("/api/sessions", anna).json["sessions"]
    assert {one["name"] for one in mine} == {"anna"}
    (current,) = [one for one in mine if one["current"]]
    assert current["address"] == "127.0.0.1"
    everybody = up.get("/api/sessions", boss).json["sessions"]
    assert {one["name"] for one in everybody} == {"anna", "bob", "boss"}
    told(up.asked("/api/sessions/revoke", {"session": current["session"]}, bob), 404,
         "unknown-session")
    told(up.asked("/api/sessions/revoke", {"key": current["key"]}, bob), 403, "not-allowed")
    assert up.get("/api/telemetry", anna).status == 404, "bob changed nothing"
    revoked = up.asked("/api/sessions/revoke", {"session": current["session"]}, anna)
    assert revoked.json == {"revoked": 1}
    assert "revoked" in told(up.get("/api/sessions", anna), 401, "sign-in-needed")
    left = up.get("/api/sessions", other).json["sessions"]
    assert current["session"] not in [one["session"] for one in left]
    up.kill("gateway")
    up.ready()
    up.until(lambda: up.get("/api/sessions", boss).status == 200, "it answers")
    assert "revoked" in told(up.get("/api/sessions", anna), 401, "sign-in-needed")
    assert up.get("/api/sessions", other).status == 200
    assert up.asked("/api/sessions/revoke", {"key": current["key"]}, boss).json["revoked"] >= 1
    told(up.get("/api/sessions", other), 401, "sign-in-needed")
    assert up.get("/api/sessions", up.sign_in(ANNA)).status == 200, "who has the key comes back"
    for body in ({}, {"session": "x"}, {"session": "ab" * 16, "key": "ab" * 32}, [], "x",
                 {"key": 5}):
        told(up.asked("/api/sessions/revoke", body, anna | boss), 400, "bad-request")


def test_the_list_is_read_again_when_it_changes(up):
    anna = up.sign_in(ANNA)
    good = up.list.read_text()
    try:
        up.list.write_text(line(BOSS, "boss", Role.ADMIN) + line(BOB, "bob")
                           + line(ANNA, "anna", Role.ADMIN))
        up.until(lambda: up.get("/api/stores", anna).status == 200, "anna is an admin")
        up.list.write_text(line(BOSS, "boss", Role.ADMIN))
        up.until(lambda: up.get("/api/sessions", anna).status == 401, "anna is nobody")
        assert up.asked("/api/authenticate", up.login(ANNA)).status == 401
        up.list.write_text("this is no list\n")
        boss = up.sign_in(BOSS)
        up.until(lambda: "line 1" in str(up.get("/readyz", boss).json["problems"]),
                 "it says that the list is bad")
        assert up.get("/readyz").json == {"ready": True}, "whoever was in the list still is"
        up.list.unlink()
        up.until(lambda: "there is no" in str(up.get("/readyz", boss).json["problems"]),
                 "it says that the list is gone")
        assert up.get("/api/stores", boss).status == 200, "the last good list stays"
    finally:
        up.list.write_text(good)
        up.ready()
    up.until(lambda: up.get("/api/sessions", anna).status == 200, "anna is back")


def begun(up: Keyed, path: str, headers: dict[str, str], body: bytes) -> socket.socket:
    """A request of which the last byte is still to come, once it was let in."""
    told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection = up.raw()
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{told}Connection: close\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
    return connection


def ended(connection: socket.socket, last: bytes) -> bytes:
    """The status line of what is answered once it has come."""
    with contextlib.closing(connection), connection.makefile("rb") as answer:
        connection.sendall(last)
        return answer.readline()


def test_who_may_no_more_ends_nothing_that_he_began(up):
    """A body can be made to last for a day, and longer than the right to send it."""
    boss, anna, bob = (up.sign_in(key) for key in (BOSS, ANNA, BOB))
    large, good = content_of(3_000_000), up.list.read_text()
    home = json.dumps({"username": "bob"}).encode()
    others = json.dumps({"key": bytes(BOB.verify_key).hex()}).encode()
    try:
        followed = begun(up, "/api/upload?wait=60", anna, large)
        small = begun(up, "/api/upload", anna, b"xy")
        closed = begun(up, "/api/ssh/disable", boss | JSON, home)
        revoked = begun(up, "/api/sessions/revoke", boss | JSON, others)
        # Those are let in before anything changes: what came later on was answered.
        assert up.get("/api/telemetry", bob).status == 404
        up.list.write_text(line(BOSS, "boss") + line(BOB, "bob"))
        up.until(lambda: up.get("/api/stores", boss).status == 403, "boss is a user")
        assert b" 401 " in ended(followed, large[-1:])
        assert b" 401 " in ended(small, b"y")
        assert b" 403 " in ended(closed, home[-1:])
        assert b" 403 " in ended(revoked, others[-1:])
        assert up.get("/api/telemetry", bob).status == 404, "and is signed in"
        up.until(lambda: not up.spool_left(), "nothing is kept of what was refused")
    finally:
        up.list.write_text(good)
    up.until(lambda: up.get("/api/stores", boss).status == 200, "boss is an admin")


def test_what_is_no_login(up):
    login = up.login(ANNA)
    for wrong in (None, [], "x", {}, login | {"key": "ab"}, login | {"date": "now"},
                  login | {"date": -1}, login | {"date": "١٧٩٥٣٠٠٠٠٠"}, login | {"signature": "00"},
                  login | {"date": True}, login | {"date": 10**13}, login | {"key": None}):
        told(up.asked("/api/authenticate", wrong), 400, "bad-request")
    told(up.ask("POST", "/api/authenticate", b"{" * 60_000, JSON), 400, "bad-request")
    told(up.ask("POST", "/api/authenticate", b" " * 70_000, JSON), 413, "too-large")
    stale = up.asked("/api/authenticate", up.login(ANNA, f"{time.time() - 400:.0f}"))
    assert "differ by" in told(stale, 401, "sign-in-needed")


def test_who_guesses_has_to_wait(up):
    def guess(path: str, source: str, credential: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=60,
                                                source_address=(source, 0))
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {credential}"})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    found = up.until(lambda: _of(429, guess("/api/sessions", "127.0.0.9", "zs1.guessed")),
                     "it is told to wait")
    assert int(found.headers["Retry-After"]) >= 1
    told(found, 429, "too-many-requests")
    anna = up.sign_in(ANNA)["Authorization"].removeprefix("Bearer ")
    told(guess("/api/sessions", "127.0.0.8", "zs1.guessed"), 401, "sign-in-needed")
    assert guess("/api/sessions", "127.0.0.8", anna).status == 200
    assert guess("/readyz", "127.0.0.9", "zs1.guessed").status == 200


def test_who_guesses_many_at_once_has_to_wait(up):
    """The ends of all bodies come when each has been let in."""
    login = up.login(NOBODY)
    body = json.dumps(login).encode()
    with contextlib.ExitStack() as stack:
        asking = []
        for _ in range(3 * BURST):
            connection = stack.enter_context(contextlib.closing(http.client.HTTPConnection(
                "127.0.0.1", up.port, timeout=60, source_address=("127.0.0.10", 0))))
            connection.putrequest("POST", "/api/authenticate")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:-1])
            asking.append(connection)
        assert up.get("/healthz").status == 200
        for connection in asking:
            connection.send(body[-1:])
        found = [connection.getresponse().status for connection in asking]
    assert set(found) == {401, 429}


def _of(status: int, answer: Answer) -> Answer | None:
    return answer if answer.status == status else None


def test_no_secret_is_written_down(up):
    secret = up.sign_in(ANNA)["Authorization"].removeprefix("Bearer ")
    login = up.login(BOB)
    assert up.asked("/api/authenticate", login).status == 200
    up.get(f"/api/ssh/size/anna?secret={secret}")
    up.get(f"/api/nodes/jobs?secret={secret}")
    written = up.logs() + up.screen()
    assert secret not in written and login["signature"] not in written
    book = b"".join(path.read_bytes() for path in (up.folder / "gateway").iterdir())
    assert secret.encode() not in book, "who reads the book cannot sign in"
