"""rsync of real clients into and out of a home; what it must not reach, and the limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshgw import wildcards
from tests.fakes.rsync_server import RsyncServer, size_of
from tests.fakes.ssh_server import SshServer, run
from zerostor.core.errors import BadRequest
from zerostor.core.rsync_arguments import RsyncPath
from zerostor.homes.folder import Folder

pytestmark = pytest.mark.skipif(
    not (shutil.which("rsync") and shutil.which("ssh")), reason="needs rsync and ssh"
)
PATIENCE = 60.0


@pytest.fixture(scope="module", params=["landlock", "namespace"])
def server(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[RsyncServer]:
    if request.param == "namespace" and os.geteuid():
        pytest.skip("needs root")
    with RsyncServer(tmp_path_factory.mktemp("homes") / "ann", way=request.param) as found:
        yield found


@pytest.fixture
def home(server: RsyncServer) -> Iterator[Path]:
    yield server.home
    for entry in server.home.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Names of every kind, and all that is no file."""
    folder = tmp_path / "source"
    for name in ("a", "empty", "deep/er/b", "white space", "-dash", "*?[x", "new\nline", "ünï",
                 "\udcff\udcfe", "x" * 240):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else os.urandom(3000) + os.fsencode(name))
    (folder / "big").write_bytes(os.urandom(3_000_000))
    (folder / "nothing").mkdir()
    return folder


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", one, other], check=False).returncode == 0


def until(what) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# What people do.


@pytest.mark.parametrize("options", [["-a"], ["-rt", "--inplace"], ["-az", "--delay-updates"],
                                     ["-aS", "--temp-dir=/"], ["-rc", "--append"]],
                         ids=" ".join)  # fmt: skip
def test_there_and_back(server: RsyncServer, home: Path, source: Path, tmp_path: Path, options):
    there = server.rsync(*options, f"{source}/", "home:/in/")
    assert (there.returncode, there.stderr) == (0, "")
    assert same(source, home / "in")
    back = server.rsync("-a", "home:in/", f"{tmp_path}/back/")
    assert (back.returncode, back.stderr) == (0, "")
    assert same(source, tmp_path / "back")


def test_usage_is_known_at_the_end(tmp_path: Path):
    (tmp_path / "f").write_bytes(bytes(12_345))
    with RsyncServer(tmp_path / "homes/ann") as server:
        server.rsync("-a", f"{tmp_path}/f", "home:")
        assert server.hear()["ended"] == [12_345, 10**9, 1]
        (tmp_path / "none").mkdir()
        server.rsync("-r", "--delete", f"{tmp_path}/none/", "home:")
        assert server.hear()["ended"] == [0, 10**9, 0]


def test_again_sends_what_changed_and_deletes_what_is_gone(server: RsyncServer, home: Path, source):
    server.rsync("-a", f"{source}/", "home:")
    (source / "a").write_bytes(b"changed")
    (source / "deep/er/b").unlink()
    again = server.rsync("-ai", "--delete", f"{source}/", "home:")
    assert again.returncode == 0
    sent = [line.split(None, 1)[1] for line in again.stdout.splitlines() if ".d" not in line]
    assert sorted(sent) == ["a", "deep/er/b"]
    assert same(source, home)


def test_wildcards_are_resolved_here(server: RsyncServer, home: Path, tmp_path: Path):
    for name in ("d/a.txt", "d/b.txt", "d/c", "e/a.txt", ".hidden", "*"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(name)
    got = tmp_path / "got"
    assert server.rsync("--mkpath", "home:d/*.txt", f"{got}/1/").returncode == 0
    assert server.rsync("--mkpath", "home:*/a.txt", f"{got}/2/").returncode == 0
    assert server.rsync("--mkpath", "home:/[!d]", r"home:\*", f"{got}/3/").returncode == 0
    found = sorted(str(path.relative_to(got)) for path in got.rglob("*") if path.is_file())
    assert found == ["1/a.txt", "1/b.txt", "2/a.txt", "3/*"]
    missing = server.rsync("home:none*", str(got))
    assert missing.returncode == 23
    assert "none*" in missing.stderr


def test_wildcards_are_bounded_in_all(server: RsyncServer, home: Path, monkeypatch):
    """A word of a command may match 10,000 names, and a command has 4,096 words: gigabytes."""
    for name in ("a", "b", "c"):
        (home / name).touch()
    refused = server.run("rsync --server --sender -re.LsfxCIvu . " + "* " * 4000)
    assert refused.returncode == 1
    assert "match more than 10,000 names" in refused.stderr
    folder, nothing = Folder(str(home), 10**9), RsyncPath("none*", "none*")
    monkeypatch.setattr(wildcards, "LOOKS_MAX", 9)
    assert wildcards.expand(folder, [nothing] * 2) == ["none*"] * 2
    with pytest.raises(BadRequest, match="too many names"):
        wildcards.expand(folder, [nothing] * 3)


def test_backups_and_bases_lie_in_the_home(server: RsyncServer, home: Path, source: Path):
    server.rsync("-a", f"{source}/", "home:old/")
    (source / "a").write_bytes(b"changed")
    made = server.rsync("-a", "--compare-dest=/old", f"{source}/", "home:/new/")
    assert (made.returncode, made.stderr) == (0, "")
    assert [path.name for path in (home / "new").iterdir() if path.is_file()] == ["a"]
    made = server.rsync("-ab", "--backup-dir=/kept", f"{source}/", "home:old/")
    assert (made.returncode, made.stderr) == (0, "")
    assert (home / "kept/a").stat().st_size == 3001


def test_sources_are_removed_once_they_were_sent(server: RsyncServer, home: Path, tmp_path: Path):
    (home / "a").write_bytes(b"a")
    assert server.rsync("--remove-source-files", "home:a", f"{tmp_path}/a").returncode == 0
    assert not (home / "a").exists()


# What they must not do.


@pytest.mark.parametrize("option", ["-H", "-A", "-X", "-s", "--link-dest=/etc",
                                    "--copy-dest=/x", "--write-devices", "-M--fake-super",
                                    "-M--log-file=x", "-M--daemon"])  # fmt: skip
def test_what_is_refused_is_said(server: RsyncServer, home: Path, tmp_path: Path, option: str):
    (tmp_path / "f").write_bytes(b"x")
    refused = server.rsync("-r", option, f"{tmp_path}/f", "home:")
    assert refused.returncode != 0
    assert "zerostor: rsync: " in refused.stderr
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("command", ["rsync --daemon .", "rsync --server --sender -r . ../bob",
                                     "rsync --server -e sh . x", "rsync --server -r . x;id"])
def test_raw_commands_are_refused(server: RsyncServer, home: Path, command: str):
    refused = server.run(command)
    assert refused.returncode == 1
    assert refused.stderr.startswith("zerostor: ")
    assert refused.stdout == ""


def test_a_list_of_files_is_not_read(server: RsyncServer, tmp_path: Path):
    refused = server.rsync("--files-from=-", "home:/", f"{tmp_path}/x/", input="../../etc/passwd\n")
    assert "--files-from" in refused.stderr


def test_links_and_special_files_stay_away_and_all_else_arrives(server, home, source):
    (source / "link").symlink_to("/etc/passwd")
    (source / "up").symlink_to("..")
    os.mkfifo(source / "pipe")
    if not os.geteuid():
        os.mknod(source / "device", 0o600 | 0o020000, os.makedev(1, 3))
    sent = server.rsync("-a", f"{source}/", "home:")
    assert sent.returncode == 23
    assert "zerostor: a home holds no links; all else arrived" in sent.stderr
    assert server.rsync("-a", "--no-links", "--no-D", f"{source}/", "home:").stderr == ""
    assert not any(path.is_symlink() or path.is_fifo() or path.is_char_device()
                   for path in home.rglob("*"))  # fmt: skip
    for name in ("link", "up", "pipe", "device"):
        (source / name).unlink(missing_ok=True)
    assert same(source, home)


def test_nobody_else_may_write_and_all_is_the_homes_own(server: RsyncServer, home: Path, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    os.chmod(tmp_path / "f", 0o6777)
    owner = (os.geteuid(), os.getegid())
    sent = server.rsync("-a", "--chown=7:8", f"{tmp_path}/f", "home:")
    assert (sent.returncode, sent.stderr) == (0, "")
    found = (home / "f").stat()
    assert found.st_mode & 0o7777 == 0o755
    assert (found.st_uid, found.st_gid) == owner


def test_links_from_outside_are_not_followed(server: RsyncServer, home: Path, tmp_path: Path):
    """The operator may have put them there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (home / "folder").symlink_to(outside)
    (home / "file").symlink_to(outside / "secret")
    got = tmp_path / "got"
    server.rsync("-r", "home:folder/", "home:file", "home:folder/secret", f"{got}/")
    refused = server.rsync("-rL", "home:/", f"{got}/")
    assert refused.returncode != 0
    assert not any(path.is_file() for path in got.rglob("*"))
    (tmp_path / "f").write_bytes(b"x")
    server.rsync("-r", f"{tmp_path}/f", "home:folder/")
    server.rsync("-r", "--inplace", f"{tmp_path}/f", "home:file")
    server.rsync("-r", "--delete", f"{got}/", "home:folder/")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def test_the_confinement_itself_holds(server: RsyncServer, home: Path, tmp_path: Path):
    """As if the check of the arguments had let everything through."""
    (home / "f").write_text("f")
    (tmp_path / "secret").write_text("secret")
    for arguments in (["--list-only", "-r", "/proc/"], ["-r", "/etc/passwd", "got"],
                      ["-r", str(tmp_path), "got"], ["f", str(tmp_path / "planted")],
                      ["f", "/dev/shm/planted"]):  # fmt: skip
        done = server.confined(*arguments)
        assert done.returncode != 0, done.stdout
    assert not (tmp_path / "planted").exists()
    assert not any(path.is_file() for path in home.rglob("got/*"))
    assert server.confined("f", "g").returncode == 0
    assert (home / "g").read_text() == "f"


def test_nobody_is_root_in_there(server: RsyncServer, home: Path):
    said = server.confined_python("print(open('/proc/self/status').read())", way="unconfined")
    fields = dict(line.split(":\t", 1) for line in said.stdout.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2" or os.uname().machine not in ("x86_64", "aarch64")


# The limit.


def fill(folder: Path, number: int, size: int) -> Path:
    folder.mkdir(exist_ok=True)
    for at in range(number):
        (folder / f"f{at}").write_bytes(os.urandom(size))
    return folder


@pytest.mark.parametrize(
    ("number", "size", "options"),
    [(1, 8_000_000, ["-a"]), (1, 8_000_000, ["-a", "--inplace"]), (800, 10_000, ["-a"]),
     (8, 1_000_000, ["-aW"]), (800, 10_000, ["-a", "--delay-updates"])],
)  # fmt: skip
def test_a_full_home_ends_the_transfer(tmp_path: Path, number: int, size: int, options):
    source = fill(tmp_path / "source", number, size)
    with RsyncServer(tmp_path / "homes/ann", 4_000_000) as server:
        sent = server.rsync(*options, f"{source}/", "home:")
        assert sent.returncode != 0
        assert "zerostor: the home of ann" in sent.stderr
        # What rsync had in its buffer comes on top where it writes into the file itself.
        more = 2**18 if "--inplace" in options else 2**16
        assert server.hear()["ended"][0] == size_of(server.home) <= 4_000_000 + more
        assert not list(server.home.rglob(".*.??????"))
        assert server.processes() == []


def test_what_fits_arrives(tmp_path: Path):
    source = fill(tmp_path / "source", 400, 10_000)
    with RsyncServer(tmp_path / "homes/ann", 4_000_000) as server:
        sent = server.rsync("-a", f"{source}/", "home:")
        assert (sent.returncode, sent.stderr) == (0, "")
        assert server.rsync("-a", f"{source}/", "home:").returncode == 0
        assert same(source, server.home)


@pytest.mark.parametrize("options", [["-az"], ["-aS"], ["-a", "--preallocate"],
                                     ["-a", "-z", "--zc=zstd", "--zl=19"]])  # fmt: skip
def test_few_bytes_that_unpack_to_many(tmp_path: Path, options):
    source = tmp_path / "source"
    source.mkdir()
    for at in range(40):
        with open(source / f"f{at}", "wb") as file:
            file.truncate(4_000_000)
    with RsyncServer(tmp_path / "homes/ann", 20_000_000) as server:
        sent = server.rsync(*options, f"{source}/", "home:")
        assert "zerostor: the home of ann is full" in sent.stderr
        # What is written in the milliseconds between two looks at rsync.
        assert server.hear()["ended"][0] == size_of(server.home) <= 40_000_000


def test_what_is_copied_within_the_home_counts(tmp_path: Path):
    """The client sends next to nothing; rsync makes a new file of the one that is there."""
    source = fill(tmp_path / "source", 1, 60_000_000)
    with RsyncServer(tmp_path / "homes/ann", 62_000_000) as server:
        shutil.copytree(source, server.home, dirs_exist_ok=True)
        with open(source / "f0", "ab") as file:
            file.write(b"more")
        sent = server.rsync("-a", f"{source}/", "home:")
        assert "zerostor: the home of ann is full" in sent.stderr
        assert server.hear()["ended"][0] == size_of(server.home) == 60_000_000


def test_several_at_once_share_what_is_free(tmp_path: Path):
    with RsyncServer(tmp_path / "homes/ann", 8_000_000) as server:
        sending = []
        for at in range(4):
            source = fill(tmp_path / f"source{at}", 400, 10_000)
            sending.append(subprocess.Popen(server.command("-a", f"{source}/", f"home:{at}/"),
                                            stderr=subprocess.PIPE, text=True))  # fmt: skip
        said = [one.communicate(timeout=PATIENCE)[1] for one in sending]
        assert any("is full" in text for text in said)
        for _ in sending:
            last = server.hear()["ended"][0]
        assert last == size_of(server.home) <= 8_000_000 + 2**18


def test_the_oldest_go_for_new_ones(tmp_path: Path):
    source = fill(tmp_path / "source", 100, 100_000)
    with RsyncServer(tmp_path / "homes/ann", 4_000_000, quota="drop-oldest") as server:
        old = server.home / "old"
        old.write_bytes(bytes(2_000_000))
        os.utime(old, (1, 1))
        sent = server.rsync("-rt", f"{source}/", "home:")
        assert (sent.returncode, sent.stderr) == (0, "")
        assert size_of(server.home) <= 4_000_000
        assert "/old" in server.hear()["removed"]
        assert not old.exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("way", [(), ("--inplace",)])
def test_what_rsync_is_writing_does_not_go_for_itself(tmp_path: Path, way: tuple[str, ...]):
    """Its bytes would go on to the disk under no name, and count for nobody."""
    source = fill(tmp_path / "source", 1, 3_950_000)
    with RsyncServer(tmp_path / "homes/ann", 4_000_000, quota="drop-oldest") as server:
        (server.home / "old").write_bytes(bytes(1_000_000))
        sent = server.rsync("-rt", *way, f"{source}/", "home:")
        assert (sent.returncode, sent.stderr) == (0, "")
        assert server.hear() == {"removed": ["/old"]}
        assert server.hear()["ended"][0] == 3_950_000
        fill(source, 1, 16_000_000)
        sent = server.rsync("-rt", *way, f"{source}/", "home:")
        assert "of 4,000,000 bytes are used" in sent.stderr


def test_a_home_beyond_its_limit_can_be_tidied_up(tmp_path: Path):
    source = fill(tmp_path / "source", 10, 1000)
    with RsyncServer(tmp_path / "homes/ann", 1_000_000) as server:
        (server.home / "more").write_bytes(bytes(3_000_000))
        sent = server.rsync("-r", "--delete", f"{source}/", "home:")
        assert (sent.returncode, sent.stderr) == (0, "")
        assert same(source, server.home)


# How it ends.


def test_when_the_client_goes_rsync_goes(tmp_path: Path):
    source = fill(tmp_path / "source", 1, 30_000_000)
    with RsyncServer(tmp_path / "homes/ann") as server:
        client = subprocess.Popen(server.command("-a", "--bwlimit=1000", f"{source}/", "home:"),
                                  start_new_session=True)  # fmt: skip
        until(lambda: len(server.processes()) >= 3)
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        until(lambda: server.processes() == [])
        server.hear()
        assert not list(server.home.rglob(".*.??????"))


def test_when_the_server_is_killed_rsync_goes(tmp_path: Path):
    source = fill(tmp_path / "source", 1, 30_000_000)
    with RsyncServer(tmp_path / "homes/ann") as server:
        client = subprocess.Popen(server.command("-a", "--bwlimit=1000", f"{source}/", "home:"),
                                  stderr=subprocess.DEVNULL)  # fmt: skip
        until(lambda: len(server.processes()) >= 3)
        running = server.processes()
        server.kill()
        assert client.wait(PATIENCE) != 0
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running))


def test_a_partial_file_is_kept_for_who_asks(tmp_path: Path):
    source = fill(tmp_path / "source", 1, 30_000_000)
    with RsyncServer(tmp_path / "homes/ann") as server:
        client = subprocess.Popen(
            server.command("-a", "--partial", "--bwlimit=2000", f"{source}/", "home:"),
            start_new_session=True)  # fmt: skip
        until(lambda: size_of(server.home) > 500_000)
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        server.hear()
        assert 500_000 < (server.home / "f0").stat().st_size < 30_000_000


def test_too_many_at_once_are_turned_away(tmp_path: Path):
    with RsyncServer(tmp_path / "homes/ann") as server:
        command = [*server.ssh, "ann@127.0.0.1", "rsync --server -re.LsfxCIvu . x"]
        held = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
                for _ in range(4)]  # fmt: skip
        until(lambda: len(server.processes()) >= 8)
        refused = server.run("rsync --server -re.LsfxCIvu . x")
        assert "too many rsync transfers" in refused.stderr
        for one in held:
            one.kill()
            one.wait()
        until(lambda: server.processes() == [])


def test_without_rsync_a_sentence(tmp_path: Path):
    with RsyncServer(tmp_path / "homes/ann", way="off") as server:
        refused = server.rsync("-r", str(tmp_path), "home:")
        assert "zerostor: rsync is switched off on this server; SFTP and scp work" in refused.stderr


def test_when_the_program_between_is_killed_rsync_goes(tmp_path: Path):
    """At once, and not when all was sent: nobody holds it to the limit any more."""
    source = fill(tmp_path / "source", 1, 1)
    os.truncate(source / "f0", 1_000_000 * 10 * int(PATIENCE))
    with RsyncServer(tmp_path / "homes/ann") as server:
        client = subprocess.Popen(server.command("-a", "--bwlimit=1000", f"{source}/", "home:"),
                                  stderr=subprocess.DEVNULL)  # fmt: skip
        until(lambda: len(server.processes()) >= 3)
        running = server.processes()
        os.kill(running[0], signal.SIGKILL)
        assert client.wait(PATIENCE) != 0
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running[1:]))
        server.hear()


# With the real server.


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[SshServer]:
    """anna has 10 MB."""
    server = SshServer(tmp_path)
    server.start()
    yield server
    assert server.stop() == 0


def shell_of(server: SshServer) -> str:
    return " ".join(["ssh", "-q", "-p", str(server.port), *server.options()])


def test_zerostor_ssh_runs_rsync(gateway: SshServer, source: Path, tmp_path: Path):
    there = run("rsync", "-a", "-e", shell_of(gateway), f"{source}/", "anna@127.0.0.1:in/")
    assert (there.returncode, there.stderr) == (0, "")
    back = run("rsync", "-a", "-e", shell_of(gateway), "anna@127.0.0.1:in/", f"{tmp_path}/back/")
    assert (back.returncode, back.stderr) == (0, "")
    assert same(source, tmp_path / "back")
    assert "rsync is confined to the home by Landlock" in gateway.log.read_text()


def test_rsync_and_sftp_at_once_hold_the_limit_together(gateway: SshServer, tmp_path: Path):
    one = fill(tmp_path / "one", 800, 10_000)
    two = fill(tmp_path / "two", 8, 1_000_000)
    sending = [
        subprocess.Popen(["rsync", "-a", "-e", shell_of(gateway), f"{one}/",
                          "anna@127.0.0.1:one/"], stderr=subprocess.PIPE, text=True),
        subprocess.Popen(["sftp", *gateway.options(), "-P", str(gateway.port), "-b", "-",
                          "anna@127.0.0.1"], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                         stdout=subprocess.DEVNULL, text=True),
    ]  # fmt: skip
    batch = "".join(f"-put {two}/f{at} f{at}\n" for at in range(8))
    said = [client.communicate(text, timeout=PATIENCE)[1]
            for client, text in reversed(list(zip(sending, (None, batch), strict=True)))]
    assert any(text for text in said)
    assert size_of(gateway.home()) <= 10_000_000 + 2**16
