"""Pictures side by side in one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST = 4_096  # pixels across: what browsers and viewers show without complaint
_GAP = 4


def grid(pictures: Sequence[Image.Image]) -> Image.Image:
    """At most 64 square pictures, row by row, about as many across as down; reduced to 4,096 pixels across."""
    across = math.ceil(math.sqrt(len(pictures)))
    return _sheet([pictures[start : start + across] for start in range(0, len(pictures), across)], gap=0)


def table(
    rows: Sequence[Image.Image], columns: Sequence[Image.Image], cells: Sequence[Sequence[Image.Image]]
) -> Image.Image:
    """Cells with what their rows and columns stand for at their heads; the corner is empty."""
    corner = Image.new("RGB", rows[0].size, "white")
    body = [[head, *line] for head, line in zip(rows, cells, strict=True)]
    return _sheet([[corner, *columns], *body], gap=_GAP)


def strip(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures in one row."""
    return _sheet([pictures], gap=0)


def _sheet(lines: Sequence[Sequence[Image.Image]], *, gap: int) -> Image.Image:
    across = max(map(len, lines))
    side = min(lines[0][0].width, _LARGEST // across - gap)
    step = side + gap
    sheet = Image.new("RGB", (across * step - gap, len(lines) * step - gap), "white")
    for row, line in enumerate(lines):
        for column, picture in enumerate(line):
            tile = (
                picture if picture.width == side else picture.resize((side, side), Image.Resampling.LANCZOS)
            )
            sheet.paste(tile, (column * step, row * step))
    return sheet
