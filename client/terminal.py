"""A picture in the terminal: as it is where the terminal can (kitty, iTerm2 and their likes), else as half blocks."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from client.options import print_json, say
from core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from client.pictures import Picture

# The kitty protocol takes so much of a picture at a time.
_CHUNK = 4096
_ITERM = {"iTerm.app", "WezTerm", "vscode"}


def show_picture(picture: Picture) -> None:
    """Write a picture to stdout, in the way that suits the terminal.

    Raises:
        InvalidRequest: stdout is no terminal, or half blocks are needed and pillow is not installed.
    """
    if not sys.stdout.isatty():
        raise InvalidRequest("--show needs a terminal, and this is none: save the picture with --to.")
    match way(os.environ):
        case "kitty" if picture.media_type == "image/png":
            sys.stdout.write(kitty(picture.data))
        case "iterm":
            sys.stdout.write(iterm(picture.data))
        case _:
            Console().print(half_blocks(picture.data, width=Console().width))
    sys.stdout.flush()


def keep_or_show(picture: Picture, *, to: Path | None, default: Path, showing: bool, as_json: bool) -> None:
    """Show a picture, save it, or both: where it is not shown, it is saved, by default under its usual name.

    Raises:
        InvalidRequest: as `show_picture`.
    """
    if showing:
        show_picture(picture)
        if to is None:
            return
    path = picture.save(to or default)
    if as_json:
        print_json({"path": path})
    else:
        say(str(path))


def way(environment: Mapping[str, str]) -> str:
    """How this terminal shows pictures, by what it says of itself: kitty, iterm or blocks."""
    # Inside a multiplexer, these names are those of the terminal around it, which sees no such sequences.
    if "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux")):
        return "blocks"
    if "KITTY_WINDOW_ID" in environment or environment.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    return "iterm" if environment.get("TERM_PROGRAM") in _ITERM else "blocks"


def kitty(png: bytes) -> str:
    """A PNG in the graphics protocol of kitty: base64 in chunks, of which all but the last say that more come."""
    text = b64encode(png).decode()
    chunks = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    controls = ["a=T,f=100,"] + [""] * (len(chunks) - 1)
    more = [1] * (len(chunks) - 1) + [0]
    told = zip(controls, more, chunks, strict=True)
    return "".join(f"\x1b_G{control}m={one};{chunk}\x1b\\" for control, one, chunk in told) + "\n"


def iterm(data: bytes) -> str:
    """A picture of any kind as an inline file of iTerm2."""
    return f"\x1b]1337;File=inline=1;size={len(data)}:{b64encode(data).decode()}\x07\n"


def half_blocks(data: bytes, *, width: int) -> Segments:
    """A picture of two pixels a character.

    Args:
        data: a PNG, JPEG or WebP.
        width: of the terminal, in characters.
    """
    try:
        from PIL import Image  # noqa: PLC0415  # not in a client-only install
    except ModuleNotFoundError:
        raise InvalidRequest(
            "This terminal shows pictures as blocks only, which needs pillow: pip install pillow, or save the picture "
            "with --to."
        ) from None
    with Image.open(BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((width, 2 * width))
    # Two rows of pixels a line of text.
    even = picture.crop((0, 0, picture.width, picture.height + picture.height % 2))
    pixels = even.tobytes()

    def colour(x: int, y: int) -> Color:
        at = 3 * (y * even.width + x)
        return Color.from_rgb(*pixels[at : at + 3])

    def segments() -> Iterator[Segment]:
        for y in range(0, even.height, 2):
            for x in range(even.width):
                yield Segment("▀", Style(color=colour(x, y), bgcolor=colour(x, y + 1)))
            yield Segment.line()

    return Segments(segments())
