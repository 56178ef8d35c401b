"""ADA's pixel blitting and general geometric transformations, joined into one map a picture.

Source: Karras et al. 2020 (arXiv 2006.06676), appendix B and its Fig. 10. Blits copy pixels. General transformations
are sampled at twice the resolution, between orthogonal wavelet filters, so that they neither blur nor alias. Beyond
its border a picture is mirrored.
Shapes: N pictures, C channels, H height, W width, V drawn numbers. Lengths are in pixels, places from the centre.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

_REACH = 0.125  # of a blit's translation, and the deviation of the fractional one; in sides
_EVEN = 0.5  # chance of a flip, among those that p lets
_SCALE = 0.2  # deviation of the scales' binary logarithms
# The wavelet sym6 of Daubechies' least asymmetric ones: orthonormal to its even shifts, six vanishing moments.
_SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
_TAPS = len(_SYM6)
# By so many doubled samples the wavelet, which is not quite symmetric, brings low frequencies forward.
_DELAY = sum(index * tap for index, tap in enumerate(_SYM6)) / math.sqrt(2) - (_TAPS - 1) / 2
_BORDER = _TAPS // 4  # pixels that the filter reaches beyond the border
_MARGIN = _TAPS // 2 - 1  # samples of the doubled grid, likewise


def draw_blit(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """Chances and U[0, 1) numbers of x-flip, quarter turn and whole translation: N,3 and N,4, float32."""
    count, device = pictures_NCHW.shape[0], pictures_NCHW.device
    chances_N3 = torch.rand(count, 3, device=device, generator=generator)
    return chances_N3, torch.rand(count, 4, device=device, generator=generator)


def draw_geometry(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """Chances, N(0, 1) and U[0, 1) numbers of the five general transformations: N,5, N,4 and N,2, float32."""
    count, device = pictures_NCHW.shape[0], pictures_NCHW.device
    chances_N5 = torch.rand(count, 5, device=device, generator=generator)
    normals_N4 = torch.randn(count, 4, device=device, generator=generator)
    return chances_N5, normals_N4, torch.rand(count, 2, device=device, generator=generator)


def transform(
    pictures_NCHW: Tensor,
    *,
    blit: tuple[Tensor, ...] | None,
    geometry: tuple[Tensor, ...] | None,
    probability: Tensor,
) -> Tensor:
    """Blit and transform every picture by its own draws, in one sampling.

    A picture that no general transformation meets is copied pixel by pixel, one that nothing meets stays as it is,
    to the bit: what a resampling does to them is the identity in the paper's filters, too.

    Args:
        pictures_NCHW: square, float32 or float64.
        blit: from `draw_blit`; None for none.
        geometry: from `draw_geometry`; None for none.
        probability: p, a scalar.

    Returns:
        The same shape and type, twice differentiable in the pictures.
    """
    eye_33 = torch.eye(3, dtype=pictures_NCHW.dtype, device=pictures_NCHW.device)
    back_N33 = eye_33.expand(pictures_NCHW.shape[0], 3, 3)  # from a target's place to its source's
    out_NCHW = pictures_NCHW
    if blit is not None:
        back_N33 = _blitted(back_N33, *blit, side=pictures_NCHW.shape[2], probability=probability)
        out_NCHW = _copied(pictures_NCHW, back_N33)
    if geometry is not None:
        back_N33, moved_N = _turned(back_N33, *geometry, side=pictures_NCHW.shape[2], probability=probability)
        out_NCHW = torch.where(moved_N[:, None, None, None], _resampled(pictures_NCHW, back_N33), out_NCHW)
    return out_NCHW


def _blitted(
    back_N33: Tensor, chances_N3: Tensor, uniform_N4: Tensor, *, side: int, probability: Tensor
) -> Tensor:
    """x-flip and quarter turns, each value with equal chances; then whole translations of up to an eighth."""
    flips_N, turns_N, shifts_N = (chances_N3 < probability).unbind(1)
    flipped_N = flips_N & (uniform_N4[:, 0] < _EVEN)
    angle_N = math.pi / 2 * turns_N * (4 * uniform_N4[:, 1]).floor().to(back_N33.dtype)
    cosine_N, sine_N = angle_N.cos().round(), angle_N.sin().round()  # exact, so that every place stays whole
    shift_N2 = (shifts_N[:, None] * (2 * uniform_N4[:, 2:] - 1) * (_REACH * side)).round().to(back_N33.dtype)
    one_N = torch.ones_like(cosine_N)
    back_N33 = back_N33 @ _affine(torch.where(flipped_N, -one_N, one_N), 0 * one_N, 0 * one_N, one_N)
    back_N33 = back_N33 @ _rotation(cosine_N, sine_N)
    return back_N33 @ _translation(shift_N2)


def _turned(
    back_N33: Tensor,
    chances_N5: Tensor,
    normals_N4: Tensor,
    uniform_N2: Tensor,
    *,
    side: int,
    probability: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scale, rotate, stretch, rotate, translate; and whether any of it met a picture.

    Each rotation comes with 1 - sqrt(1 - p), so that p is the probability of at least one of the two.
    """
    rare = 1 - (1 - probability).sqrt()
    limits = torch.stack([probability, rare, probability, rare, probability])
    met_N5 = chances_N5 < limits
    scales, before, stretches, after, shifts = met_N5.to(back_N33.dtype).unbind(1)
    normals_N4, uniform_N2 = normals_N4.to(back_N33.dtype), uniform_N2.to(back_N33.dtype)
    scale_N, stretch_N = (
        torch.exp2(_SCALE * met * normals_N4[:, index]) for index, met in enumerate((scales, stretches))
    )
    zero_N = torch.zeros_like(scale_N)
    angle_N2 = math.pi * (2 * uniform_N2 - 1) * torch.stack([before, after], dim=1)
    for inverse_N33 in (
        _affine(1 / scale_N, zero_N, zero_N, 1 / scale_N),
        _rotation(angle_N2[:, 0].cos(), angle_N2[:, 0].sin()),
        _affine(1 / stretch_N, zero_N, zero_N, stretch_N),
        _rotation(angle_N2[:, 1].cos(), angle_N2[:, 1].sin()),
        _translation(shifts[:, None] * normals_N4[:, 2:] * (_REACH * side)),
    ):
        back_N33 = back_N33 @ inverse_N33
    return back_N33, met_N5.any(dim=1)


def _affine(xx_N: Tensor, xy_N: Tensor, yx_N: Tensor, yy_N: Tensor) -> Tensor:
    """N,3,3 of a map of (x, y, 1) without translation."""
    zero_N, one_N = torch.zeros_like(xx_N), torch.ones_like(xx_N)
    rows = [xx_N, xy_N, zero_N, yx_N, yy_N, zero_N, zero_N, zero_N, one_N]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def _rotation(cosine_N: Tensor, sine_N: Tensor) -> Tensor:
    """Back by the angle, from the turned picture to the one before; y points down."""
    return _affine(cosine_N, sine_N, -sine_N, cosine_N)


def _translation(shift_N2: Tensor) -> Tensor:
    """Back by (right, down)."""
    zero_N, one_N = torch.zeros_like(shift_N2[:, 0]), torch.ones_like(shift_N2[:, 0])
    rows = [one_N, zero_N, -shift_N2[:, 0], zero_N, one_N, -shift_N2[:, 1], zero_N, zero_N, one_N]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def _sources(back_N33: Tensor, places_S: Tensor, *, side: int, delay: float) -> Tensor:
    """Where targets at the crossings of `places_S` come from: N,S,S,2 in grid_sample's units, mirrored inside.

    `delay` is that of the samples against their places, in half pixels.
    """
    x_SS, y_SS = torch.meshgrid(places_S, places_S, indexing="xy")
    targets_3P = torch.stack([x_SS, y_SS, torch.ones_like(x_SS)]).flatten(1)
    half = (side - 1) / 2
    sources_N2P = (back_N33 @ targets_3P)[:, :2] + half
    mirrored_N2P = 2 * half - (sources_N2P.remainder(4 * half) - 2 * half).abs()
    grid_N2P = (2 * mirrored_N2P + 1 + delay) / side - 1
    return grid_N2P.transpose(1, 2).reshape(-1, *x_SS.shape, 2)


def _copied(pictures_NCHW: Tensor, back_N33: Tensor) -> Tensor:
    """Every pixel from the whole place that the map names."""
    side = pictures_NCHW.shape[2]
    places_S = torch.arange(side, dtype=back_N33.dtype, device=back_N33.device) - (side - 1) / 2
    grid_NHW2 = _sources(back_N33, places_S, side=side, delay=0)
    return F.grid_sample(pictures_NCHW, grid_NHW2, mode="nearest", align_corners=False)


def _resampled(pictures_NCHW: Tensor, back_N33: Tensor) -> Tensor:
    """Double by the wavelet, sample bilinearly on a doubled grid, and halve by the wavelet.

    The paper mirrors before it doubles, we mirror the doubled picture where it is sampled: a margin would have to
    be as wide as the widest of the drawn maps needs, which the host does not know.
    """
    side = pictures_NCHW.shape[2]
    doubled_NCHW = doubled(pictures_NCHW)
    places_S = torch.arange(-_MARGIN, 2 * side + _MARGIN, dtype=back_N33.dtype, device=back_N33.device)
    places_S = (places_S - 0.5 - _DELAY) / 2 - (side - 1) / 2
    grid_NHW2 = _sources(back_N33, places_S, side=side, delay=_DELAY)
    return halved(F.grid_sample(doubled_NCHW, grid_NHW2, mode="bilinear", align_corners=False))


def doubled(pictures_NCHW: Tensor) -> Tensor:
    """Twice the side, by zeros between the pixels and the wavelet; beyond the border mirrored.

    Args:
        pictures_NCHW: of at least 4 pixels a side.

    Returns:
        The same type; the values lie a quarter of a pixel left and right of each pixel, above and below.
    """
    channels = pictures_NCHW.shape[1]
    taps_C1T1 = 2 * _wavelet(channels, dtype=pictures_NCHW.dtype, device=pictures_NCHW.device)
    # Channels-last, a convolution by groups is several times faster on the CPU.
    x_NCHW = pictures_NCHW.contiguous(memory_format=torch.channels_last)
    x_NCHW = F.pad(x_NCHW, (_BORDER,) * 4, mode="reflect")
    crop = _TAPS - 1
    x_NCHW = F.conv_transpose2d(x_NCHW, taps_C1T1, stride=(2, 1), padding=(crop, 0), groups=channels)
    return F.conv_transpose2d(x_NCHW, taps_C1T1.mT, stride=(1, 2), padding=(0, crop), groups=channels)


def halved(samples_NCHW: Tensor) -> Tensor:
    """The inverse of `doubled`, from its samples with a margin of 5 more on every side.

    Returns:
        The same type, of a side of half of (theirs - 10).
    """
    channels = samples_NCHW.shape[1]
    taps_C1T1 = _wavelet(channels, dtype=samples_NCHW.dtype, device=samples_NCHW.device)
    x_NCHW = samples_NCHW.contiguous(memory_format=torch.channels_last)
    x_NCHW = F.conv2d(x_NCHW, taps_C1T1, stride=(2, 1), groups=channels)
    return F.conv2d(x_NCHW, taps_C1T1.mT, stride=(1, 2), groups=channels)


@cache  # a copy to the device would wait for it, in every step
def _wavelet(channels: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The wavelet's low pass with sum 1, C,1,T,1."""
    taps_T = torch.tensor(_SYM6, dtype=dtype, device=device) / math.sqrt(2)
    return taps_T[:, None].repeat(channels, 1, 1, 1)
