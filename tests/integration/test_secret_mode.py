"""A running zerostor that asks for its secret."""

from __future__ import annotations

import http.client
import socket

import pytest

from tests.fakes.running_up import Up, content_of

SECRET = "a-secret-that-nobody-should-read-anywhere"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secret")
    (folder / "secret").write_text(f"{SECRET}\n")
    with Up(folder / "zerostor",
            f'[gateway]\nsecurity = "secret"\nsecret_file = "{folder}/secret"\n') as running:
        yield running


def told(answer, status, code):
    assert answer.status == status, (answer.status, answer.body)
    assert answer.json["type"] == f"urn:zerostor:{code}"
    return answer.json["detail"]


def test_who_has_the_secret_stores_and_everybody_reads(up):
    body = content_of(50_000)
    answer = up.upload(body, ext="bin")
    assert "zerostor login" in told(answer, 401, "sign-in-needed")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert up.upload(body, {"Authorization": "Bearer wrong-but-long-enough"}).status == 401
    link = up.upload(body, BEARER, ext="bin", wait=60).link
    assert up.get(link).body == body
    assert up.get(f"/api/exists{link}").status == 200
    assert up.get(f"/api/check{link}").status == 200
    assert up.get(f"/api/check{link}?mode=hard").status == 401
    assert up.get(f"/api/check{link}?mode=hard", BEARER).json["content"] == "good"
    job = up.upload(body, None, secret=SECRET).job
    assert up.get(f"/api/status/{job}?wait=60").body.decode().startswith(link[1:49])


def test_operators_have_it(up):
    for path in ("/api/stores", "/api/jobs", "/metrics"):
        assert up.get(path).status == 401
        assert up.get(path, BEARER).status == 200
        assert up.get(f"{path}?secret={SECRET}").status == 200
    told(up.get("/api/ssh/homes"), 401, "sign-in-needed")
    told(up.get("/api/ssh/homes", BEARER), 404, "ssh-off")
    told(up.ask("POST", "/api/nodes/add", b"{}", {"Content-Type": "application/json"}), 401,
         "sign-in-needed")
    told(up.get("/api/nodes/jobs", BEARER), 404, "nodes-off")


def test_strangers_are_told_whether_and_callers_why(up):
    assert up.get("/readyz").json == {"ready": True}
    assert set(up.get("/readyz", BEARER).json) > {"ready", "problems", "metadata"}
    with up.stopped("redis"):
        up.until(lambda: up.get("/readyz").status == 503, "it is not ready")
        assert up.get("/readyz").json == {"ready": False}
        assert "Redis" in str(up.get("/readyz", BEARER).json["problems"])
    up.ready()


def test_a_body_is_refused_before_it_is_sent(up):
    with socket.create_connection(("127.0.0.1", up.port), timeout=60) as stranger:
        stranger.sendall(b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                         b"Expect: 100-continue\r\n\r\n")
        answer = http.client.HTTPResponse(stranger)
        answer.begin()
        assert answer.status == 401
        assert answer.getheader("Connection") == "close"


def test_nobody_signs_in_with_a_key(up):
    asked = up.get("/api/pubkey", {"Accept": "application/json"}).json
    assert asked["security"] == "secret" and len(asked["key"]) == 64
    told(up.ask("POST", "/api/authenticate", b"{}"), 404, "sign-in-off")
    told(up.get("/api/sessions"), 401, "sign-in-needed")
    told(up.get("/api/sessions", BEARER), 404, "sign-in-off")
    told(up.ask("POST", "/api/sessions/revoke", b"{}", BEARER), 404, "sign-in-off")


def test_the_pages_say_what_is_asked_for(up):
    for path in ("/", "/docs", "/explorer/explorer.css"):
        assert up.get(path).status == 200
    document = up.get("/openapi.json").json
    assert document["paths"]["/api/upload"]["post"]["security"] == [{"bearer": []}, {"secret": []}]
    assert "security" not in document["paths"]["/{link}"]["get"]


def test_the_secret_is_written_nowhere(up):
    assert up.get(f"/api/jobs/{'9' * 32}/requeue?secret={SECRET}").status == 405
    assert up.get(f"/no/such/path?secret={SECRET}").status == 404
    up.until(lambda: "Ctrl-C stops it" in up.screen(), "it says that it is up")
    assert SECRET not in up.logs() + up.screen()
    assert f"stores  {20}" in up.screen().replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert "access  secret" in up.screen()
