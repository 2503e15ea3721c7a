"""Whatever a client sends: either it is refused, or nothing in it names anything but the home."""

from __future__ import annotations

import contextlib
import shlex

from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.core.errors import BadRequest, NotAllowed
from zerostor.core.rsync_arguments import (
    FLAGS,
    OPTIONS,
    PLACES,
    VALUED,
    RsyncCommand,
    parse,
)

ROOT = "/srv/homes/ann"
PIECES = st.sampled_from(
    ["..", ".", "/", "~", "a", "-", "--", " ", "\\", "'", '"', "*", "[", "?", "$", ";", "=", "\n",
     "é", "etc", "--log-file=/x", "--daemon", "-e", "sh"]
)  # fmt: skip
PATHS = st.lists(PIECES, max_size=8).map("".join)
LONG = st.sampled_from(sorted(OPTIONS | VALUED | PLACES | {"daemon", "rsh", "log-file", "H"}))
WORDS = st.one_of(
    PATHS,
    st.builds("--{}={}".format, LONG, PATHS),
    st.builds("--{}".format, LONG),
    st.text([*sorted(FLAGS), *"e.HLsS"], max_size=9).map("-{}".format),
    st.just("."),
)


def checked(command: RsyncCommand) -> None:
    """Nothing that rsync is given leads out, or is an option that is not on the list."""
    for option in command.options:
        name, _, value = option.removeprefix("--").partition("=")
        if not option.startswith("--"):
            letters, _, _ = option[1:].partition("e")
            assert set(letters) <= FLAGS or option[1] in "B@"
            continue
        assert name in OPTIONS | VALUED | PLACES
        if name in PLACES:
            assert ".." not in value.split("/")
            assert not value.startswith("/") or value.startswith(ROOT + "/")
    for path in command.paths:
        for text in filter(None, path):
            assert text[0] not in "/-"
            assert ".." not in text.split("/")


@given(st.lists(WORDS, max_size=8), st.booleans(), st.booleans())
@settings(max_examples=500)
def test_nothing_leads_out(words: list[str], sender: bool, quoted: bool):
    line = shlex.join(words) if quoted else " ".join(words)
    with contextlib.suppress(NotAllowed, BadRequest):
        checked(parse(f"rsync --server {'--sender ' * sender}{line}", ROOT))


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(text: str):
    with contextlib.suppress(NotAllowed, BadRequest):
        checked(parse(f"rsync --server --sender -r . {text}", ROOT))


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f",
                             exclude_categories=("Cs",)), min_size=1, max_size=40))  # fmt: skip
@settings(max_examples=300)
def test_a_quoted_name_is_that_name(name: str):
    if ".." in name.split("/") or name.startswith(("~", "/", "-")):
        return
    found = parse(f"rsync --server --sender -r . {shlex.quote(name)}", ROOT)
    assert [tuple(path) for path in found.paths] == [(name, "")]
