"""What is printed of what a gateway says."""

from __future__ import annotations

import pytest

from gateway.commands.tables import moment, plain


@pytest.mark.parametrize("code", [0x1B, 7, 10, 13, 0x7F, 0x9B, 0x202E, 0x2069, 0x2028, 0xDC80])
def test_nothing_moves_the_cursor(code: int) -> None:
    assert plain(f"a{chr(code)}é") == "a?é"


@pytest.mark.parametrize("odd", [None, "", "x", {}, 1e300, float("nan"), "-1e30"])
def test_what_is_no_time_is_shown_as_none(odd: object) -> None:
    assert moment(odd) == "?"
