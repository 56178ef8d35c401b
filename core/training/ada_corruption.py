"""ADA's filtering of frequency bands, additive noise and cutout; the paper's default pipeline goes without them.

Source: Karras et al. 2020 (arXiv 2006.06676), appendix B and its Fig. 10.
Shapes: N pictures, C channels, H height, W width, S side, B bands.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

_BANDS = 4
_POWER = 10.0  # of the lowest band of natural pictures; that of each other band is 1
_NOISE = 0.1
_CUTOUT = 0.5
# The wavelet sym2, which is Daubechies' with two vanishing moments.
_SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)


def draw_filter(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """Chances and N(0, 1) numbers of the four bands, N,4 each, float32."""
    shape, device = (pictures_NCHW.shape[0], _BANDS), pictures_NCHW.device
    return (
        torch.rand(shape, device=device, generator=generator),
        torch.randn(shape, device=device, generator=generator),
    )


def filtered(pictures_NCHW: Tensor, chances_NB: Tensor, normals_NB: Tensor, *, probability: Tensor) -> Tensor:
    """Amplify each of four octaves by 2^N(0, 1) with p, keeping the expected power; rows and columns alike.

    Args:
        pictures_NCHW: square, float32 or float64; mirrored beyond the border.
        chances_NB: from `draw_filter`, as the next.
        normals_NB: binary logarithms of the amplitudes.
        probability: p, a scalar.

    Returns:
        The same shape and type; a picture that nothing meets stays as it is, to the bit.
    """
    met_NB = chances_NB < probability
    amplitude_NB = torch.exp2(met_NB * normals_NB.to(pictures_NCHW.dtype))
    gain_NB = _gains(amplitude_NB)
    bands_BSS = bands(pictures_NCHW.shape[2], dtype=pictures_NCHW.dtype, device=pictures_NCHW.device)
    along_N1SS = torch.einsum("nb,brc->nrc", gain_NB, bands_BSS)[:, None]
    changed_NCHW = along_N1SS @ pictures_NCHW @ along_N1SS.mT
    return torch.where(met_NB.any(dim=1)[:, None, None, None], changed_NCHW, pictures_NCHW)


def _gains(amplitude_NB: Tensor) -> Tensor:
    """Each band's amplitude goes into all gains, together with what keeps the expected power at 1."""
    power_B = torch.ones_like(amplitude_NB[0])
    power_B[0] = _POWER
    power_B = power_B / power_B.sum()
    # One row an amplitude: that band by it, the others by 1.
    eye_BB = torch.eye(_BANDS, dtype=torch.bool, device=amplitude_NB.device)
    gain_NBB = torch.where(eye_BB, amplitude_NB[:, :, None], 1.0)
    norm_NB1 = (power_B * gain_NBB.square()).sum(dim=2, keepdim=True).sqrt()
    return (gain_NBB / norm_NB1).prod(dim=1)


@cache  # a copy to the device would wait for it, in every step
def bands(side: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The four band passes as matrices along one axis, 4,S,S; they add up to the identity.

    From low to high [0, pi/8], [pi/8, pi/4], [pi/4, pi/2] and [pi/2, pi]. The half-band low pass L is the
    wavelet's autocorrelation, whose complement L(-z) = 1 - L(z) is the high pass; an octave below follows
    by z -> z^2.
    """
    low_T = np.convolve(_SYM2, _SYM2[::-1]) / 2
    filters, rest, step = [], np.ones(1), 1
    for _ in range(_BANDS - 1):
        wide_T = np.zeros(step * (len(low_T) - 1) + 1)
        wide_T[::step] = low_T
        lower_T = np.convolve(rest, wide_T)
        higher_T = -lower_T
        middle = len(higher_T) // 2
        reach = len(rest) // 2
        higher_T[middle - reach : middle + reach + 1] += rest
        filters.append(higher_T)
        rest, step = lower_T, 2 * step
    filters.append(rest)
    matrices_BSS = np.stack([_mirrored(taps_T, side=side) for taps_T in reversed(filters)])
    return torch.tensor(matrices_BSS, dtype=dtype, device=device)


def _mirrored(taps_T: np.ndarray[tuple[int], np.dtype[np.float64]], *, side: int) -> np.ndarray:
    """A centred filter along one axis as a matrix, S,S; beyond its ends the axis is mirrored."""
    matrix_SS = np.zeros((side, side))
    places_S = np.arange(side)
    for tap, value in enumerate(taps_T):
        sources_S = (side - 1) - np.abs((places_S + tap - len(taps_T) // 2) % (2 * side - 2) - (side - 1))
        matrix_SS[places_S, sources_S] += value
    return matrix_SS


def draw_noise(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """Chances, N(0, 1) numbers of the strength, and the noise itself, float32."""
    count, device = pictures_NCHW.shape[0], pictures_NCHW.device
    return (
        torch.rand(count, 1, 1, 1, device=device, generator=generator),
        torch.randn(count, 1, 1, 1, device=device, generator=generator),
        torch.randn(pictures_NCHW.shape, device=device, generator=generator),
    )


def noised(
    pictures_NCHW: Tensor,
    chance_N111: Tensor,
    strength_N111: Tensor,
    noise_NCHW: Tensor,
    *,
    probability: Tensor,
) -> Tensor:
    """Add noise whose deviation is |N(0, 0.1)|, with p."""
    deviation_N111 = _NOISE * strength_N111.abs() * (chance_N111 < probability)
    return pictures_NCHW + (deviation_N111 * noise_NCHW).to(pictures_NCHW.dtype)


def draw_cutout(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """Chances and the centre as a share of the side: N,1,1,1 and N,2, float32."""
    count, device = pictures_NCHW.shape[0], pictures_NCHW.device
    return (
        torch.rand(count, 1, 1, 1, device=device, generator=generator),
        torch.rand(count, 2, device=device, generator=generator),
    )


def cut_out(pictures_NCHW: Tensor, chance_N111: Tensor, centre_N2: Tensor, *, probability: Tensor) -> Tensor:
    """Zero a square of half the side whose centre lies anywhere in the picture, with p."""
    side = pictures_NCHW.shape[2]
    places_S = (torch.arange(side, dtype=centre_N2.dtype, device=centre_N2.device) + 0.5) / side
    inside_N2S = (places_S - centre_N2[..., None]).abs() < _CUTOUT / 2
    hit_N1HW = (inside_N2S[:, 0, :, None] & inside_N2S[:, 1, None, :])[:, None]
    return torch.where(hit_N1HW & (chance_N111 < probability), 0, pictures_NCHW)
