"""A folder as tar.gz: what was in the home is in there, byte for byte, and nothing else is."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.core.errors import HomeChanged
from zerostor.engine import tarball
from zerostor.engine.tarball import FOLDER_SIZE, Piece, file_pieces, folder_pieces
from zerostor.homes.folder import Folder

LIMIT = 10**9
BYTES = st.integers(1, 255).filter(lambda byte: byte != 0x2F).map(lambda byte: bytes([byte]))
NAMES = (st.lists(BYTES, min_size=1, max_size=12).map(b"".join)
         | st.integers(90, 255).map(lambda length: b"n" * length)
         | st.text(min_size=1, max_size=80).map(lambda text: text.encode(errors="ignore")[:255])
         ).filter(lambda name: name not in (b"", b".", b"..") and not {0, 0x2F} & set(name))
TREES = st.recursive(
    st.binary(max_size=2000),
    lambda inner: st.dictionaries(NAMES, inner, max_size=5), max_leaves=12)
TIMES = st.integers(-2**31, 2**33)


def make(place: bytes, tree: object, when: int) -> None:
    if isinstance(tree, dict):
        os.makedirs(place, exist_ok=True)
        for name, inner in tree.items():
            make(place + b"/" + name, inner, when)
    else:
        assert isinstance(tree, bytes)
        with open(place, "wb") as file:
            file.write(tree)
        os.utime(place, (when, when))


def expected(member: bytes, tree: object) -> dict[bytes, bytes | None]:
    if isinstance(tree, bytes):
        return {member: tree}
    assert isinstance(tree, dict)
    found: dict[bytes, bytes | None] = {member: None}
    for name, inner in tree.items():
        found |= expected(member + b"/" + name, inner)
    return found


def unpacked(body: bytes) -> dict[bytes, bytes | None]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(body), errors="surrogateescape") as archive:
        for member in archive:
            assert member.isdir() or member.isreg()
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            file = archive.extractfile(member)
            name = member.name.encode("utf-8", "surrogateescape")
            found[name] = None if file is None else file.read()
    return found


def packed(folder: Folder, path: bytes = b"/", top: bytes = b"ann") -> tuple[bytes, list[Piece]]:
    pieces = list(folder_pieces(folder, path, top))
    return b"".join(piece.chunk for piece in pieces), pieces


@pytest.fixture
def home(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "home"), LIMIT)


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(NAMES, TREES, max_size=6), when=TIMES)
def test_any_tree_comes_out_as_it_went_in(tree: dict[bytes, object], when: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(f"{place}/home", LIMIT)
        make(f"{place}/home".encode(), tree, when)
        body, pieces = packed(folder)
        assert unpacked(body) == expected(b"ann", tree)
        with tarfile.open(fileobj=io.BytesIO(body), errors="surrogateescape") as archive:
            assert {member.mtime for member in archive if member.isreg()} <= {when}
        assert packed(folder)[0] == body
        files = [one for piece in pieces for one in piece.seen if one.size != FOLDER_SIZE]
        assert [one.path for one in files] == sorted(
            (one.path for one in files), key=lambda path: path.split(b"/"))
        assert sum(one.size for one in files) == sum(piece.read for piece in pieces)


def test_order_in_which_files_were_made_does_not_matter(tmp_path: Path) -> None:
    bodies = []
    for order in ([b"a", b"b", b"c"], [b"c", b"a", b"b"]):
        root = str(tmp_path / b"".join(order).decode())
        folder = Folder(root, LIMIT)
        for name in order:
            make(root.encode() + b"/" + name, b"same", 1_000_000)
        os.utime(root, (5, 5))
        bodies.append(packed(folder)[0])
    assert bodies[0] == bodies[1]


def test_nothing_from_outside_gets_in(home: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"top secret")
    root = Path(home.root)
    (root / "real").write_bytes(b"mine")
    (root / "link").symlink_to(secret / "key")
    (root / "folder-link").symlink_to(secret)
    os.link(secret / "key", root / "hard")
    os.mkfifo(root / "pipe")
    body, _ = packed(home)
    assert b"secret" not in body
    assert unpacked(body) == {b"ann": None, b"ann/real": b"mine"}


def test_the_system_tar_reads_it(home: Folder, tmp_path: Path) -> None:
    tree = {b"long" * 60: {b"\xff\xfe": b"x" * 3000, b"new\nline": {}}, b"plain.txt": b"hello"}
    make(home.root.encode(), tree, 1_500_000_000)
    (tmp_path / "it.tar.gz").write_bytes(packed(home)[0])
    subprocess.run(["tar", "xzf", "it.tar.gz"], cwd=tmp_path, check=True)
    base = os.fsencode(tmp_path) + b"/ann/"
    assert Path(os.fsdecode(base + b"long" * 60 + b"/\xff\xfe")).read_bytes() == b"x" * 3000
    assert os.path.isdir(base + b"long" * 60 + b"/new\nline")
    assert os.stat(base + b"plain.txt").st_mtime == 1_500_000_000


@pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten", "goes", "is open"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_change_while_it_is_read_is_noticed(
        home: Folder, monkeypatch: pytest.MonkeyPatch, change: str, whole: bool) -> None:
    monkeypatch.setattr(tarball, "BLOCK", 1000)
    path = Path(home.root) / "file"
    path.write_bytes(b"x" * 5000)
    pieces = folder_pieces(home, b"/", b"ann") if whole else file_pieces(home, b"/file")
    while next(pieces).read == 0:
        pass
    handle = None
    if change == "grows":
        with path.open("ab") as file:
            file.write(b"y")
    elif change == "shrinks":
        os.truncate(path, 1500)
    elif change == "is rewritten":
        path.write_bytes(b"z" * 5000)
    elif change == "goes":
        path.unlink()
    else:
        handle = home.open(b"/file", os.O_WRONLY, 0)
    with pytest.raises((HomeChanged, FileNotFoundError)):
        list(pieces)
    if handle is not None:
        handle.close()


def test_a_folder_that_goes_meanwhile_is_noticed(home: Folder) -> None:
    make(home.root.encode(), {b"a": b"1", b"inner": {b"b": b"2"}}, 5)
    pieces = folder_pieces(home, b"/", b"ann")
    while not any(seen.path == b"/inner" for seen in next(pieces).seen):
        pass
    shutil.rmtree(Path(home.root) / "inner")
    with pytest.raises(HomeChanged):
        list(pieces)


def test_an_empty_file_has_a_piece(home: Folder) -> None:
    (Path(home.root) / "empty").touch()
    (piece,) = file_pieces(home, b"/empty")
    assert (piece.chunk, [seen.size for seen in piece.seen]) == (b"", [0])


def test_a_folder_that_is_not_there_says_so(home: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        list(folder_pieces(home, b"/none", b"none"))
