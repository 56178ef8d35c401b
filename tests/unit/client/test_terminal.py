"""Pictures in a terminal: what is written is decoded again."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO, StringIO

import pytest
from PIL import Image
from rich.console import Console

from client.pictures import Picture
from client.terminal import half_blocks, iterm, kitty, show_picture, way
from core.errors import InvalidRequest
from tests.picture_files import png


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm-256color"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1", "TERM": "tmux-256color"}, "blocks"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/t"}, "blocks"),  # noqa: S108  # a name only
        ({"TERM": "xterm"}, "blocks"),
        ({}, "blocks"),
    ],
)
def test_the_terminal_says_what_it_can(environment: dict[str, str], expected: str) -> None:
    assert way(environment) == expected


def test_kitty_gets_the_file_in_chunks_of_which_the_last_says_so() -> None:
    data = bytes(range(256)) * 40
    told = re.findall(r"\x1b_G(.*?);(.*?)\x1b\\", kitty(data))
    assert [control for control, _ in told] == ["a=T,f=100,m=1", *["m=1"] * (len(told) - 2), "m=0"]
    assert all(len(chunk) <= 4096 for _, chunk in told)
    assert b64decode("".join(chunk for _, chunk in told)) == data
    [(control, _)] = re.findall(r"\x1b_G(.*?);(.*?)\x1b\\", kitty(b"small"))
    assert control == "a=T,f=100,m=0"


def test_iterm_gets_the_file() -> None:
    found = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+):(.*)\x07\n", iterm(png()))
    assert found is not None
    assert (int(found[1]), b64decode(found[2])) == (len(png()), png())


def test_half_blocks_have_the_colours_of_two_rows() -> None:
    picture = Image.new("RGB", (2, 3))
    for at, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9), (1, 2, 3), (4, 5, 6)]):
        picture.putpixel((at % 2, at // 2), colour)
    file = BytesIO()
    picture.save(file, "PNG")
    written = StringIO()
    console = Console(file=written, force_terminal=True, color_system="truecolor", width=80)
    console.print(half_blocks(file.getvalue(), width=80))
    first, second = written.getvalue().splitlines()[:2]
    assert "38;2;255;0;0;48;2;0;0;255" in first
    assert "38;2;0;255;0;48;2;9;9;9" in first
    assert "38;2;1;2;3;48;2;0;0;0" in second
    assert first.count("▀") == 2


def test_half_blocks_fit_the_terminal() -> None:
    file = BytesIO()
    Image.new("RGB", (400, 300)).save(file, "PNG")
    segments = list(half_blocks(file.getvalue(), width=40).segments)
    assert len([one for one in segments if one.text == "▀"]) == 40 * 15


def test_what_is_no_terminal_gets_no_picture() -> None:
    with pytest.raises(InvalidRequest, match="--to"):
        show_picture(Picture(png(), "image/png"))
