"""The same differentiable augmentations before D for real and generated pictures: DiffAugment here, or ADA's.

Source: Zhao et al. 2020 (arXiv 2006.10738), section 3.1: random brightness, saturation and contrast;
translation by up to an eighth of the side; a cutout of half the side.
Shapes: N pictures, C channels, H height, W width. Pictures are in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from core.training import ada

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Augmentation = Literal["color", "translation", "cutout"]
Pipeline = Literal["diffaugment", "ada"]
_FLIP = 0.5
_SHIFT = 0.125
_CUTOUT = 0.5


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch's augmentation, by kind; the first dimension of each is the picture."""

    by_kind: dict[Any, tuple[Tensor, ...]]
    pipeline: Pipeline = "diffaugment"

    def rows(self, rows: slice) -> Draws:
        """Those of some of the pictures."""
        some = {kind: tuple(values[rows] for values in all_) for kind, all_ in self.by_kind.items()}
        return Draws(some, self.pipeline)


def draw(
    pictures_NCHW: Tensor,
    *,
    kinds: Sequence[str],
    generator: torch.Generator | None,
    chance: bool = False,
    pipeline: Pipeline = "diffaugment",
) -> Draws:
    """Draw for every picture of a batch.

    Args:
        pictures_NCHW: square pictures, any float type; only their shape, type and device matter.
        kinds: which augmentations.
        generator: source of the draws, on the pictures' device.
        chance: whether each kind shall be applied to each picture with a probability; with ADA it always is.
        pipeline: whose kinds they are.
    """
    if pipeline == "ada":
        return Draws(dict(ada.draw(pictures_NCHW, kinds=kinds, generator=generator)), pipeline)
    by_kind: dict[Augmentation, tuple[Tensor, ...]] = {}
    for kind, (drawing, _) in _KINDS.items():
        if kind in kinds:
            by_kind[kind] = drawing(pictures_NCHW, generator=generator)
            if chance:
                by_kind[kind] += (_uniform(pictures_NCHW, generator=generator),)
    return Draws(by_kind)


def augment(
    pictures_NCHW: Tensor,
    *,
    kinds: Sequence[Augmentation],
    generator: torch.Generator | None,
    probability: Tensor | None = None,
) -> Tensor:
    """`draw` and `apply` in one."""
    draws = draw(pictures_NCHW, kinds=kinds, generator=generator, chance=probability is not None)
    return apply(pictures_NCHW, draws, probability=probability)


def apply(pictures_NCHW: Tensor, draws: Draws, *, probability: Tensor | None = None) -> Tensor:
    """Augment every picture by its own draws; DiffAugment's in the order colour, translation, cutout.

    Args:
        pictures_NCHW: as the draws were made for.
        draws: from `draw`, with a chance where there is a probability.
        probability: a scalar tensor, with which each kind is applied to each picture; None applies all to all.

    Returns:
        The same shape and type, differentiable in the pictures.
    """
    if draws.pipeline == "ada":
        return ada.apply(pictures_NCHW, draws.by_kind, probability=probability)
    for kind, (_, applying) in _KINDS.items():
        if kind in draws.by_kind:
            values = draws.by_kind[kind]
            if probability is None:
                pictures_NCHW = applying(pictures_NCHW, *values)
            else:
                changed_NCHW = applying(pictures_NCHW, *values[:-1])
                pictures_NCHW = torch.where(values[-1] < probability, changed_NCHW, pictures_NCHW)
    return pictures_NCHW


def _uniform(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """U[0, 1) for each picture, float32, shaped to meet it."""
    return torch.rand(pictures_NCHW.shape[0], 1, 1, 1, device=pictures_NCHW.device, generator=generator)


def flip(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Mirror each picture left to right with probability one half."""
    uniform_N111 = _uniform(pictures_NCHW, generator=generator)
    return torch.where(uniform_N111 < _FLIP, pictures_NCHW.flip(3), pictures_NCHW)


def _draw_color(x_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    draws_3N111 = torch.rand(
        3, x_NCHW.shape[0], 1, 1, 1, dtype=x_NCHW.dtype, device=x_NCHW.device, generator=generator
    )
    return draws_3N111.unbind()


def _color(x_NCHW: Tensor, brightness_N111: Tensor, saturation_N111: Tensor, contrast_N111: Tensor) -> Tensor:
    """Brightness + U[-0.5, 0.5], saturation * U[0, 2], contrast * U[0.5, 1.5], in this order."""
    x_NCHW = x_NCHW + (brightness_N111 - 0.5)
    grey_N1HW = x_NCHW.mean(dim=1, keepdim=True)
    x_NCHW = torch.lerp(grey_N1HW, x_NCHW, 2 * saturation_N111)
    mean_N111 = x_NCHW.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean_N111, x_NCHW, contrast_N111 + 0.5)


class _Shift(torch.autograd.Function):
    """Move each picture by whole pixels and fill with zeros; the backward moves the gradient back."""

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, down_N: Tensor, right_N: Tensor) -> Tensor:
        ctx.save_for_backward(down_N, right_N)
        return _moved(x_NCHW, down_N, right_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        down_N, right_N = ctx.saved_tensors
        return _moved(grads[0], -down_N, -right_N), None, None


def _moved(x_NCHW: Tensor, down_N: Tensor, right_N: Tensor) -> Tensor:
    count, _, side, _ = x_NCHW.shape
    places = torch.arange(side, device=x_NCHW.device)
    rows_NH, columns_NW = places - down_N[:, None], places - right_N[:, None]
    inside_NHW = ((rows_NH >= 0) & (rows_NH < side))[:, :, None] & ((columns_NW >= 0) & (columns_NW < side))[
        :, None
    ]
    rows_NH, columns_NW = rows_NH.clamp(0, side - 1), columns_NW.clamp(0, side - 1)
    picture_N = torch.arange(count, device=x_NCHW.device)
    x_NHWC = x_NCHW.permute(0, 2, 3, 1)[picture_N[:, None, None], rows_NH[:, :, None], columns_NW[:, None, :]]
    return (x_NHWC * inside_NHW[..., None]).permute(0, 3, 1, 2)


def _draw_translation(x_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    reach = int(x_NCHW.shape[2] * _SHIFT + 0.5)
    shifts_2N = torch.randint(
        -reach, reach + 1, (2, x_NCHW.shape[0]), device=x_NCHW.device, generator=generator
    )
    return shifts_2N.unbind()


def _translation(x_NCHW: Tensor, down_N: Tensor, right_N: Tensor) -> Tensor:
    out: Tensor = _Shift.apply(x_NCHW, down_N, right_N)
    return out


def _draw_cutout(x_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    count, side = x_NCHW.shape[0], x_NCHW.shape[2]
    centres = side + (1 - _hole(side) % 2)
    return torch.randint(0, centres, (2, count), device=x_NCHW.device, generator=generator).unbind()


def _cutout(x_NCHW: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Zero a square of half the side whose centre lies anywhere in the picture."""
    side = x_NCHW.shape[2]
    size = _hole(side)
    first_2N = torch.stack([row_N, column_N]) - size // 2
    places = torch.arange(side, device=x_NCHW.device)
    hit_2NS = (places >= first_2N[..., None]) & (places < first_2N[..., None] + size)
    hit_N1HW = (hit_2NS[0][:, :, None] & hit_2NS[1][:, None, :])[:, None]
    return x_NCHW * ~hit_N1HW


def _hole(side: int) -> int:
    """Side of the square that is cut out."""
    return int(side * _CUTOUT + 0.5)


# How each kind draws and how it is applied, in their order.
_KINDS: dict[Augmentation, tuple[Callable[..., tuple[Tensor, ...]], Callable[..., Tensor]]] = {
    "color": (_draw_color, _color),
    "translation": (_draw_translation, _translation),
    "cutout": (_draw_cutout, _cutout),
}
