"""README.md as a reader meets it: its commands are run as written, and print what it shows.

In a block of ```console a line after "$ " is a command and the lines below it are what it prints.
What differs between runs may differ: times, rates, free room, the folder, job ids and metadata
ids. An id is the same wherever README uses it, so a later command gets the one that an earlier
one printed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from zerostor import config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_URL, SHOWN_FOLDER = "http://127.0.0.1:8080", "/home/me/zerostor"
PATIENCE = 60.0
ASKS = re.compile(r"zerostor (stores|status|check)\b")
"""Commands that change nothing, so they can be asked again until what is under way has happened."""
VARYING = re.compile(
    r"(?P<hash>\b[0-9a-f]{56}\b)|(?P<job>\b[0-9a-f]{32}\b)"
    r"|(?P<figure>\d+\.\d+ (?:s\b|[kMGTP]?B/s|[GT]B))"
)
FIGURE = r"\d+(?:\.\d+)? (?:s|[kMGTP]?B(?:/s)?)"


class Step(NamedTuple):
    """A command and what README says it prints."""

    command: str
    shown: list[str]


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(README) if found == language]


def steps() -> list[Step]:
    found: list[Step] = []
    for text in blocks("console"):
        assert text.startswith("$ "), text
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            else:
                found[-1].shown.append(line)
    return found


class Ids:
    """Ids that README shows, and those that they are in this run."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def matches(self, shown: list[str], printed: list[str]) -> bool:
        """Compare, and remember the ids that came up for the first time."""
        new: dict[str, str] = {}
        good = len(shown) == len(printed) and all(
            self._line(expected, line, new) for expected, line in zip(shown, printed, strict=True)
        )
        if good:
            self._ours |= new
        return good

    def ours(self, text: str) -> str:
        """`text` with the ids of this run."""
        return VARYING.sub(lambda found: self._ours.get(found[0], found[0]), text)

    def _line(self, shown: str, printed: str, new: dict[str, str]) -> bool:
        shown, printed = " ".join(shown.split()), " ".join(printed.split())
        pattern, at, unknown = "", 0, []
        for found in VARYING.finditer(shown):
            pattern += re.escape(shown[at : found.start()])
            at = found.end()
            if found["figure"]:
                pattern += FIGURE
            elif found[0] in self._ours | new:
                pattern += re.escape((self._ours | new)[found[0]])
            else:
                unknown.append(found[0])
                pattern += f"({found[0][:48]}[0-9a-f]{{8}})" if found["hash"] else "([0-9a-f]{32})"
        match = re.fullmatch(pattern + re.escape(shown[at:]), printed)
        if match:
            new.update(zip(unknown, match.groups(), strict=True))
        return match is not None


class Reader:
    """Somebody with two terminals in one folder: `zerostor up` in one, README in the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "zerostor"
        (folder / "bin").mkdir()
        self.folder.mkdir()
        command = folder / "bin" / "zerostor"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m gateway "$@"\n')
        command.chmod(0o755)
        # On a terminal curl shows no progress, and a prompt follows what it prints.
        (folder / ".curlrc").write_text('silent\nshow-error\nwrite-out = "\\n"\n')
        kept = {name: text for name, text in os.environ.items() if not name.startswith("ZEROSTOR_")}
        kept.pop("REDIS_URL", None)
        path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        home = str(folder)
        self.environ = kept | {"PYTHONPATH": str(ROOT), "PATH": path, "HOME": home,
                               "CURL_HOME": home, "NO_PROXY": "*", "COLUMNS": "200"}
        self.url = ""
        self._screen = folder / "screen"

    def start(self) -> subprocess.Popen[bytes]:
        """`zerostor up` on a free port."""
        with open(self._screen, "wb") as screen:
            process = subprocess.Popen(
                ["zerostor", "up", "--listen", "127.0.0.1:0"], cwd=self.folder, env=self.environ,
                stdout=screen, stderr=screen)
        end = time.monotonic() + PATIENCE
        while "Ctrl-C stops it" not in self._screen.read_text():
            assert process.poll() is None and time.monotonic() < end, self._screen.read_text()
            time.sleep(0.05)
        found = re.search(r"http://127\.0\.0\.1:\d+", self._screen.read_text())
        assert found
        self.url = self.environ["ZEROSTOR_SERVER"] = found[0]
        return process

    def screen(self) -> list[str]:
        """What `zerostor up` has printed."""
        # At any other port than README's it adds where that is.
        return self._as_shown(self._screen.read_text().replace(f" --server {self.url}", ""))

    def run(self, command: str) -> list[str]:
        """What a command prints, with the address and folder of README."""
        command = command.replace(SHOWN_URL, self.url)
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        return self._as_shown(done.stdout)

    def _as_shown(self, text: str) -> list[str]:
        text = text.replace(self.url, SHOWN_URL).replace(str(self.folder), SHOWN_FOLDER)
        return text.rstrip("\n").splitlines()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    one = Reader(tmp_path)
    # What `zerostor up` starts is found by its PATH.
    path, os.environ["PATH"] = os.environ.get("PATH", ""), one.environ["PATH"]
    try:
        process = one.start()
    finally:
        os.environ["PATH"] = path
    yield one
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)


def test_the_commands_print_what_is_shown(reader: Reader) -> None:
    ids = Ids()
    shown_screen = next(text for text in blocks("text") if "zerostor is up" in text)
    assert ids.matches(shown_screen.rstrip("\n").splitlines(), reader.screen())
    assert len(steps()) > 15
    for step in steps():
        command = ids.ours(step.command)
        end = time.monotonic() + PATIENCE
        while not ids.matches(step.shown, printed := reader.run(command)):
            again = ASKS.match(command) and time.monotonic() < end
            assert again, "\n".join([f"$ {command}", *printed, "but README shows", *step.shown])
            time.sleep(0.2)


def test_what_varies_may_and_nothing_else() -> None:
    first, second, job = "a" * 48 + "00000000", "a" * 48 + "00000007", "1" * 32
    ids = Ids()
    assert not ids.matches([f"{first}.txt"], ["b" + f"{first}.txt"[1:]])
    assert not ids.matches([f"{first}.txt"], [f"{first}.jpg"])
    assert ids.matches([f"{first}.txt"], [f"{second}.txt"])
    assert ids.ours(f"get {first}") == f"get {second}"
    assert not ids.matches([first], [first])
    assert not ids.matches([job, "more"], ["2" * 32])
    assert ids.matches([f"{job} {job}"], ["2" * 32 + " " + "2" * 32])
    assert not ids.matches([f"{job}"], ["3" * 32])
    assert ids.matches(["5.5 MB in 0.07 s, 79.5 MB/s"], ["5.5 MB in 10.00 s, 8.1 kB/s"])
    assert not ids.matches(["5.5 MB in 0.07 s, 79.5 MB/s"], ["5.6 MB in 0.07 s, 79.5 MB/s"])


def test_the_settings_shown_are_settings(tmp_path: Path) -> None:
    for text in blocks("toml"):
        file = tmp_path / "shown.toml"
        file.write_text(text)
        config.load(tmp_path, file, environ={})
    shown = re.findall(r"`(ZEROSTOR_\w+)=(\w+)`", README)
    assert len(shown) >= 3
    config.load(tmp_path, None, environ=dict(shown))


def test_what_goes_wrong_is_quoted_as_it_is_said() -> None:
    said = set()
    for folder in ("gateway", "workers", "zerostor"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    said.add(node.value)
    section = README.partition("## When something is wrong")[2].partition("\n## ")[0]
    quoted = [
        quote
        for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
        for quote in re.findall(r"`([a-z?:, ]{9,})`", row)
    ]
    assert len(quoted) >= 10
    assert [quote for quote in quoted if not any(quote in text for text in said)] == []
