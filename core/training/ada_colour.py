"""ADA's colour transformations, joined into one affine map of RGB a picture.

Source: Karras et al. 2020 (arXiv 2006.06676), appendix B and its Fig. 10.
Shapes: N pictures, H height, W width. Pictures are in [-1, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EVEN = 0.5  # chance of a luma flip, among those that p lets
_BRIGHTNESS = 0.2  # deviation
_CONTRAST, _SATURATION = 0.5, 1.0  # deviations of their binary logarithms


def draw_colour(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """Chances, N(0, 1) and U[0, 1) numbers of the five transformations: N,5, N,3 and N,2, float32."""
    count, device = pictures_NCHW.shape[0], pictures_NCHW.device
    chances_N5 = torch.rand(count, 5, device=device, generator=generator)
    normals_N3 = torch.randn(count, 3, device=device, generator=generator)
    return chances_N5, normals_N3, torch.rand(count, 2, device=device, generator=generator)


def recolour(
    pictures_N3HW: Tensor,
    chances_N5: Tensor,
    normals_N3: Tensor,
    uniform_N2: Tensor,
    *,
    probability: Tensor,
) -> Tensor:
    """Brightness, contrast, luma flip, hue and saturation, each with p, in this order.

    Args:
        pictures_N3HW: RGB, float32 or float64.
        chances_N5: from `draw_colour`, as the next two.
        normals_N3: of brightness, contrast and saturation.
        uniform_N2: of luma flip and hue.
        probability: p, a scalar.

    Returns:
        The same shape and type; a picture that nothing meets stays as it is, to the bit.
    """
    met_N5 = chances_N5 < probability
    brightens, contrasts, inverts, turns, saturates = met_N5.to(pictures_N3HW.dtype).unbind(1)
    normals_N3, uniform_N2 = normals_N3.to(pictures_N3HW.dtype), uniform_N2.to(pictures_N3HW.dtype)
    brightness_N = _BRIGHTNESS * brightens * normals_N3[:, 0]
    contrast_N = torch.exp2(_CONTRAST * contrasts * normals_N3[:, 1])
    inverted_N = inverts * (uniform_N2[:, 0] < _EVEN)
    angle_N = math.pi * turns * (2 * uniform_N2[:, 1] - 1)
    saturation_N = torch.exp2(_SATURATION * saturates * normals_N3[:, 2])
    map_N33 = _saturation(saturation_N) @ _hue(angle_N) @ _inversion(inverted_N) * contrast_N[:, None, None]
    # Brightness comes first and is the same in each channel, so that the map scales it by its rows' sums.
    offset_N13 = brightness_N[:, None, None] * map_N33.sum(dim=2)[:, None, :]
    count, _, height, width = pictures_N3HW.shape
    flat_NP3 = pictures_N3HW.permute(0, 2, 3, 1).reshape(count, height * width, 3)
    changed_NP3 = torch.baddbmm(offset_N13, flat_NP3, map_N33.mT)
    changed_N3HW = changed_NP3.view(count, height, width, 3).permute(0, 3, 1, 2)
    return torch.where(met_N5.any(dim=1)[:, None, None, None], changed_N3HW, pictures_N3HW)


def _grey(like_N: Tensor) -> Tensor:
    """The projection on the axis of greys, (1, 1, 1) / sqrt 3."""
    return torch.full((3, 3), 1 / 3, dtype=like_N.dtype, device=like_N.device)


def _inversion(inverted_N: Tensor) -> Tensor:
    """Mirror at the plane through black that is orthogonal to the greys, where `inverted_N` is 1."""
    eye_33 = torch.eye(3, dtype=inverted_N.dtype, device=inverted_N.device)
    return eye_33 - 2 * inverted_N[:, None, None] * _grey(inverted_N)


def _hue(angle_N: Tensor) -> Tensor:
    """Turn about the axis of greys (Rodrigues' formula)."""
    eye_33 = torch.eye(3, dtype=angle_N.dtype, device=angle_N.device)
    cross_33 = (eye_33.roll(1, 0) - eye_33.roll(1, 1)) / math.sqrt(3)
    cosine_N11, sine_N11 = angle_N.cos()[:, None, None], angle_N.sin()[:, None, None]
    return cosine_N11 * eye_33 + sine_N11 * cross_33 + (1 - cosine_N11) * _grey(angle_N)


def _saturation(scale_N: Tensor) -> Tensor:
    """Scale the distance from the axis of greys."""
    eye_33, grey_33 = torch.eye(3, dtype=scale_N.dtype, device=scale_N.device), _grey(scale_N)
    return grey_33 + scale_N[:, None, None] * (eye_33 - grey_33)
