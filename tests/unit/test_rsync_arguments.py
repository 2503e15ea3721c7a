"""What clients send is run as they mean it, and what could reach outside is refused."""

from __future__ import annotations

import pytest

from zerostor.core.errors import BadRequest, NotAllowed, ZerostorError
from zerostor.core.rsync_arguments import parse

ROOT = "/srv/homes/ann"
RECEIVER = ["--server", "--no-super", "--chmod=u+r,Du+wx,go-w,ug-s,o-t"]


def run(command: str) -> list[str]:
    found = parse(command, ROOT)
    return found.arguments([path.text for path in found.paths])


def paths(text: str) -> list[tuple[str, str]]:
    return list(parse(f"rsync --server --sender -re.LsfxCIvu . {text}", ROOT).paths)


def test_a_push_as_rsync_3_5_sends_it():
    command = (
        r"rsync --server -vblogDtprSze.iLsfxCIvu --timeout=5 --backup-dir /o\ ld --max-size=1048576"
        r" --delete --partial-dir .p --usermap=\*:7 --groupmap=\*:8 --temp-dir /tmp"
        r" --info=STATS2 . /a/b\ c"
    )
    assert run(command) == [
        *RECEIVER, "-vblogDtprze.iLsfxCIvu", "--timeout=5", f"--backup-dir={ROOT}/o ld",
        "--max-size=1048576", "--delete", "--partial-dir=.p", f"--temp-dir={ROOT}/tmp",
        "--info=STATS2", ".", "a/b c",
    ]  # fmt: skip


def test_a_pull_as_rsync_3_5_sends_it():
    command = "rsync --server --sender -vlogDtpre.iLsfxCIvu --bwlimit=10 -B700 . a/ '/b c' ~/d"
    assert run(command) == [
        "--server", "--sender", "-vlogDtpre.iLsfxCIvu", "--bwlimit=10", "-B700", ".", "a/", "b c",
        "d",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/", "."), ("~", "."), ("~/", "."), ("//etc/passwd", "etc/passwd"), ("x/./y", "x/./y"),
        ("-rf", "./-rf"), ("/--daemon", "./--daemon"), (r"a\ b", "a b"), ('"a b"', "a b"),
        ("'a\\b'", "a\\b"), (r"it\'s~\(1\)", "it's~(1)"), (r"\{a,b\}", "{a,b}"), ("''", "."),
        ("..a/b..", "..a/b.."), ('"a\\$b"', "a$b"), ("ünï", "ünï"),
    ],
)  # fmt: skip
def test_paths_lead_into_the_home(text: str, path: str):
    assert paths(text) == [(path, "")]


@pytest.mark.parametrize(
    ("text", "wild"),
    [("*.txt", "*.txt"), ("/a/*", "a/*"), (r"\*\[*", "[*][[]*"), ("-*", "./-*"), ("'*'?", "[*]?")],
)
def test_wildcards_are_kept_apart_from_names(text: str, wild: str):
    assert [path.wild for path in parse(f"rsync --server --sender -r . {text}", ROOT).paths] == [
        wild
    ]


@pytest.mark.parametrize(
    "path",
    ["..", "../x", "a/..", "/../etc", "~/../bob", r"a/\.\./b", "'..'/x", '".".', "*/../x"],
)
def test_what_leads_out_is_refused(path: str):
    if path == '".".':
        path = '".."'
    with pytest.raises(NotAllowed):
        paths(path)


@pytest.mark.parametrize("name", ["backup-dir", "compare-dest", "partial-dir", "temp-dir"])
def test_places_stay_in_the_home(name: str):
    for form in (f"--{name} ", f"--{name}="):
        assert f"--{name}={ROOT}/etc" in run(f"rsync --server -r {form}/etc . x")
        assert f"--{name}=sub" in run(f"rsync --server -r {form}sub . x")
        for out in ("../x", "/../x", "a/../../x", r"\../x"):
            with pytest.raises(NotAllowed):
                run(f"rsync --server -r {form}{out} . x")


@pytest.mark.parametrize(
    "option",
    [
        "--daemon", "--config=/x", "--rsh=sh", "--rsh sh", "-e sh", "-esh", "--log-file=/x",
        "--log-file-format=x", "--files-from=-", "--files-from /etc/passwd", "--remote-option=-x",
        "-M--daemon", "--rsync-path=x", "-s", "-rs", "--secluded-args", "--protect-args", "-H",
        "-logDtprH", "-A", "-X", "-L", "-K", "-k", "-N", "--link-dest=x", "--copy-dest=x",
        "--copy-unsafe-links",
        "--write-devices", "--copy-devices", "--fake-super", "--suffix=/x", "--no-munge-links",
        "--only-write-batch=x", "--write-batch=x", "--read-batch=x", "--password-file=x",
        "--exclude-from=x", "--include-from=x", "--filter=x", "--early-input=x", "--chmod=u+s",
        "--copy-as=root", "--sockopts=x", "--address=x", "--port=1", "--delete=x", "-", "--",
        "--server=x", "-e", "-e.i -e", "--iconv-x", "-r=x", "--outbuf=N", "--stop=1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("side", ["", "--sender "])
def test_other_options_are_refused(option: str, side: str):
    with pytest.raises(NotAllowed):
        run(f"rsync --server {side}-r {option} . x")


@pytest.mark.parametrize(
    "command",
    [
        "rsync", "rsync --daemon", "rsync -a /etc x", "rsync --sender --server -r . x", "rsyncd",
        "/usr/bin/rsync --server -r . x", "rsync --server -r x", "rsync --server -r .",
        "rsync --server -r . x y", "rsync --server -r . x; id", "rsync --server -r . $(id)",
        "rsync --server -r . `id`", "rsync --server -r . x | sh", "rsync --server -r . x > /y",
        "rsync --server -r . 'x", 'rsync --server -r . "x', 'rsync --server -r . "$x"',
        "rsync --server -r . x\ny", "rsync --server -r . x\0y", "rsync --server -r . x\x1by",
        "rsync --server -r . x\\", "rsync --server -r . " + "x" * 70_000,
        "rsync --server --sender -r . " + "x " * 5_000, "X=1 rsync --server -r . x",
    ],
)  # fmt: skip
def test_other_commands_are_refused_with_a_sentence(command: str):
    with pytest.raises((NotAllowed, BadRequest), match=r"^[\x20-\x7e]{10,200}$"):
        run(command)


def test_a_pull_says_what_it_does_to_the_home():
    assert not parse("rsync --server --sender -r . x", ROOT).removes
    assert parse("rsync --server --sender -r --remove-source-files . x", ROOT).removes


def test_errors_are_of_the_caller():
    assert issubclass(NotAllowed, ZerostorError)
