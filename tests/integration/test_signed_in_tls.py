"""The command line and a running zerostor over https, with a certificate that nobody signed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.commands.self_signed import fingerprint
from tests.fakes.person import Person
from tests.fakes.running_up import content_of
from tests.integration.test_tls import SecureUp, made

QUESTION = "Is that the gateway you mean?"


@pytest.fixture
def up(tmp_path: Path) -> Iterator[SecureUp]:
    cert, key = made(tmp_path, "cert")
    running = SecureUp(tmp_path / "zerostor", (
        f"[gateway]\nsecurity = 'keys'\nmax_upload = '40MB'\n"
        f"tls_cert = '{cert}'\ntls_key = '{key}'\n"))
    running.cert, running.key = cert, key
    person = Person(tmp_path / "ann")
    person.do("keys", "add", "ann", person.key(), "--role", "admin", "--data", str(running.folder),
              "--config", str(running.settings))
    with running:
        yield running


def test_a_person_and_a_certificate_that_changes(up: SecureUp, tmp_path: Path) -> None:
    ann, url = Person(tmp_path / "ann"), f"https://127.0.0.1:{up.port}"
    server = ("--server", url)
    told = ann.do("jobs", *server, code=1)
    assert f"zerostor login {url}" in told
    ended = ann.talk("login", url, answers=[(QUESTION, "y")])
    assert ended.code == 0, ended.told
    assert fingerprint(up.cert) in ended.told

    file = tmp_path / "film.bin"
    file.write_bytes(content_of(30_000_000))
    link = ann.do("put", str(file), *server).split()[-1]
    ann.do("get", link, "-o", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == file.read_bytes()
    with open(file, "wb") as sparse:
        sparse.truncate(3_000_000_000)
    assert "HTTP 413" in ann.do("put", str(file), *server, code=1)
    ann.do("jobs", *server)

    old = fingerprint(up.cert)
    fresh, key = made(tmp_path, "fresh")
    os.replace(key, up.key)
    os.replace(fresh, up.cert)
    up.until(lambda: up.shown() == up.cert.read_text().strip(), "the new one is shown")
    for asked in (("jobs", *server), ("login", url, "--yes")):
        told = ann.do(*asked, code=1)
        assert "HAS CHANGED" in told
        assert old in told
        assert fingerprint(up.cert) in told
    ann.do("logout", "--forget", url)
    ann.do("login", url, "--yes")
    ann.do("jobs", *server)
