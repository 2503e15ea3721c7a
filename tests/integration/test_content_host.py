"""A running zerostor that serves objects from another host name, and nothing else there."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys

import pytest

from tests.fakes.running_up import ROOT, Answer, Up, content_of

SECRET = "a-secret-that-goes-to-one-host-only"
PAGE = b"<script>document.title = 'stolen'</script>"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("content")
    (folder / "secret").write_text(SECRET)
    running = Up(folder / "zerostor")
    running.settings.write_text(
        f'[gateway]\nsecurity = "secret"\nsecret_file = "{folder}/secret"\n'
        f'content_url = "http://localhost:{running.port}"\n')
    with running:
        yield running


@pytest.fixture(scope="module")
def page(up):
    """The whole address of a stored page."""
    return up.upload(PAGE, bearer(), ext="html", wait=60).link


def bearer(**headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRET}"} | headers


def there(up, method: str, path: str, **headers: str) -> Answer:
    return up.ask(method, path, None, {"Host": f"localhost:{up.port}"} | headers)


def name_of(link: str) -> str:
    return "/" + link.rpartition("/")[2]


def test_objects_are_there_and_only_there(up, page):
    assert page == f"http://localhost:{up.port}{name_of(page)}"
    answer = there(up, "GET", name_of(page))
    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name_of(page)[1:]}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    for method in ("GET", "HEAD"):
        moved = up.ask(method, f"{name_of(page)}?secret={SECRET}")
        assert (moved.status, moved.headers["Location"], moved.body) == (308, page, b"")
    assert up.get("/not-a-link").status == 400


def test_answers_name_that_host(up, page):
    assert up.get(f"/api/exists{name_of(page)}").json["link"] == page
    job = up.upload(content_of(1000), bearer(), ext="jpg").job
    assert up.stored(job).startswith(f"http://localhost:{up.port}/")
    policy = up.get("/").headers["Content-Security-Policy"]
    assert f"img-src 'self' data: http://localhost:{up.port};" in policy


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/readyz"),
    ("GET", "/explorer/explorer.js"), ("POST", "/api/upload"), ("GET", "/api/stores"),
    ("POST", "/api/authenticate"), ("GET", "/api/pubkey"), ("GET", "/no/such/path"),
    ("PUT", "/x"), ("GET", f"/api/exists/{'0' * 56}")])
def test_nothing_else_is_there(up, method, path):
    for host in ("localhost", f"LOCALHOST:{up.port}", "localhost.", "localhost:1"):
        answer = up.ask(method, path, None, bearer(Host=host))
        assert answer.status == 421, (host, answer.status)
        assert answer.json["type"] == "urn:zerostor:wrong-host"


def test_a_body_for_that_host_is_refused_before_it_is_sent(up):
    with up.raw() as stranger:
        stranger.sendall(b"POST /api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
                         b"Expect: 100-continue\r\n\r\n")
        answer = http.client.HTTPResponse(stranger)
        answer.begin()
        assert answer.status == 421


def test_no_answer_sets_a_cookie(up, page):
    for path in ("/", "/docs", "/healthz", "/api/stores", name_of(page), "/none"):
        assert "Set-Cookie" not in up.get(path, bearer()).headers
    assert "Set-Cookie" not in there(up, "GET", name_of(page), Cookie="a=b").headers


def test_the_command_line_follows(up, page, tmp_path):
    def get(link: str, output: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", "get", link, "-o", str(tmp_path / output)], cwd=ROOT,
            capture_output=True, text=True, timeout=60,
            env=os.environ | {"ZEROSTOR_SERVER": f"http://127.0.0.1:{up.port}"})

    for number, link in enumerate((page, name_of(page)[1:])):
        done = get(link, str(number))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / str(number)).read_bytes() == PAGE
    # Where it is not, the one redirect was followed, and says so.
    assert "404" in get("0" * 56, "none").stderr
