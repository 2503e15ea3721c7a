"""SSH homes as sftp, sshfs, rclone, lftp, restic, PuTTY and old programs use them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import psutil
import pytest

from tests.fakes.ssh_server import SshServer, run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh"), connections=400, user_connections=300)
    server.start()
    yield server
    server.stop()


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed here: {', '.join(missing)}")


@needs("sftp")
def test_what_openssh_does_with_files(server: SshServer, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "head").write_bytes(content[:100_001])
    done = server.sftp(
        "mkdir d\nput -p a d/a\nput head d/b\nlcd .\ncp d/a d/c\nrename d/c d/e\nchmod 600 d/e\n"
        "ls -la d\nls -ltr d\nput head d/part\nreput a d/part\nget d/part whole\nget d/e copy\n"
        "!head -c 77 a > back\nreget d/a back\ndf\npwd\nrm d/*\nrmdir d\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "-rw-------" in done.stdout and "3000000" in done.stdout
    for name in ("back", "whole", "copy"):
        assert (tmp_path / name).read_bytes() == content
    assert not (server.home() / "d").exists()


@needs("sftp")
def test_rename_spares_what_is_there_unless_told(server: SshServer, tmp_path: Path) -> None:
    """OpenSSH's sftp replaces; -l is its old rename, which may not."""
    (tmp_path / "one").write_text("one")
    (tmp_path / "two").write_text("two")
    assert server.sftp("put one\nput two\nrename -l one two\n", cwd=tmp_path).returncode == 1
    assert (server.home() / "two").read_text() == "two"
    assert server.sftp("rename one two\n").returncode == 0
    assert (server.home() / "two").read_text() == "one"
    assert server.sftp("rm two\n").returncode == 0


async def test_what_asyncssh_does(server: SshServer) -> None:
    async with (
        server.connect() as connection,
        connection.start_sftp_client() as client,
    ):
        async with client.open("x", "wb+") as file:
            await file.write(b"abc" * 1000, 5)
            await file.fsync()
            await file.truncate(100)
            assert (await file.stat()).size == 100
            await file.utime(times=(1_000_000_000, 1_100_000_000))
            disk = await file.statvfs()
            assert disk.blocks * disk.frsize == 10_000_000 // 512 * 512
        async with client.open("x", "ab") as file:
            await file.write(b"at the end")
        async with client.open("x", "rb") as file:
            assert (await file.read())[-10:] == b"at the end"
        assert await client.realpath("a/../../../b/.") == "/b"
        await client.setstat("x", asyncssh.SFTPAttrs(permissions=0o4777))
        assert (server.home() / "x").stat().st_mode & 0o7022 == 0
        for call in (client.symlink("x", "y"), client.link("x", "y"), client.chown("x", 1, 1),
                     client.readlink("x"), client.mkdir("x"), client.rmdir("x"),
                     client.remove("nowhere"), client.open("x", asyncssh.FXF_WRITE
                     | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL)):
            with pytest.raises(asyncssh.SFTPError):
                await call
        await client.remove("x")


async def test_a_large_folder_is_listed_in_pieces_while_others_work(server: SshServer) -> None:
    crowd = server.home() / "crowd"
    crowd.mkdir()
    for number in range(5_000):
        os.close(os.open(crowd / f"f{number}", os.O_CREAT | os.O_WRONLY))
    async with (
        server.connect() as connection,
        connection.start_sftp_client() as one,
        connection.start_sftp_client() as other,
    ):
        listing, answered = asyncio.ensure_future(one.listdir("crowd")), 0
        while not listing.done():
            await other.stat("/")
            answered += 1
        assert len(await listing) == 5_000
        assert answered > 10
    shutil.rmtree(crowd)


@needs("sshfs", "fusermount")
def test_sshfs(server: SshServer, tmp_path: Path) -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse here")
    mount = tmp_path / "mount"
    mount.mkdir()
    done = run("sshfs", "-p", str(server.port), "-o",
               f"IdentityFile={server.key},StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null",
               "anna@127.0.0.1:", str(mount))
    if done.returncode and "fuse" in done.stderr.lower():
        pytest.skip(f"FUSE does not work here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    try:
        content = os.urandom(2_000_000)
        (mount / "sub").mkdir()
        (mount / "sub" / "x").write_bytes(content)
        assert (mount / "sub" / "x").read_bytes() == content
        os.rename(mount / "sub" / "x", mount / "y")
        with open(mount / "y", "ab") as file:
            file.write(b"more")
        os.truncate(mount / "y", 10)
        assert (server.home() / "y").read_bytes() == content[:10]
        with pytest.raises(OSError):
            os.symlink("/etc/passwd", mount / "link")
        with pytest.raises(OSError):
            os.link(mount / "y", mount / "hard")
        room = os.statvfs(mount)
        assert room.f_blocks * room.f_frsize == pytest.approx(10_000_000, rel=0.001)
        with pytest.raises(OSError), open(mount / "huge", "wb") as file:
            file.write(bytes(11_000_000))
            file.flush()
            os.fsync(file.fileno())
        os.remove(mount / "y")
        os.rmdir(mount / "sub")
    finally:
        run("fusermount", "-u", "-z", str(mount))


@needs("rclone")
def test_rclone(server: SshServer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    for number in range(20):
        (source / "deep" / f"f{number}").write_bytes(os.urandom(1000 * number))
    remote = (f":sftp,host=127.0.0.1,port={server.port},user=anna,key_file={server.key},"
              "shell_type=none:")
    config = ("--config", str(tmp_path / "none"), "-q")
    done = run("rclone", *config, "copy", str(source), f"{remote}rc")
    assert done.returncode == 0, done.stderr
    assert run("rclone", *config, "check", "--download", str(source), f"{remote}rc"
               ).returncode == 0
    done = run("rclone", *config, "sync", f"{remote}rc", str(tmp_path / "back"))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "back" / "deep").iterdir())) == 20
    assert run("rclone", *config, "purge", f"{remote}rc").returncode == 0
    assert not (server.home() / "rc").exists()


@needs("lftp")
def test_lftp(server: SshServer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "x").write_bytes(os.urandom(500_000))
    connect = ("ssh -a -x -oBatchMode=yes -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null"
               f" -oIdentitiesOnly=yes -i {server.key}")
    done = run("lftp", "-c", f"set sftp:connect-program '{connect}'; set net:max-retries 1;"
               f" open -u anna, sftp://127.0.0.1:{server.port}; mirror -R {source} lf;"
               f" mirror lf {tmp_path}/back; mv lf/x lf/y; cls lf; rm -r lf")
    assert done.returncode == 0, done.stderr
    assert "lf/y" in done.stdout
    assert (tmp_path / "back" / "x").read_bytes() == (source / "x").read_bytes()


@needs("restic")
def test_restic(server: SshServer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(30):
        (source / f"f{number}").write_bytes(os.urandom(20_000))
    connect = ("ssh -a -x -oBatchMode=yes -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null"
               f" -oIdentitiesOnly=yes -i {server.key} -p {server.port} anna@127.0.0.1 -s sftp")
    (tmp_path / "password").write_text("not much of one")
    restic = ("restic", "-q", "--no-cache", "-p", str(tmp_path / "password"), "-r",
              "sftp:anna@127.0.0.1:/backup", "-o", f"sftp.command={connect}")
    for words in (("init",), ("backup", str(source)), ("backup", str(source)),
                  ("forget", "--keep-last", "1", "--prune"), ("check", "--read-data"),
                  ("restore", "latest", "--target", str(tmp_path / "back"))):
        done = run(*restic, *words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    for file in source.iterdir():
        there = tmp_path / "back" / file.relative_to("/")
        assert there.read_bytes() == file.read_bytes()


@needs("psftp", "puttygen", "ssh-keygen")
def test_putty(server: SshServer, tmp_path: Path) -> None:
    """Its code is what FileZilla and WinSCP speak SSH with."""
    (tmp_path / "a").write_bytes(os.urandom(3_000_000))
    assert run("puttygen", str(server.key), "-o", str(tmp_path / "key.ppk")).returncode == 0
    listed = run("ssh-keygen", "-lf", str(server.root / "ssh" / "host_key"))
    common = ("-batch", "-i", str(tmp_path / "key.ppk"), "-hostkey", listed.stdout.split()[1],
              "-P", str(server.port))
    orders = tmp_path / "orders"
    orders.write_text(f"lcd {tmp_path}\nmkdir putty\ncd putty\nput a\nls\nmv a b\nget b back\n"
                      "rm b\ncd ..\nrmdir putty\nquit\n")
    done = run("psftp", *common, "-b", str(orders), "anna@127.0.0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "back").read_bytes() == (tmp_path / "a").read_bytes()
    assert not (server.home() / "putty").exists()
    done = run("pscp", *common, str(tmp_path / "a"), "anna@127.0.0.1:by-pscp")
    assert done.returncode == 0, done.stdout + done.stderr
    (server.home() / "by-pscp").unlink()


async def test_two_hundred_idle_connections_are_small(server: SshServer) -> None:
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    options = asyncssh.SSHClientConnectionOptions(
        username="anna", client_keys=[str(server.key)], known_hosts=None, config=None,
        agent_path=None)
    held = []
    try:
        for _ in range(200):
            connection = await asyncssh.connect("127.0.0.1", server.port, options=options)
            held.append((connection, await connection.start_sftp_client()))
        assert process.memory_info().rss < 100e6, f"{process.memory_info().rss / 1e6:.0f} MB"
    finally:
        for connection, _ in held:
            connection.abort()
