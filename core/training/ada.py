"""ADA's pipeline of augmentations: each of its transformations meets a picture with the probability p.

Source: Karras et al. 2020 (arXiv 2006.06676), section 3 and appendix B: "bgc", that is blit, geometry and colour, is
the paper's choice; filter, noise and cutout brought it nothing. How p follows D is `core.training.adaptive`'s.
Shapes: N pictures, C channels, H height, W width. Pictures are in [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from core.training.ada_colour import draw_colour, recolour
from core.training.ada_corruption import cut_out, draw_cutout, draw_filter, draw_noise, filtered, noised
from core.training.ada_geometry import draw_blit, draw_geometry, transform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

AdaKind = Literal["blit", "geometry", "color", "filter", "noise", "cutout"]
_RGB = 3
_DRAWS: dict[AdaKind, Callable[..., tuple[Tensor, ...]]] = {
    "blit": draw_blit,
    "geometry": draw_geometry,
    "color": draw_colour,
    "filter": draw_filter,
    "noise": draw_noise,
    "cutout": draw_cutout,
}
# Those that follow the geometry, in their order.
_LATER: dict[AdaKind, Callable[..., Tensor]] = {
    "color": recolour,
    "filter": filtered,
    "noise": noised,
    "cutout": cut_out,
}


def draw(
    pictures_NCHW: Tensor, *, kinds: Sequence[str], generator: torch.Generator | None
) -> dict[AdaKind, tuple[Tensor, ...]]:
    """Draw for every picture of a batch; the first dimension of every tensor is the picture.

    Args:
        pictures_NCHW: square pictures; only their shape and device matter.
        kinds: which transformations; colour only where the pictures are RGB.
        generator: source of the draws, on the pictures' device.
    """
    return {
        kind: drawing(pictures_NCHW, generator=generator)
        for kind, drawing in _DRAWS.items()
        if kind in kinds and (kind != "color" or pictures_NCHW.shape[1] == _RGB)
    }


def apply(
    pictures_NCHW: Tensor, draws: dict[AdaKind, tuple[Tensor, ...]], *, probability: Tensor | None = None
) -> Tensor:
    """Transform every picture by its own draws.

    Args:
        pictures_NCHW: float32 or float64, as the draws were made for; not under autocast.
        draws: from `draw`.
        probability: p, a scalar on the pictures' device; None meets every picture with everything.

    Returns:
        The same shape and type, twice differentiable in the pictures; at p = 0 the same to the bit.
    """
    if probability is None:
        probability = torch.ones((), device=pictures_NCHW.device)
    if "blit" in draws or "geometry" in draws:
        pictures_NCHW = transform(
            pictures_NCHW,
            blit=draws.get("blit"),
            geometry=draws.get("geometry"),
            probability=probability,
        )
    for kind, later in _LATER.items():
        if kind in draws:
            pictures_NCHW = later(pictures_NCHW, *draws[kind], probability=probability)
    return pictures_NCHW
