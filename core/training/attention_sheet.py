"""Where a generator of SAGAN looks: generated pictures, and beside each the attention of five of its points.

Source: SAGAN, Fig. 1 and 5.
Shapes: N pictures, Z latent numbers, Q points asked about, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.files import atomic_path
from core.models.sagan import Generator
from core.training.deployed import GRID_SEED, as_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from core.training.deployed import DeployedGenerator

# The centre and the middles of the quarters: row and column as shares of the side, and the colour they are told by.
POINTS = (
    ((0.5, 0.5), (230, 60, 60)),
    ((0.25, 0.25), (240, 200, 40)),
    ((0.25, 0.75), (70, 200, 90)),
    ((0.75, 0.25), (60, 140, 240)),
    ((0.75, 0.75), (220, 90, 220)),
)
_PICTURES = 6
_CELL = 128  # pixels of a cell at least, so that the dots can be told apart
_DIMMED = 0.5  # of the picture's light under a map
_STRONGEST = 0.8  # of the colour's light where a map has its highest value


@torch.no_grad()
def attend(network: Generator, latent_NZ: Tensor, *, labels_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Make pictures, and the attention maps of `POINTS`.

    Args:
        network: in evaluation mode.
        latent_NZ: as `render` takes it.
        labels_N: as `render` takes it.

    Returns:
        N3HW in [-1, 1], and NQHW of the side that is attended to, whose sums over a map are 1.
    """
    side = network.attention_side
    positions_Q = torch.tensor(
        [int(row * side) * side + int(column * side) for (row, column), _ in POINTS], device=latent_NZ.device
    )
    maps: list[Tensor] = []
    hook = network.attention.register_forward_pre_hook(
        lambda layer, inputs: maps.append(layer.maps(inputs[0], positions_Q))
    )
    try:
        pictures_N3HW = network.render(latent_NZ, labels_N=labels_N)
    finally:
        hook.remove()
    return pictures_N3HW, maps[0]


def attention_sheet(path: Path, deployed: DeployedGenerator) -> None:
    """Write a PNG of the first pictures of the grid, and of where the generator looked to make them.

    Args:
        path: of the file.
        deployed: of this family.
    """
    assert isinstance(deployed.network, Generator)
    drawn = deployed.draw(range(_PICTURES), seed=GRID_SEED, latents="plain")
    pictures_N3HW, maps_NQHW = attend(deployed.network, drawn.latent_NZ, labels_N=drawn.labels_N)
    sheet = draw_sheet(as_pixels(pictures_N3HW).cpu(), maps_NQHW.cpu())
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def draw_sheet(pictures_N3HW: Tensor, maps_NQHW: Tensor) -> Image.Image:
    """Draw a row for each picture: itself with the points marked, then the map of each point laid over it.

    Args:
        pictures_N3HW: uint8, on the CPU.
        maps_NQHW: of `attend`, any float type, on the CPU; each map is shown relative to its highest value.
    """
    cell = max(_CELL, pictures_N3HW.shape[2])
    light = F.interpolate(pictures_N3HW.float(), size=(cell, cell), mode="nearest")
    relative = maps_NQHW.float() / maps_NQHW.float().amax(dim=(2, 3), keepdim=True)
    strength = F.interpolate(relative, size=(cell, cell), mode="bilinear", align_corners=False) * _STRONGEST
    colours_Q3 = torch.tensor([colour for _, colour in POINTS], dtype=torch.float32)
    strength, colour = strength[:, :, None], colours_Q3[None, :, :, None, None]
    laid_over = _DIMMED * light[:, None] * (1 - strength) + colour * strength
    cells = torch.cat([light[:, None], laid_over], dim=1).round_().to(torch.uint8)
    rows, columns = cells.shape[:2]
    pixels = cells.permute(0, 3, 1, 4, 2).reshape(rows * cell, columns * cell, 3)
    sheet = Image.fromarray(pixels.numpy())
    draw = ImageDraw.Draw(sheet)
    for number, (place, colour_of_point) in enumerate(POINTS):
        for row in range(rows):
            for column in (0, 1 + number):
                _dot(draw, place, colour_of_point, cell=cell, at=(row, column))
    return sheet


def _dot(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    colour: tuple[int, int, int],
    *,
    cell: int,
    at: tuple[int, int],
) -> None:
    y, x = ((number + share) * cell for number, share in zip(at, place, strict=True))
    radius = cell // 32
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=(255, 255, 255))
