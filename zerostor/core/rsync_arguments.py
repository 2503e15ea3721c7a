"""What an rsync client asks this end to run: read without a shell, and checked word by word.

    rsync --server [--sender] -FLAGSe.CAPABILITIES --options . PATH...

What is not listed here is refused. Whatever names a path is mapped into the home: / and ~/ are the
home itself, .. is refused. Source: server_options() in rsync's options.c, seen with 3.2 to 3.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from zerostor.core.errors import BadRequest, NotAllowed

COMMAND_MAX = 64 * 1024
WORDS_MAX = 4096

_TOKEN = re.compile(
    r"""(?P<space>[ ]+) | \\(?P<escaped>.) | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\$`]|\\["\\$`])*)" | (?P<wild>[*?[]) | (?P<plain>[^ '"\\;&|<>()$`*?[]+)""",
    re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SPECIAL = re.compile(r"([*?[])")
_FLAGS = re.compile(r"-([A-DF-Za-df-zE]*)(e\d*\.[A-Za-z]*)?")
_NUMBERED = re.compile(r"-(?:B\d{1,9}|@-?\d{1,9})")

FLAGS = frozenset("vqbunldmOJWogDtUpErcCIRxzyi")
"""Letters that a client may send, beside those below."""
_FLAGS_REFUSED = {
    "H": "a home has no hard links; leave out -H",
    "A": "a home keeps no ACLs; leave out -A",
    "X": "a home keeps no extended attributes; leave out -X",
    "L": "a home has no links to follow; leave out -L",
    "k": "a home has no links to follow; leave out -k",
    "K": "a home has no links to follow; leave out -K",
    "s": "leave out -s (--secluded-args, --protect-args)",
    "N": "creation times are not kept; leave out -N",
}
# Of this end only, so the other need not know: holes count as bytes here, a home has one owner.
_FLAGS_DROPPED = frozenset("S")
_DROPPED = frozenset({"sparse", "preallocate", "super", "no-super", "usermap", "groupmap"})

_WITHOUT_VALUE = (
    "append delay-updates delete delete-after delete-before delete-delay delete-during"
    " delete-excluded delete-missing-args dirs existing force from0 fsync fuzzy group"
    " ignore-errors ignore-existing ignore-missing-args ignore-times inplace links list-only mkpath"
    " msgs2stderr munge-links new-compress no-W no-i-r no-implied-dirs no-inc-recursive"
    " no-msgs2stderr no-r no-relative no-specials numeric-ids old-compress one-file-system"
    " open-noatime owner partial perms recursive remove-sent-files remove-source-files safe-links"
    " size-only specials stats times use-qsort"
)
OPTIONS = frozenset(_WITHOUT_VALUE.split())
"""Long options without a value."""
_WITH_VALUE = (
    "block-size bwlimit checksum-choice checksum-seed compress-choice compress-level"
    " compress-threads debug groupmap iconv info log-format max-alloc max-delete max-size min-size"
    " modify-window skip-compress stderr stop-after stop-at suffix timeout usermap"
)
VALUED = frozenset(_WITH_VALUE.split())
"""Long options whose value names no path."""
PLACES = frozenset({"backup-dir", "compare-dest", "partial-dir", "temp-dir"})
"""Long options whose value is a path: of the home where absolute, else of the destination."""
_REFUSED = {
    "files-from": "a list of files is not read by this server; leave out --files-from",
    "link-dest": "a home has no hard links; leave out --link-dest",
    # So fast that the limit could not be held.
    "copy-dest": "files of the home are not copied; leave out --copy-dest",
    "copy-unsafe-links": "a home has no links to follow; leave out --copy-unsafe-links",
    "fake-super": "a home keeps no extended attributes; leave out --fake-super",
    "hard-links": _FLAGS_REFUSED["H"],
    "secluded-args": _FLAGS_REFUSED["s"],
    "protect-args": _FLAGS_REFUSED["s"],
    "daemon": "this server is no rsync daemon; use one colon, host:path",
}
# No owners, no devices, and the modes that HomeFolder lets pass.
_HALVES = ("--inplace", "--append", "--partial")
_RECEIVER = ("--no-super", "--chmod=u+r,Du+wx,go-w,ug-s,o-t")


class RsyncPath(NamedTuple):
    """A source or destination, relative to the home. wild: as in fnmatch, empty if it is plain."""

    text: str
    wild: str


class RsyncCommand(NamedTuple):
    """What may be run. sender: this end sends. removes: it removes what it sent."""

    sender: bool
    options: tuple[str, ...]
    paths: tuple[RsyncPath, ...]

    @property
    def removes(self) -> bool:
        """Whether sources go once they were sent."""
        return not {"--remove-source-files", "--remove-sent-files"}.isdisjoint(self.options)

    @property
    def leaves_halves(self) -> bool:
        """Whether half of a file may stay under a name that looks final, if it breaks off."""
        return any(option.startswith(_HALVES) for option in self.options)

    def arguments(self, paths: Sequence[str]) -> list[str]:
        """For rsync, behind its own name. paths: as `paths`, wildcards resolved."""
        side = ["--sender"] if self.sender else _RECEIVER
        return ["--server", *side, *self.options, ".", *paths]


def parse(command: str, root: str) -> RsyncCommand:
    """Check what a client sent. root: the home, as a program that is confined to it sees it.

    Raises NotAllowed for what is refused, BadRequest for what no client sends; both say why.
    """
    words = _split(command)
    texts = [word.text for word in words]
    if texts[:2] != ["rsync", "--server"]:
        raise NotAllowed("rsync: only the other end of a transfer may be run here")
    dot = texts.index(".") if "." in texts else len(texts)
    sender = "--sender" in texts[:dot]
    options = tuple(_options(iter(text for text in texts[2:dot] if text != "--sender"), root))
    paths = tuple(_path(word) for word in words[dot + 1 :])
    if not paths or (len(paths) > 1 and not sender):
        raise BadRequest("rsync: one destination, or one source or more")
    return RsyncCommand(sender, options, paths)


def _split(command: str) -> list[RsyncPath]:
    """Words as a shell would make them, that knows quotes and nothing else."""
    if len(command) > COMMAND_MAX or _CONTROL.search(command):
        raise BadRequest("rsync: a path is too long, or has control characters")
    words: list[RsyncPath] = []
    at, text, wild, quoted = 0, "", "", False
    while at < len(command):
        found = _TOKEN.match(command, at)
        if found is None:
            raise BadRequest(f"rsync: {command[at]} means something to shells; there is none here")
        at, kind = found.end(), found.lastgroup
        piece = found[kind or 0]
        if kind == "space":
            words += _word(text, wild, quoted)
            text, wild, quoted = "", "", False
            continue
        if kind == "double":
            piece = re.sub(r"\\(.)", r"\1", piece)
        text += piece
        wild += piece if kind == "wild" else _SPECIAL.sub(r"[\1]", piece)
        quoted = quoted or kind in ("single", "double")
    words += _word(text, wild, quoted)
    if len(words) > WORDS_MAX:
        raise BadRequest(f"rsync: more than {WORDS_MAX:,} paths; name their folder")
    return words


def _word(text: str, wild: str, quoted: bool) -> list[RsyncPath]:
    if not text and not quoted:
        return []
    plain = wild == _SPECIAL.sub(r"[\1]", text)
    return [RsyncPath(text, "" if plain else wild)]


def _path(word: RsyncPath) -> RsyncPath:
    return RsyncPath(_inside(word.text), _inside(word.wild) if word.wild else "")


def _inside(path: str) -> str:
    """Relative to the home, and never taken for an option."""
    if path == "~" or path.startswith("~/"):
        path = path[1:]
    path = path.lstrip("/")
    _check(path)
    return f"./{path}" if path.startswith("-") else path or "."


def _check(path: str) -> None:
    if ".." in path.split("/"):
        raise NotAllowed("rsync: .. is not permitted in a path; / is the home")


def _options(words: Iterator[str], root: str) -> Iterator[str]:
    for word in words:
        if word.startswith("--"):
            yield from _long(word, words, root)
        elif _NUMBERED.fullmatch(word):
            yield word
        else:
            yield from _short(word)


def _short(word: str) -> Iterator[str]:
    found = _FLAGS.fullmatch(word)
    if found is None or word == "-":
        raise NotAllowed(f"rsync: {word} is not permitted here")
    for letter in found[1]:
        if letter in _FLAGS_REFUSED:
            raise NotAllowed(f"rsync: {_FLAGS_REFUSED[letter]}")
        if letter not in FLAGS | _FLAGS_DROPPED:
            raise NotAllowed(f"rsync: -{letter} is not permitted here")
    letters = "".join(letter for letter in found[1] if letter not in _FLAGS_DROPPED)
    if letters or found[2]:
        yield f"-{letters}{found[2] or ''}"


def _long(word: str, words: Iterator[str], root: str) -> Iterator[str]:
    name, equals, value = word[2:].partition("=")
    if name in _REFUSED:
        raise NotAllowed(f"rsync: {_REFUSED[name]}")
    if name in VALUED or name in PLACES:
        value = value if equals else next(words, "")
        if name not in _DROPPED:
            yield f"--{name}={_value(name, value, root)}"
    elif equals or name not in OPTIONS | _DROPPED:
        raise NotAllowed(f"rsync: --{name} is not permitted here")
    elif name not in _DROPPED:
        yield word


def _value(name: str, value: str, root: str) -> str:
    if name == "suffix" and "/" in value:
        raise NotAllowed("rsync: a suffix has no /")
    if name not in PLACES:
        return value
    _check(value)
    return root.rstrip("/") + value if value.startswith("/") else value
