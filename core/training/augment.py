"""DiffAugment: the same differentiable augmentations before D for real and generated pictures.

Source: Zhao et al. 2020 (arXiv 2006.10738), section 3.1: random brightness, saturation and contrast;
translation by up to an eighth of the side; a cutout of half the side.
Shapes: N pictures, C channels, H height, W width. Pictures are in [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

Augmentation = Literal["color", "translation", "cutout"]
_FLIP = 0.5
_SHIFT = 0.125
_CUTOUT = 0.5


def augment(
    pictures_NCHW: Tensor,
    *,
    kinds: Sequence[Augmentation],
    generator: torch.Generator | None,
    probability: Tensor | None = None,
) -> Tensor:
    """Augment every picture by draws of its own.

    Args:
        pictures_NCHW: square pictures, any float type.
        kinds: which augmentations; they are applied in the order colour, translation, cutout.
        generator: source of the draws, on the pictures' device.
        probability: a scalar tensor, with which each kind is applied to each picture; None applies all to all.

    Returns:
        The same shape and type, differentiable in the pictures.
    """
    for kind, function in (("color", _color), ("translation", _translation), ("cutout", _cutout)):
        if kind in kinds:
            changed_NCHW = function(pictures_NCHW, generator=generator)
            if probability is not None:
                uniform_N111 = _uniform(pictures_NCHW, generator=generator)
                changed_NCHW = torch.where(uniform_N111 < probability, changed_NCHW, pictures_NCHW)
            pictures_NCHW = changed_NCHW
    return pictures_NCHW


def _uniform(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """U[0, 1) for each picture, float32, shaped to meet it."""
    return torch.rand(pictures_NCHW.shape[0], 1, 1, 1, device=pictures_NCHW.device, generator=generator)


def flip(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Mirror each picture left to right with probability one half."""
    uniform_N111 = _uniform(pictures_NCHW, generator=generator)
    return torch.where(uniform_N111 < _FLIP, pictures_NCHW.flip(3), pictures_NCHW)


def _color(x_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Brightness + U[-0.5, 0.5], saturation * U[0, 2], contrast * U[0.5, 1.5], in this order."""
    draws_3N111 = torch.rand(
        3, x_NCHW.shape[0], 1, 1, 1, dtype=x_NCHW.dtype, device=x_NCHW.device, generator=generator
    )
    brightness, saturation, contrast = draws_3N111.unbind()
    x_NCHW = x_NCHW + (brightness - 0.5)
    grey_N1HW = x_NCHW.mean(dim=1, keepdim=True)
    x_NCHW = torch.lerp(grey_N1HW, x_NCHW, 2 * saturation)
    mean_N111 = x_NCHW.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean_N111, x_NCHW, contrast + 0.5)


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


def _translation(x_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    count, side = x_NCHW.shape[0], x_NCHW.shape[2]
    reach = int(side * _SHIFT + 0.5)
    shifts = torch.randint(-reach, reach + 1, (2, count), device=x_NCHW.device, generator=generator)
    out: Tensor = _Shift.apply(x_NCHW, shifts[0], shifts[1])
    return out


def _cutout(x_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Zero a square of half the side whose centre lies anywhere in the picture."""
    count, side = x_NCHW.shape[0], x_NCHW.shape[2]
    size = int(side * _CUTOUT + 0.5)
    first_2N = torch.randint(0, side + (1 - size % 2), (2, count), device=x_NCHW.device, generator=generator)
    first_2N = first_2N - size // 2
    places = torch.arange(side, device=x_NCHW.device)
    hit_2NS = (places >= first_2N[..., None]) & (places < first_2N[..., None] + size)
    hit_N1HW = (hit_2NS[0][:, :, None] & hit_2NS[1][:, None, :])[:, None]
    return x_NCHW * ~hit_N1HW
