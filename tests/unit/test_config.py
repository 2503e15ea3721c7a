import json
import os
from pathlib import Path

import pytest

from zerostor.config import SOCKET_PATH_MAX, effective, load, server_address
from zerostor.core.errors import SetupError
from zerostor.core.setting_types import Secret
from zerostor.core.settings import join_password, split_password
from zerostor.core.units import Address
from zerostor.private_socket import MADE


def read(folder: Path, text: str = "", listen: str | None = None, **environ: str):
    if text:
        (folder / "zerostor.toml").write_text(text)
    return load(folder, environ=environ, listen=listen)


def refusal(folder: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(SetupError) as caught:
        read(folder, text, **environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_need_nothing(tmp_path):
    config = read(tmp_path)
    assert config.source is None
    assert config.gateway.listen == Address("127.0.0.1", 8080)
    assert config.gateway.max_upload == 100_000_000
    assert config.own_stores
    assert [store.name for store in config.store] == [f"{number:02}" for number in range(20)]
    assert config.store[7].folder == f"{tmp_path}/stores/07"
    policy = config.policy["default"]
    assert (policy.data, policy.parity, policy.durable, policy.pool) == (16, 4, 18, "main")
    assert config.redis.embedded
    assert config.redis_url == f"unix://{config.paths.redis_socket}"
    assert not list(tmp_path.iterdir()), "reading the settings creates nothing"


def test_stronger_sources_win(tmp_path):
    text = '[gateway]\nmax_upload = "1MB"\nlisten = "127.0.0.1:1"\n'
    assert read(tmp_path, text).gateway.max_upload == 10**6
    config = read(tmp_path, text, ZEROSTOR_GATEWAY_MAX_UPLOAD="1GiB", listen="[::1]:3")
    assert config.gateway.max_upload == 2**30
    assert config.gateway.listen == Address("::1", 3)
    assert config.source == tmp_path / "zerostor.toml"


def test_the_file_and_folder_can_come_from_the_environment(tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("[worker]\nconcurrency = 9\n")
    config = load(environ={"ZEROSTOR_DATA": str(tmp_path), "ZEROSTOR_CONFIG": str(other)})
    assert config.paths.root == tmp_path
    assert config.worker.concurrency == 9
    assert load(environ={}).paths.root == Path.cwd() / "data"


def test_every_environment_variable_of_a_policy(tmp_path):
    text = "[policy.cold-tier]\ndata = 2\nparity = 1\n"
    config = read(
        tmp_path,
        text,
        ZEROSTOR_POLICY_DEFAULT_DATA="4",
        ZEROSTOR_POLICY_DEFAULT_PARITY="2",
        ZEROSTOR_POLICY_COLD_TIER_PARITY="3",
        ZEROSTOR_POLICY_TWO_DATA="1",
        ZEROSTOR_POLICY_TWO_PARITY="1",
    )
    assert set(config.policy) == {"default", "cold-tier", "two"}
    assert config.policy["default"].durable == 6
    assert config.policy["cold-tier"].parity == 3
    assert config.policy["two"].durable == 2, "data + 2, at most all shards"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[gateway]\n\nmax_uplaod = 5\n",
            "line 3: gateway.max_uplaod: there is no such setting; did",
        ),
        ("[gateway]\nmax_uplaod = 5\n", "; did you mean max_upload?"),
        ("# hi\n[gatway]\nlisten = ''\n", "line 2: gatway: there is no such section; did"),
        ("[policy.default]\ndata = 'x'\n", "line 2: policy.default.data: must be a whole number"),
        ("[policy.a]\nprity = 1\n", "line 2: policy.a.prity"),
        ("[gateway]\nmax_upload = '5M'\n", "line 2: gateway.max_upload: '5M' is not a size"),
        ("[gateway]\nmax_upload = true\n", "must be a size"),
        ("[gateway]\nmax_upload = 0\n", "at least 1 byte"),
        ("[gateway]\nlisten = 8080\n", "line 2: gateway.listen: must be text"),
        ("[gateway]\npublic_url = 'example.com'\n", "must start with http"),
        ("[ssh]\nenabled = 1.0\n", "must be true or false"),
        ("[ssh]\nquota = 'drop-oldes'\n", "did you mean drop-oldest"),
        ("[ssh]\nconnections = 0\n", "1 to 5000"),
        ("[ssh]\nlogin_timeout = '100ms'\n", "nobody logs in so quickly"),
        ("[worker]\nprocesses = 0\n", "1 to 256"),
        ("[worker]\nprocesses = 1.5\n", "whole number"),
        ("gateway = 3\n", "must be a table"),
        ("[policy]\ndefault = 3\n", "must be a table"),
        ("[policy]\ndata = 4\n", "line 2: policy.data: write it under [policy.default]"),
        ("[store]\nname = 'a'\n", "its own [[store]]"),
        ("store = [3]\n", "must be a table"),
        ("[gateway\n", "zerostor.toml: "),
        ("x = " + "[" * 5000 + "\n", "zerostor.toml: "),
        ("[policy.default]\ndata = 0\n", "data must be at least 1"),
        ("[policy.default]\nparity = -1\n", "parity at least 0"),
        ("[policy.default]\ndata = 200\nparity = 57\n", "257"),
        ("[policy.default]\ndurable = 15\n", "durable is 15"),
        ("[policy.default]\ndurable = 21\n", "durable is 21"),
        ("[policy.default]\npool = 'mian'\n", "did you mean main?"),
        ("[policy.default]\ndata = 17\n", "has 20: add stores"),
        ("[policy.'A B']\ndata = 1\n", "name must be"),
        ("[redis]\nurl = 'http://x'\n", "line 2: redis.url: 'http://x' is not one of redis://"),
        ("[redis]\nurl = 'redis://:hush@host'\n", "password_file"),
        ("[redis]\npassword = 'hush'\n", "line 2: redis.password: name a file"),
        ("[redis]\npassword_file = '/nowhere'\n", "redis.password_file"),
        ("[metadata]\nurl = 'zdb://'\n", "metadata.url"),
        ("[metadata]\nurl = 'zdb://host:99999'\n", "metadata.url: 'zdb://host:99999': Port"),
        ("[redis]\nurl = 'redis://host:port'\n", "line 2: redis.url: 'redis://host:port': Port"),
        ("[redis]\nurl = 'redis://[::1'\n", "line 2: redis.url: 'redis://[::1': Invalid IPv6"),
    ],
)
def test_what_is_wrong_is_refused_and_said(tmp_path, text, said):
    message = refusal(tmp_path, text)
    assert said in message
    assert "hush" not in message


def store_toml(*stores: str, policy: str = "data = 1\nparity = 1") -> str:
    return f"[policy.default]\n{policy}\n" + "".join(f"[[store]]\n{store}\n" for store in stores)


@pytest.mark.parametrize(
    ("stores", "said"),
    [
        (["name='a'\nurl='dir:///a'"], "on 2 different stores, but pool 'main' has 1"),
        (["name='a'\nurl='dir:///a'", "name='a'\nurl='dir:///b'"], "two stores are named 'a'"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='dir:///a/'"], "are the same place"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='dir://b'"], "full path"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='ftp://b'"], "is not one of dir://"),
        (["name='a'\nurl='dir:///a'", "name='../b'\nurl='dir:///b'"], "[[store]] number 2"),
        (["name='a'\nurl='dir:///a'", "url='dir:///b'"], "[[store]] number 2"),
        (["name='a'\nurl='dir:///a'", "name='b'\nulr='dir:///b'"], "line 9: store.1.ulr"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='dir:///b'\nlabels={host=1}"], "with text"),
        (
            ["name='a'\nurl='dir:///a'\npool='x'", "name='b'\nurl='dir:///b'\npool='x'"],
            "no store is in pool 'main'",
        ),
        (["name='a'\nurl='zdb://b/ns'", "name='b'\nurl='zdb://b:9900/ns?mode=user'"], "same place"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='zdb://b:9900/ns?mode=seq'"], "in user mode"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='zdb://b:9900/a/b'"], "name of a namespace"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='zdb://:pw@b/ns'"], "password_file"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='zdb+unix://b?namespace=x'"], "full path"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='node://b'"], "nodes are off"),
        (["name='a'\nurl='dir:///a'", "name='b'\nurl='node://h:7777/b'"], "hub on this host"),
        (["name='a'\nurl='node://x'", "name='b'\nurl='node://x/'"], "hub on this host"),
        (["name='a'\nurl='node://x'", "name='b'\nurl='node://x'"], "same place"),
    ],
)
def test_stores_refused(tmp_path, stores, said):
    assert said in refusal(tmp_path, store_toml(*stores))


def node_toml(nodes: int, disks: int, policy: str, labels: str = "{}") -> str:
    stores = [f"name='n{n}'\nurl='node://n{n}'\nlabels={labels}" for n in range(nodes)]
    stores += [f"name='d{n}'\nurl='dir:///d{n}'" for n in range(disks)]
    return "[nodes]\nenabled = true\n" + store_toml(*stores, policy=policy)


@pytest.mark.parametrize(
    ("nodes", "disks", "policy", "labels", "said"),
    [
        (20, 10, "", "{}", "at most 4 may be on nodes, which is what it can lose, and pool"),
        (20, 10, "", "{}", "'main' has 10 other stores: add 6"),
        (9, 0, "data=1\nparity=2", "{owner='anna'}", "at most 2 may be with one owner"),
        (9, 0, "data=1\nparity=2", "{site='shed'}", "room for 2: it needs stores of more sites"),
    ],
)
def test_policies_that_no_placement_could_satisfy_are_refused(
        tmp_path, nodes, disks, policy, labels, said):
    assert said in refusal(tmp_path, node_toml(nodes, disks, policy, labels))


def test_stores_on_nodes(tmp_path):
    config = read(tmp_path, node_toml(4, 16, "", "{owner='anna'}"))
    store = config.store[0]
    assert (store.node, store.folder, store.namespace, store.host) == ("n0", "", None, "n0")
    assert store.hub == str(config.paths.shards_socket)
    assert read(tmp_path, node_toml(9, 0, "data=1\nparity=2")).policy["default"].durable == 3
    assert read(tmp_path, node_toml(9, 0, "data=4\nparity=0\ndurable=4", "{owner='anna'}"))


def test_stores_of_ones_own(tmp_path):
    text = store_toml(
        "name='nas-1'\nurl='dir:///mnt/my disk'\nlabels={host='nas', site='home'}",
        "name='z'\nurl='dir:///mnt/z/'",
    )
    config = read(tmp_path, text)
    assert not config.own_stores
    assert config.store[0].folder == "/mnt/my disk"
    assert config.store[0].labels == {"host": "nas", "site": "home"}
    assert config.store[1].folder == "/mnt/z/"


def test_stores_in_zdb_namespaces(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    config = read(
        tmp_path,
        store_toml(
            f"name='a'\nurl='zdb://b:1/one?mode=user&value=1MiB'\npassword_file='{secret}'",
            "name='b-2.x'\nurl='zdb+unix:///run/b.sock?namespace=two'\nlabels={host='rack'}",
        ),
        ZEROSTOR_STORE_B_2_X_PASSWORD="from outside",
    )
    first, second = config.store
    assert (first.namespace.server, first.namespace.namespace) == ("b:1", "one")
    assert first.namespace.value_size == 2**20
    assert (second.namespace.unix, second.namespace.namespace) == ("/run/b.sock", "two")
    assert (first.host, second.host) == ("b:1", "rack")
    assert [store.password.reveal() for store in config.store] == ["from a file", "from outside"]
    assert "from" not in repr(config.store)
    assert "from " not in json.dumps(effective(config), default=str)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ZEROSTOR_GATEWAY_MAXUPLOAD", "did you mean ZEROSTOR_GATEWAY_MAX_UPLOAD?"),
        ("ZEROSTOR_POLICY_DATA", "did you mean"),
        ("ZEROSTOR_STORE_NOWHERE_PASSWORD", "there is no [[store]] of that name"),
        ("ZEROSTOR_X", "ZEROSTOR_X in the environment is not a setting"),
        ("ZEROSTOR_WORKER_PROCESSES", "ZEROSTOR_WORKER_PROCESSES: must be a whole number"),
    ],
)
def test_environment_refused(tmp_path, name, said):
    assert said in refusal(tmp_path, **{name: "?"})


def test_foreign_variables_are_left_alone(tmp_path):
    read(
        tmp_path,
        ZEROSTOR_SERVER="http://x",
        ZEROSTOR_SERVICE_HOST="10.0.0.1",
        ZEROSTOR_PORT_8080_TCP_ADDR="10.0.0.1",
        ZEROSTOR_GATEWAY_PORT="tcp://10.0.0.1:8080",
        NOT_ZEROSTOR_X="1",
    )


def test_switches_from_the_environment(tmp_path):
    assert not read(tmp_path, ZEROSTOR_SSH_ENABLED="off").ssh.enabled
    assert read(tmp_path, ZEROSTOR_NODES_ENABLED="true").nodes.enabled


def test_nodes_have_a_heartbeat_that_their_link_can_carry(tmp_path):
    assert read(tmp_path, ZEROSTOR_NODES_HEARTBEAT="1m").nodes.heartbeat == 60
    assert "whole seconds" in refusal(tmp_path, ZEROSTOR_NODES_HEARTBEAT="1.5s")
    assert "1 to 5000" in refusal(tmp_path, ZEROSTOR_NODES_CONNECTIONS="0")


def test_a_redis_of_ones_own(tmp_path):
    config = read(tmp_path, REDIS_URL="redis://ann:hush@cache:6379/2")
    assert config.redis_url == "redis://ann@cache:6379/2"
    assert config.redis_login == "redis://ann:hush@cache:6379/2"
    named = read(tmp_path, ZEROSTOR_REDIS_URL="unix:///run/r.sock", REDIS_URL="redis://no")
    assert named.redis_url == "unix:///run/r.sock"
    text = '[redis]\nurl = "embedded"\n'
    assert read(tmp_path, text, REDIS_URL="redis://no").redis.embedded, "the file says so"
    assert "REDIS_URL: " in refusal(tmp_path / "other", REDIS_URL="mysql://x")


def test_secrets_come_from_files_and_are_never_shown(tmp_path):
    hidden = tmp_path / "secret"
    hidden.write_text("hush@ /\n")
    text = f"[redis]\nurl = 'rediss://cache'\npassword_file = '{hidden}'\n"
    config = read(tmp_path, text)
    assert config.redis.password.reveal() == "hush@ /"
    assert config.redis_login == "rediss://:hush%40%20%2F@cache"
    config_env = read(tmp_path, ZEROSTOR_REDIS_PASSWORD="hush")
    assert config_env.redis.password == Secret("hush")
    for shown in (repr(config), str(config.redis), repr(effective(config)), f"{config_env}"):
        assert "hush" not in shown
    assert effective(config)["redis"]["password"] == "***"


@pytest.mark.parametrize("password", ["a", "a:b", "p@ss/w:rd?", "ü"])
def test_passwords_survive_the_way_out_of_a_url_and_back(password):
    url, inside = split_password(join_password("redis://u@h:1/0", Secret(password)))
    assert (url, inside) == ("redis://u@h:1/0", password)


def sockets_of(paths):
    """All there are; those that are made under another name under that one."""
    sockets = [getattr(paths, name) for name in dir(paths) if name.endswith("_socket")]
    theirs = (paths.redis_socket, paths.zdb_socket)
    return [path if path in theirs else path.with_name(path.name + MADE) for path in sockets]


def test_a_folder_that_is_just_deep_enough_has_no_socket_that_is_too_long():
    for length in range(75, 100):
        run = read(Path("/" + "x" * length), XDG_RUNTIME_DIR="/run").paths
        assert max(len(os.fsencode(path)) for path in sockets_of(run)) <= SOCKET_PATH_MAX, length


def test_sockets_fit_even_below_a_deep_folder(tmp_path):
    deep = tmp_path.joinpath(*["folder" * 4] * 6)
    paths = read(deep, XDG_RUNTIME_DIR=str(Path("/run/user/0"))).paths
    assert str(paths.run).startswith("/run/user/0/zerostor-")
    for run in (paths, read(deep).paths, read(deep, XDG_RUNTIME_DIR="/" + "x" * 200).paths):
        assert all(len(os.fsencode(path)) <= SOCKET_PATH_MAX for path in sockets_of(run))
    assert read(deep).paths.run == read(deep).paths.run
    assert read(deep).paths.run != read(deep.parent).paths.run
    assert read(Path("/srv/z")).paths.run == Path("/srv/z/run")


def test_files_that_cannot_be_settings(tmp_path):
    with pytest.raises(SetupError, match="cannot read the settings"):
        load(tmp_path, tmp_path / "missing.toml", environ={})
    with pytest.raises(SetupError, match="cannot read the settings"):
        load(tmp_path, tmp_path, environ={})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="not UTF-8"):
        load(tmp_path, binary, environ={})
    binary.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(SetupError, match="larger than"):
        load(tmp_path, binary, environ={})


def test_server_address():
    assert server_address({}) == "http://127.0.0.1:8080"
    assert server_address({"ZEROSTOR_SERVER": "https://z"}) == "https://z"


def test_a_path_that_no_message_could_name_is_refused(tmp_path):
    with pytest.raises(SetupError, match="not UTF-8") as caught:
        load(Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")), environ={})
    assert str(caught.value).isascii()


def test_a_password_on_the_command_line_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(SetupError) as caught:
        load(tmp_path, environ={}, master="zdb://:tell-nobody@10.0.0.5:9900")
    assert "metadata.password_file" in str(caught.value)
    assert "tell-nobody" not in str(caught.value)
    url = "zdb://:tell-nobody@10.0.0.5:9900"
    config = read(tmp_path, ZEROSTOR_METADATA_MASTER=url)
    assert config.metadata.password.reveal() == "tell-nobody"
    assert "tell-nobody" not in config.metadata.master


def test_several_metadata_servers(tmp_path):
    urls = ("zdb://a:9900", "unix:///run/a,b.sock", "zdb://c/ns")
    text = f"[metadata]\nurl = {list(urls)}\n"
    assert read(tmp_path, text).metadata.url == urls
    assert read(tmp_path, f"[metadata]\nurl = '{', '.join(urls)}'\n").metadata.url == urls
    config = read(tmp_path, text, ZEROSTOR_METADATA_URL="zdb://:hush@d,zdb://:hush@e")
    assert config.metadata.url == ("zdb://d", "zdb://e")
    assert config.metadata.password.reveal() == "hush"
    assert effective(config)["metadata"]["url"] == ["zdb://d", "zdb://e"]
    assert effective(read(tmp_path, "[metadata]\nurl = 'zdb://a'\n"))["metadata"]["url"] == "zdb://a"
    listens = read(tmp_path, text.replace("c/ns", "127.0.0.1:77") + "listen = '127.0.0.1:77'\n")
    assert listens.metadata.listen == "127.0.0.1:77"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("[]", "line 2: metadata.url is empty"),
        ("['zdb://a', 'embedded']", "'embedded' stands alone"),
        ("['zdb://a', 'zdb://a']", "names zdb://a twice"),
        ("['zdb://a', 3]", "text in quotes"),
        ("['zdb://a', 'redis://b']", "is not one of zdb://"),
        ("'zdb://a:9900,b:9900'", "'zdb://a:9900,b:9900': Port"),
        ("['zdb://a', 'zdb://:hush@b']", "has a password in it"),
    ],
)
def test_several_metadata_servers_refused(tmp_path, url, said):
    message = refusal(tmp_path, f"[metadata]\nurl = {url}\n")
    assert said in message and "hush" not in message


def test_several_metadata_servers_have_one_password(tmp_path):
    message = refusal(tmp_path, ZEROSTOR_METADATA_URL="zdb://:hush@a,zdb://:hushhush@b")
    assert "the same password" in message and "hush" not in message


def test_who_forwards_and_how_much_is_let_in(tmp_path):
    config = read(tmp_path, "[gateway]\ntrusted_proxies = ['10.0.0.5', '192.168.0.0/16']\n"
                            "tls_cert = 'c'\ntls_key = 'k'\nhsts = '1d'\n"
                            "[limits]\nmin_rate = '2kB'\n")
    assert config.gateway.trusted_proxies == ("10.0.0.5", "192.168.0.0/16")
    assert (config.gateway.hsts, config.limits.min_rate) == (86_400, 2000)
    config = read(tmp_path, ZEROSTOR_GATEWAY_TRUSTED_PROXIES="::1, 10.0.0.0/8",
                  ZEROSTOR_LIMITS_UPLOADS="0")
    assert config.gateway.trusted_proxies == ("::1", "10.0.0.0/8")
    assert effective(config)["limits"]["uploads"] == 0
    assert "trusted_proxies" not in effective(load(tmp_path / "none", environ={}))["gateway"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gateway]\ntls_cert = 'c'\n", "belong together"),
        ("[gateway]\ntrusted_proxies = ['10.0.0.5/8']\n", "host bits set; write addresses"),
        ("[gateway]\ntrusted_proxies = ['nginx']\n", "'nginx' does not appear to be"),
        ("[limits]\nuploads = -1\n", "less than nothing"),
        ("[limits]\nconnections = 0\n", "at least 1"),
        ("[limits]\nheader_timeout = '0.5s'\n", "it may be 1 to 3600"),
        ("[limits]\nspool_share = 101\n", "101 per cent"),
        ("[limits]\nupload = 1\n", "did you mean uploads"),
    ],
)
def test_doors_that_would_not_work_are_refused(tmp_path, text, said):
    assert said in refusal(tmp_path, text)


SECRET_TEXT = "0123456789abcdef"


def test_a_secret_for_the_gateway(tmp_path):
    (tmp_path / "secret").write_text(f"{SECRET_TEXT}\n")
    config = read(tmp_path, f'[gateway]\nsecurity = "secret"\nsecret_file = "{tmp_path}/secret"\n')
    assert config.gateway.secret == Secret(SECRET_TEXT)
    told = effective(config)
    assert told["gateway"]["security"] == "secret"
    assert told["gateway"]["secret"] == "***"
    assert SECRET_TEXT not in json.dumps(told) + repr(config)
    config = read(tmp_path, "[gateway]\n", ZEROSTOR_GATEWAY_SECURITY="secret",
                  ZEROSTOR_GATEWAY_SECRET=SECRET_TEXT)
    assert config.gateway.secret == Secret(SECRET_TEXT)


def test_who_may_ask_is_said_clearly(tmp_path):
    assert read(tmp_path).gateway.security == "public"
    assert read(tmp_path, '[gateway]\nsecurity = "keys"\n').keys_file == tmp_path / "keys"
    written = '[gateway]\nsecurity = "keys"\nkeys_file = "/etc/zerostor/keys"\n'
    assert read(tmp_path, written).keys_file == Path("/etc/zerostor/keys")
    assert "did you mean secret" in refusal(tmp_path, '[gateway]\nsecurity = "secrets"\n')
    assert "there is none" in refusal(tmp_path, '[gateway]\nsecurity = "secret"\n')
    (tmp_path / "empty").write_text("\n")
    assert "empty" in refusal(
        tmp_path, f'[gateway]\nsecurity = "secret"\nsecret_file = "{tmp_path}/empty"\n')
    assert "no use" in refusal(tmp_path, '[gateway]\nkeys_file = "/etc/zerostor/keys"\n')
    for secret in ("short", "with a blank in between", "with\nan end of a line", "ümlaut" * 4):
        told = refusal(tmp_path, "[gateway]\n", ZEROSTOR_GATEWAY_SECURITY="secret",
                       ZEROSTOR_GATEWAY_SECRET=secret)
        assert "16 to 1024" in told
        assert secret not in told
    assert "asks for none" in refusal(tmp_path, "[gateway]\n", ZEROSTOR_GATEWAY_SECRET=SECRET_TEXT)
    assert "_file" in refusal(tmp_path, f'[gateway]\nsecret = "{SECRET_TEXT}"\n')
