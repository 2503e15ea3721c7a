"""The client of the command line: to whom it talks, and what it tells whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from gateway.cli import cli
from gateway.credentials import Credential, Keyring, Pins
from gateway.http_client import Client, Refused
from gateway.trust import Stranger, UntrustedCertificate, unsigned_certificate
from tests.fakes.certificates import Authority, fingerprint, self_signed
from tests.fakes.tiny_gateway import TinyGateway, tiny_gateway
from zerostor.core.errors import RequestError

SECRET = "a secret of many letters".replace(" ", "-")


def keyring(folder: Path, gateway: TinyGateway, secret: str = "", certificate: str = "") -> Keyring:
    ring = Keyring(folder)
    place = Client(gateway.url).address.place
    if secret:
        ring.keep(place, Credential(secret))
    if certificate:
        ring.pin(place, Pins(certificate=certificate))
    return ring


def run(*arguments: str, code: int = 0, **environment: str | None) -> str:
    named = {"ZEROSTOR_SERVER": None, "ZEROSTOR_GATEWAY_SECRET": None} | environment
    result = CliRunner().invoke(cli, arguments, env=named, prog_name="zerostor")
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_what_opens_a_gateway_is_sent_there_and_nowhere_else(tmp_path: Path) -> None:
    with tiny_gateway() as one, tiny_gateway() as other:
        one.secret = SECRET
        client = Client(one.url, keyring(tmp_path, one, SECRET))
        assert client.ask("/api/jobs")["waiting"] == 3
        client.at(other.url).ask("/api/jobs")
        with pytest.raises(Refused):
            client.at(one.url.replace("127.0.0.1", "localhost")).ask("/api/jobs")
        assert client.at(f"{one.url}/") is client
        stated = Client(one.url, Keyring(tmp_path / "none"), secret=SECRET)
        stated.ask("/api/jobs")
        stated.at(other.url).ask("/api/jobs")
        assert one.presented == [f"Bearer {SECRET}", None, f"Bearer {SECRET}"]
        assert other.presented == [None, None]


def test_who_is_not_let_in_is_told_what_to_do(tmp_path: Path) -> None:
    with tiny_gateway() as gateway:
        gateway.secret = SECRET
        told = run("jobs", "--server", gateway.url, code=1)
        assert f"`zerostor login {gateway.url}`" in told
        assert "login URL" not in told
        file = tmp_path / "file"
        file.write_bytes(os.urandom(3_000_000))
        assert "zerostor login" in run("put", str(file), "--server", gateway.url, code=1)


def test_a_secret_for_scripts(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    with tiny_gateway() as gateway, tiny_gateway() as other:
        gateway.secret = SECRET
        run("jobs", "--server", gateway.url, "--secret-file", str(file))
        run("jobs", ZEROSTOR_SERVER=gateway.url, ZEROSTOR_GATEWAY_SECRET=SECRET)
        run("jobs", "--server", f"{gateway.url}/", ZEROSTOR_SERVER=gateway.url,
            ZEROSTOR_GATEWAY_SECRET=SECRET)
        # What the environment states is for the gateway that the environment names.
        run("jobs", "--server", other.url, ZEROSTOR_SERVER=gateway.url,
            ZEROSTOR_GATEWAY_SECRET=SECRET)
        run("jobs", "--server", other.url, ZEROSTOR_GATEWAY_SECRET=SECRET)
        run("get", f"{other.url}/{'ab' * 28}", "--secret-file", str(file), code=1)
        run("exists", f"{other.url}/{'ab' * 28}", "--server", gateway.url, "--secret-file",
            str(file), code=1)
        assert other.presented == [None, None, None]
        assert len(gateway.presented) == 3
        file.write_text(" \n")
        assert "there is no secret" in run("jobs", "--secret-file", str(file), code=1)


@pytest.mark.parametrize("secret", ["two words", "a\r\nX-Admin: yes", "pässword", "\x7f", "a\tb"])
def test_a_secret_that_no_header_can_carry(tmp_path: Path, secret: str) -> None:
    with pytest.raises(RequestError, match="ASCII"):
        Client("http://127.0.0.1:1", Keyring(tmp_path), secret=secret)


def test_a_secret_in_the_open_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    # Nobody is at port 1; the warning comes before.
    told = run("jobs", "--server", "http://127.1.2.3.invalid:1", "--secret-file", str(file), code=1)
    assert "unencrypted" in told
    assert SECRET not in told
    for server in ("http://127.0.0.1:1", "http://localhost:1", "https://127.0.0.1:1"):
        told = run("jobs", "--server", server, "--secret-file", str(file), code=1)
        assert "unencrypted" not in told
    assert "unencrypted" not in run("jobs", "--server", "http://127.1.2.3.invalid:1", code=1)


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    made = self_signed(tmp_path / "one.pem")
    with tiny_gateway(made) as gateway:
        client = Client(gateway.url, keyring(tmp_path, gateway, SECRET))
        with pytest.raises(UntrustedCertificate, match="zerostor login https://127"):
            client.ask("/api/jobs")
        assert unsigned_certificate(client.address, 30) == fingerprint(made)
        assert gateway.requests == []


def test_a_certificate_that_is_known_is_good(tmp_path: Path) -> None:
    made = self_signed(tmp_path / "one.pem")
    with tiny_gateway(made) as gateway:
        gateway.secret = SECRET
        ring = keyring(tmp_path, gateway, SECRET, fingerprint(made))
        assert Client(gateway.url, ring).ask("/api/jobs")["waiting"] == 3


def test_a_certificate_that_changed_gets_no_byte(tmp_path: Path) -> None:
    known, now = self_signed(tmp_path / "one.pem"), self_signed(tmp_path / "two.pem")
    with tiny_gateway(now) as gateway:
        client = Client(gateway.url, keyring(tmp_path, gateway, SECRET, fingerprint(known)))
        with pytest.raises(Stranger, match="HAS CHANGED") as caught:
            client.ask("/api/jobs")
        assert fingerprint(now) in str(caught.value)
        assert f"zerostor logout --forget {gateway.url}" in str(caught.value)
        assert gateway.requests == gateway.presented == []


def test_certificates_of_an_authority_are_verified(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    with tiny_gateway(authority.certificate(tmp_path / "good.pem")) as gateway:
        client = Client(gateway.url, Keyring(tmp_path))
        assert client.ask("/api/jobs")["waiting"] == 3
        assert unsigned_certificate(client.address, 30) == ""
    elsewhere = authority.certificate(tmp_path / "else.pem", name=x509.DNSName("example.org"))
    late = authority.certificate(tmp_path / "late.pem", days=-1)
    for wrong in (elsewhere, late):
        with tiny_gateway(wrong) as gateway:
            client = Client(gateway.url, Keyring(tmp_path))
            with pytest.raises(UntrustedCertificate) as caught:
                client.ask("/api/jobs")
            assert "zerostor login" not in str(caught.value)
            with pytest.raises(UntrustedCertificate):
                unsigned_certificate(client.address, 30)
            assert gateway.requests == []


def test_uploads_over_tls_are_whole(tmp_path: Path) -> None:
    """TLS 1.3 sends tickets before any answer: they must not be taken for one."""
    made, file = self_signed(tmp_path / "one.pem"), tmp_path / "file"
    file.write_bytes(os.urandom(30_000_000))
    with tiny_gateway(made) as gateway:
        client = Client(gateway.url, keyring(tmp_path, gateway, "", fingerprint(made)))
        sent: list[int] = []
        with open(file, "rb") as body:
            answer = client.upload(body, ext="", wait=1.0, advance=sent.append)
        assert gateway.objects[answer["hash"]] == file.read_bytes()
        assert sum(sent) == 30_000_000
        read, write = os.pipe()
        os.write(write, b"from a pipe")
        os.close(write)
        with open(read, "rb") as body:
            answer = client.upload(body, ext="", wait=1.0, advance=sent.append)
        assert gateway.objects[answer["hash"]] == b"from a pipe"


@pytest.mark.parametrize("piped", [False, True])
def test_a_refusal_over_tls_is_heard_before_all_is_sent(tmp_path: Path, piped: bool) -> None:
    made, file = self_signed(tmp_path / "one.pem"), tmp_path / "file"
    with open(file, "wb") as sparse:
        sparse.truncate(2_000_000_000)
    with tiny_gateway(made) as gateway:
        gateway.limit = -1 if piped else 1000
        client = Client(gateway.url, keyring(tmp_path, gateway, "", fingerprint(made)))
        sent: list[int] = []
        with open("/dev/zero" if piped else file, "rb") as body, pytest.raises(Refused) as caught:
            client.upload(body, ext="", wait=1.0, advance=sent.append)
        assert caught.value.status == 413
        assert sum(sent) < 1_000_000_000


def test_what_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    with tiny_gateway() as one, tiny_gateway() as other:
        one.moved = other.url
        client = Client(one.url, keyring(tmp_path, one, SECRET))
        for ask in (lambda: client.ask("/api/jobs"), lambda: client.open("/x").__enter__()):
            with pytest.raises(Refused):
                ask()
        assert other.requests == []


def test_objects_are_fetched_from_the_host_name_that_has_them(tmp_path: Path) -> None:
    """As with gateway.content_url; once, and by nobody."""
    with tiny_gateway() as one, tiny_gateway() as other:
        file, secret = tmp_path / "file", tmp_path / "secret"
        file.write_bytes(os.urandom(100_000))
        secret.write_text(SECRET)
        link = run("put", str(file), "--server", other.url).split()[-1].rpartition("/")[2]
        other.presented.clear()
        one.moved = other.url
        run("get", link, "-o", str(tmp_path / "back"), "--server", one.url, "--secret-file",
            str(secret))
        assert (tmp_path / "back").read_bytes() == file.read_bytes()
        assert other.opened_by == [None]
        other.moved = one.url
        run("get", link, "-o", str(tmp_path / "again"), "--server", one.url, code=1)
        assert not (tmp_path / "again").exists()


def test_a_refusal_cannot_paint_on_the_terminal() -> None:
    with tiny_gateway() as gateway:
        gateway.reason = "no\x1b[2J\x07\r\n\x9bmore"
        with pytest.raises(Refused, match=r"^no\?\[2J\? \?more \(HTTP 404\)$"):
            Client(gateway.url).ask(f"/api/exists/{'ab' * 28}")
