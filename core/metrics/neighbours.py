"""A sheet of the generated pictures that are nearest to training pictures, beside those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

PAIRS = 12
_ACROSS, _SIDE, _CAPTION, _GAP = 4, 128, 20, 8
_INK, _ALARM = "#222222", "#c01010"


def write_sheet(
    path: Path, generated_N3HW: Tensor, real_N3HW: Tensor, *, distance_N: Tensor, threshold: float | None
) -> None:
    """Write a PNG of pairs, four a row: a generated picture, its nearest training picture, their LPIPS.

    Args:
        path: of the PNG.
        generated_N3HW: uint8.
        real_N3HW: uint8; row i is nearest to generated picture i, if need be as its mirror image.
        distance_N: LPIPS.
        threshold: what is nearer is captioned as a copy; None: nothing is.
    """
    columns = min(_ACROSS, len(generated_N3HW))
    rows = -(-len(generated_N3HW) // _ACROSS)
    width, height = 2 * _SIDE + _GAP, _SIDE + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (mine, theirs) in enumerate(zip(_tiles(generated_N3HW), _tiles(real_N3HW), strict=True)):
        left, top = _GAP + index % _ACROSS * width, _GAP + index // _ACROSS * height
        sheet.paste(mine, (left, top))
        sheet.paste(theirs, (left + _SIDE, top))
        distance = float(distance_N[index])
        copied = threshold is not None and distance < threshold
        caption = f"LPIPS {distance:.3f}, a copy" if copied else f"LPIPS {distance:.3f}"
        pen.text((left, top + _SIDE + 2), caption, fill=_ALARM if copied else _INK, font=font)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _tiles(pictures_N3HW: Tensor) -> list[Image.Image]:
    size = (_SIDE, _SIDE)
    if pictures_N3HW.shape[2] > _SIDE:
        scaled = F.interpolate(pictures_N3HW.float(), size=size, mode="bilinear", antialias=True)
    else:
        scaled = F.interpolate(pictures_N3HW.float(), size=size, mode="nearest")
    pixels = scaled.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(one) for one in pixels]
