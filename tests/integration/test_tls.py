"""https: what it speaks, a certificate that changes under open connections, strangers."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.commands.self_signed import fingerprint, make_certificate
from gateway.tls import CIPHERS
from tests.fakes.running_up import ROOT, Answer, Up, content_of

OPENSSL = shutil.which("openssl")


class SecureUp(Up):
    """Asked over https, by the certificate that its files hold now."""

    cert = key = Path()

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.cert))

    def ask(self, method, path, body=None, headers=None, timeout=90.0) -> Answer:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                                 context=self.context())
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def shown(self) -> str:
        """The certificate that new connections see."""
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 60)) as plain:
            context = ssl._create_unverified_context()
            with context.wrap_socket(plain) as secure:
                der = secure.getpeercert(binary_form=True)
                return ssl.DER_cert_to_PEM_cert(der).strip()


def made(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    make_certificate(cert, key, "127.0.0.1")
    return cert, key


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = made(folder, "cert")
    running = SecureUp(folder / "zerostor", (
        f"[gateway]\ntls_cert = '{cert}'\ntls_key = '{key}'\nhsts = '1d'\n"
        "[limits]\nheader_timeout = '10s'\naddress_connections = 6\n"))
    running.cert, running.key = cert, key
    try:
        running.start()
        yield running
    finally:
        running.close()


def test_objects_of_all_sizes_come_back(up):
    for size in (0, 10_000, 1_500_000, 40_000_000):
        body = content_of(size)
        answer = up.get(up.store(body))
        assert (answer.status, answer.body == body) == (200, True), size
    assert answer.headers["Strict-Transport-Security"] == "max-age=86400"


@pytest.mark.skipif(OPENSSL is None, reason="no openssl here")
@pytest.mark.parametrize(("asked", "taken"), [
    ("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True),
    ("-tls1_2 -cipher AES128-GCM-SHA256", False), ("-tls1_2 -cipher ECDHE+SHA1", False),
    ("-tls1_2 -cipher DHE", False), ("-tls1_2 -cipher ECDHE+CHACHA20", True),
    ("-tls1_2 -curves X448", False), ("-tls1_3 -curves P-521", False),
    ("-tls1_3 -curves X25519:P-256", True)])
def test_versions_and_ciphers(up, asked, taken):
    words = asked.split()
    if "-cipher" in words:
        words[-1] += ":@SECLEVEL=0"
    else:
        words += ["-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run([OPENSSL, "s_client", "-connect", f"127.0.0.1:{up.port}", *words],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    agreed = b"Cipher is (NONE)" not in done.stdout and b"Cipher is " in done.stdout
    assert agreed is taken, done.stdout[-500:] + done.stderr[-500:]


def test_all_that_is_offered_is_good():
    assert len(CIPHERS.split(":")) == 6
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA" in name)
               for name in CIPHERS.split(":"))


def test_strangers_at_the_door_are_counted_and_sent_away(up):
    log = (up.folder / "logs" / "gateway.log")
    before = log.read_text()

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", up.port), 60, ("127.0.0.9", 0))

    def is_let_in() -> bool:
        with contextlib.closing(connect()) as plain, up.context().wrap_socket(
                plain, server_hostname="127.0.0.1") as secure:
            secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return secure.recv(12) == b"HTTP/1.1 200"

    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect()) for _ in range(6)]
        silent[0].settimeout(60)
        # One that is over the limit is closed before it can shake hands.
        with contextlib.suppress(OSError):
            for _ in range(20):
                with connect() as more:
                    more.settimeout(0.2)
                    assert more.recv(1) == b""
        assert silent[0].recv(1) == b"", "who says nothing has ten seconds"
    up.until(is_let_in, "all of them are gone")
    for words in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(500), b"\x80"):
        with connect() as raw:
            raw.sendall(words)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(60)
            with contextlib.suppress(ConnectionError):
                while raw.recv(4096):
                    pass
    up.until(is_let_in, "they have not taken its places")
    assert log.read_text() == before, "anyone could fill the disk with it"


def test_a_new_certificate_is_taken_up_and_nobody_is_dropped(up):
    connection = http.client.HTTPSConnection("127.0.0.1", up.port, timeout=60,
                                             context=up.context())

    def still_open() -> bool:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        response.read()
        return response.status == 200 and not response.will_close

    def problems() -> list[str]:
        found = up.get("/readyz")
        assert found.status == 200, "all works with the one of before"
        return [text for text in found.json["problems"] if "certificate" in text]

    with contextlib.closing(connection):
        assert still_open()
        first = connection.sock
        old = up.shown()
        cert, key = made(up.cert.parent, "next")
        new = cert.read_text().strip()
        os.replace(key, up.key)
        os.replace(cert, up.cert)
        up.until(lambda: up.shown() == new, "the new one is shown")
        assert new != old and still_open() and connection.sock is first
        up.until(lambda: not problems(), "all is well")
        whole = up.cert.read_bytes()
        for broken in (b"", b"nonsense", made(up.cert.parent, "other")[0].read_bytes()):
            up.cert.write_bytes(broken)
            # Of this host we know what to expect, whatever is in the file.
            keep = up.cert
            up.cert = up.cert.with_name("known.pem")
            up.cert.write_bytes(whole)
            told = up.until(problems, "the problem is told of")
            assert "stays in use" in told[0]
            assert up.shown() == new
            assert b"zerostor_tls_certificate_problem 1" in up.get("/metrics").body
            up.cert = keep
            up.cert.write_bytes(whole)
            up.until(lambda: not problems(), "the good one is back")
        assert connection.sock is first
    metrics = up.get("/metrics").body
    assert b"zerostor_tls_certificate_problem 0" in metrics
    expires = float(metrics.partition(b"\nzerostor_tls_certificate_expiry_seconds ")[2].split()[0])
    assert expires > 1.7e9


def test_up_makes_a_certificate_and_keeps_it(tmp_path):
    up = SecureUp(tmp_path / "zerostor")
    command = [sys.executable, "-m", "gateway", "gateway", "--data", str(up.folder), "--tls",
               "self-signed", "--listen", f"127.0.0.1:{up.port}"]
    up.cert = up.folder / "tls" / "cert.pem"
    shown = []
    for _ in range(2):
        # Without its metadata server it is not ready, but it answers.
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        up.process = process
        try:
            up.until(lambda: up.get("/healthz").status == 200, "it answers")
            shown.append(up.shown())
        finally:
            up.process = None
            process.kill()
            process.wait()
    assert shown[0] == shown[1] == up.cert.read_text().strip()
    assert os.stat(up.folder / "tls" / "key.pem").st_mode & 0o777 == 0o600
    assert len(fingerprint(up.cert)) == 64
