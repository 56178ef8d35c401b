from __future__ import annotations

import pytest

from client.logs import plain


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a\tb", "a\tb"),
        ("10 %\r20 %\r", "20 %"),
        ("\x1b[31mred\x1b[0m and \x1b]0;title\x07", "red and ]0;title"),
        ("… 12,345 lines are cut here", "… 12,345 lines are cut here"),
    ],
)
def test_a_line_does_nothing_to_the_terminal(line: str, shown: str) -> None:
    assert plain(line) == shown
