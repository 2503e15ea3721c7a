"""What must not get into an SSH home, or out of it, or hold its server up."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.fakes.ports import free_port
from tests.fakes.ssh_server import PATIENCE, SshServer, make_key, run

pytestmark = pytest.mark.skipif(shutil.which("sftp") is None, reason="no OpenSSH client here")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh"), login_timeout="4s", user_connections=5)
    server.add("berta", make_key(server.folder / "berta"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stranger(server: SshServer) -> Path:
    return make_key(server.folder / "stranger")


def test_who_has_no_key_learns_nothing(server: SshServer, stranger: Path) -> None:
    def plain(said: str, user: str) -> list[str]:
        lines = said.replace(f"{user}@", "anna@").splitlines()
        return [line for line in lines if "known hosts" not in line]

    known = server.ssh("true", key=stranger)
    unknown = server.ssh("true", user="nobody", key=stranger)
    root = server.ssh("true", user="root", key=stranger)
    assert known.returncode == unknown.returncode == 255
    assert "Permission denied (publickey)" in known.stderr
    assert plain(known.stderr, "anna") == plain(unknown.stderr, "nobody")
    assert plain(known.stderr, "anna") == plain(root.stderr, "root")
    assert server.ssh("true", user="berta").returncode == 255, "the key of another user"
    assert "tried a key that" in server.log.read_text()


@pytest.mark.parametrize("method", ["password", "keyboard-interactive", "hostbased",
                                    "gssapi-with-mic"])
def test_nothing_but_keys_lets_in(server: SshServer, method: str) -> None:
    done = server.ssh("true", options=("-o", f"PreferredAuthentications={method}"))
    assert done.returncode == 255
    assert "Permission denied (publickey)." in done.stderr


@pytest.mark.parametrize("option", [
    "KexAlgorithms=diffie-hellman-group14-sha1", "KexAlgorithms=diffie-hellman-group14-sha256",
    "KexAlgorithms=ecdh-sha2-nistp256", "Ciphers=aes128-cbc", "Ciphers=aes256-ctr",
    "Ciphers=chacha20-poly1305@openssh.com", "HostKeyAlgorithms=ssh-rsa"])
def test_old_cryptography_is_refused(server: SshServer, option: str) -> None:
    done = server.ssh("true", options=("-o", option))
    assert done.returncode == 255
    assert "no matching" in done.stderr


def test_types_of_keys(tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    keys = [make_key(tmp_path / "ecdsa", "-t", "ecdsa", "-b", "384"),
            make_key(tmp_path / "rsa", "-t", "rsa")]
    for key in keys:
        server.add("anna", key)
    server.start()
    try:
        for key in (server.key, *keys):
            assert server.sftp("ls\n", key=key).returncode == 0
    finally:
        server.stop()


async def test_rsa_over_sha1_is_refused(tmp_path: Path) -> None:
    server = await asyncio.to_thread(SshServer, tmp_path)
    key = make_key(tmp_path / "rsa", "-t", "rsa")
    await asyncio.to_thread(server.add, "anna", key)
    await asyncio.to_thread(server.start)
    try:
        for algorithm, fine in (("rsa-sha2-256", True), ("ssh-rsa", False)):
            pair = asyncssh.load_keypairs(str(key))[0]
            pair.sig_algorithms = [algorithm.encode()]
            pair.set_sig_algorithm(algorithm.encode())
            attempt = asyncssh.connect(
                "127.0.0.1", server.port, username="anna", client_keys=[pair], known_hosts=None,
                signature_algs=[algorithm], config=None, agent_path=None)
            if fine:
                async with attempt:
                    pass
            else:
                with pytest.raises(asyncssh.PermissionDenied):
                    async with attempt:
                        pass
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("command", [
    "", "id", "sh -c id", "scp;id", "rsyncd", "/usr/bin/scp -t x", "scpx -t x",
    "sftp-server", "$(id)", "`id`", "internal-sftp", "a\nb", "rsync --daemon", "cat /etc/passwd"])
def test_nothing_else_is_executed(server: SshServer, command: str) -> None:
    done = server.ssh(*([command] if command else []))
    assert done.returncode != 0
    assert "uid=" not in done.stdout + done.stderr
    assert "root:" not in done.stdout
    if not command.startswith(("scp ", "rsync ")):
        assert "zerostor: " in done.stderr
        assert "sftp, scp" in done.stderr


def test_nothing_is_forwarded(server: SshServer, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.5)
        there = f"127.0.0.1:{listener.getsockname()[1]}"
        assert server.ssh(options=("-W", there)).returncode == 255
        port = free_port()
        with subprocess.Popen(
                ["ssh", *server.options(), "-N", "-p", str(server.port), "-L", f"{port}:{there}",
                 "-D", str(free_port()), "anna@127.0.0.1"]) as client:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    trial = socket.create_connection(("127.0.0.1", port), 5)
                    break
                except OSError:
                    assert time.monotonic() < end
                    time.sleep(0.05)
            with trial:
                trial.settimeout(PATIENCE)
                assert trial.recv(1) == b"", "closed, not connected"
            client.kill()
        with pytest.raises(TimeoutError):
            listener.accept()
    for options in (("-R", f"{free_port()}:127.0.0.1:22"), ("-R", f"{tmp_path}/sock:127.0.0.1:22"),
                    ("-w", "any")):
        done = server.ssh(options=("-o", "ExitOnForwardFailure=yes", "-N", *options))
        assert done.returncode == 255, options
    assert not (tmp_path / "sock").exists()
    done = server.ssh(options=("-A", "-X"))
    assert done.returncode == 1
    assert "has no shell" in done.stderr
    assert "PTY allocation request failed" in server.ssh(options=("-tt",)).stderr


def test_paths_never_lead_out(server: SshServer, tmp_path: Path) -> None:
    (server.root / "secret").write_text("of the server")
    outside = server.home() / "door"
    outside.symlink_to(server.root)
    (server.home() / "loose").symlink_to("/etc/passwd")
    (tmp_path / "mine").write_text("mine")
    for command in ("get /etc/passwd", "get ../../secret", "get door/secret", "get loose",
                    "put mine door/planted", "put mine loose", "chmod 777 loose",
                    "mkdir door/x", "rename loose /../../taken", "rm ../../secret",
                    "ln -s /etc/passwd x", "ln mine x"):
        done = server.sftp(f"{command}\n", cwd=tmp_path)
        if not command.startswith("rename"):
            assert done.returncode == 1, (command, done.stdout)
        assert "of the server" not in done.stdout
        assert not (tmp_path / "passwd").exists()
    assert (server.root / "secret").read_text() == "of the server"
    assert not (server.root / "planted").exists()
    assert not (server.root / "taken").exists()
    assert "root" in Path("/etc/passwd").read_text()


def test_a_full_home_takes_no_more_and_says_so(tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    server.add("anna", server.key, 1_000_000)
    (tmp_path / "part").write_bytes(os.urandom(300_000))
    server.start()
    try:
        done = [server.sftp(f"put part p{number}\n") for number in range(4)]
        assert [one.returncode for one in done] == [0, 0, 0, 1]
        assert "no room for this in the home of anna" in done[3].stderr
        assert {path.name: path.stat().st_size for path in server.home().iterdir()} == {
            f"p{number}": 300_000 for number in range(3)}, "nothing half stays"
        df = server.sftp("df\n").stdout.split()
        assert str(1_000_000 // 1024) in df
    finally:
        server.stop()


def test_who_does_not_log_in_is_cut_off(server: SshServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(PATIENCE)
        assert slow.recv(100).startswith(b"SSH-2.0-")
        slow.sendall(b"SSH-2.0-slow\r\n")
        while slow.recv(65536):
            pass


@pytest.mark.parametrize("sent", [
    b"GET / HTTP/1.1\r\n\r\n", b"SSH-1.5-old\r\n", b"SSH-2.0-x\r\n" + bytes(200_000),
    b"\xff" * 300_000, b"SSH-2.0-x\r\n\xff\xff\xff\xff" + b"x" * 1000])
def test_garbage_is_hung_up_on(server: SshServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(PATIENCE)
        try:
            raw.sendall(sent)
            while raw.recv(65536):
                pass
        except ConnectionError:
            pass
    assert server.sftp("ls\n").returncode == 0
    assert "Traceback" not in server.log.read_text()


def test_a_thousand_connections_keep_nobody_out(server: SshServer) -> None:
    held: list[socket.socket] = []
    log_before = server.log.stat().st_size
    try:
        for _ in range(1000):
            held.append(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
        end = time.monotonic() + PATIENCE
        while server.sftp("ls\n").returncode != 0:
            assert time.monotonic() < end
    finally:
        for one in held:
            one.close()
    assert server.log.stat().st_size - log_before < 20_000, "a flood does not fill the log"
    assert "turned away" in server.log.read_text()


def test_one_user_has_so_many_connections(server: SshServer) -> None:
    clients = [subprocess.Popen(
        ["sftp", *server.options(), "-P", str(server.port), "anna@127.0.0.1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(5)]
    try:
        for client in clients:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write(b"pwd\n")
            client.stdin.flush()
            assert client.stdout.readline()
        refused = server.sftp("ls\n")
        assert refused.returncode == 255
        assert "anna has 5 connections already" in refused.stderr
        assert server.sftp("ls\n", user="berta", key=server.folder / "berta").returncode == 0
    finally:
        for client in clients:
            client.kill()
            client.wait()
    end = time.monotonic() + PATIENCE
    while server.sftp("ls\n").returncode != 0:
        assert time.monotonic() < end


def test_ssh_audit_finds_no_fault(server: SshServer) -> None:
    tool = Path(sys.executable).with_name("ssh-audit")
    if not tool.exists():
        pytest.skip("ssh-audit is not installed")
    done = run(str(tool), "-j", "--skip-rate-test", "-p", str(server.port), "127.0.0.1")
    found = json.loads(done.stdout)
    assert '"fail"' not in json.dumps(found.get("recommendations", {}))
    assert "critical" not in found.get("recommendations", {}), found["recommendations"]
    exchanges = [one["algorithm"] for one in found["kex"]]
    assert "kex-strict-s-v00@openssh.com" in exchanges, "the counter-measure to Terrapin"
    assert all("fail" not in one.get("notes", {}) for kind in ("kex", "key", "enc", "mac")
               for one in found[kind])


def test_an_end_in_the_middle_lets_go(server: SshServer, tmp_path: Path) -> None:
    content = os.urandom(9_000_000)
    (tmp_path / "large").write_bytes(content)
    with subprocess.Popen(
            ["sftp", *server.options(), "-P", str(server.port), "-l", "4000", "-b", "-",
             "anna@127.0.0.1"], stdin=subprocess.PIPE, cwd=tmp_path, stdout=subprocess.DEVNULL,
            start_new_session=True) as client:
        assert client.stdin is not None
        client.stdin.write(b"put large\n")
        client.stdin.flush()
        end = time.monotonic() + PATIENCE
        while not (server.home() / "large").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(client.pid, signal.SIGKILL)
    assert (server.home() / "large").stat().st_size < 9_000_000
    assert server.sftp("reput large\n", cwd=tmp_path).returncode == 0
    assert (server.home() / "large").read_bytes() == content
    assert server.sftp("rm large\n").returncode == 0
