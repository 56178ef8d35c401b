"""Whether a generator repeats its training pictures: nearest neighbours by LPIPS.

Pictures are compared at 64 pixels, the side of the patches on which LPIPS was fitted, and with their mirror images.
Shapes: N generated and M training pictures, H height, W width, D numbers that describe a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

if TYPE_CHECKING:
    from core.training.perceptual import Lpips

SIDE = 64
_BATCH = 16  # pictures in VGG-16 at a time
_TOGETHER = 64  # pictures searched for at a time: each search reads the points of all training pictures
# A training picture nearer to another than this share of the median distance is a second take of it.
_DUPLICATE = 0.2
_PERCENTILE, _SHARE = 0.05, 0.5


class Nearest(NamedTuple):
    """The nearest training picture of each picture."""

    distance_N: Tensor  # LPIPS, float32
    row_N: Tensor  # of the training picture, int64


class TrainingPictures:
    """Training pictures as points whose squared distances are LPIPS.

    LPIPS sums w_l |u_l(a) - u_l(b)|^2 over layers and averages over positions, and its weights w are not negative: so
    it is the squared Euclidean distance between all u_l times the root of w_l over the positions, one after another.

    Args:
        pictures_M3HW: uint8, at least one.
        lpips: the distance; with the device to compute on.
    """

    def __init__(self, pictures_M3HW: Tensor, *, lpips: Lpips) -> None:
        self._lpips = lpips
        # bfloat16 is half of the memory; the rounding moves a distance by a millionth of the vectors' squared lengths.
        width = self._points(pictures_M3HW[:1]).shape[1]
        self._points_MD = torch.empty(
            len(pictures_M3HW), width, dtype=torch.bfloat16, device=lpips.shift.device
        )
        for rows, part in zip(
            torch.split(self._points_MD, _BATCH), torch.split(pictures_M3HW, _BATCH), strict=True
        ):
            rows.copy_(self._points(part))
        parts = torch.split(self._points_MD, _BATCH)
        self._length_M = torch.cat([rows.float().square().sum(dim=1) for rows in parts])

    @torch.inference_mode()
    def _points(self, pictures_N3HW: Tensor) -> Tensor:
        """Points ND float32 of uint8 pictures."""
        x = pictures_N3HW.to(self._lpips.shift.device).float()
        if x.shape[2] > SIDE:
            x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        parts = []
        for unit, head in zip(self._lpips.directions(x / 127.5 - 1), self._lpips.heads, strict=True):
            positions = unit.shape[2] * unit.shape[3]
            parts.append((unit.float() * (head / positions).sqrt()).flatten(1))
        return torch.cat(parts, dim=1)

    @torch.inference_mode()
    def distances(self, pictures_N3HW: Tensor) -> Tensor:
        """LPIPS of each picture, or of its mirror image where that is nearer, to each training picture.

        Args:
            pictures_N3HW: uint8.

        Returns:
            NM float32.
        """
        parts = []
        for some in torch.split(pictures_N3HW, _TOGETHER):
            both = torch.cat([some, some.flip(dims=(3,))])
            points = torch.cat([self._points(part) for part in torch.split(both, _BATCH)])
            straight_NM, mirrored_NM = self._to_all(points).chunk(2)
            parts.append(torch.minimum(straight_NM, mirrored_NM))
        return torch.cat(parts)

    def _to_all(self, points_ND: Tensor) -> Tensor:
        length_N1 = points_ND.square().sum(dim=1, keepdim=True)
        products_NM = torch.cat(
            [points_ND @ some_mD.float().T for some_mD in torch.split(self._points_MD, _TOGETHER)], dim=1
        )
        return (length_N1 + self._length_M - 2 * products_NM).clamp_min(0)

    def nearest(self, pictures_N3HW: Tensor) -> Nearest:
        """The nearest training picture of each picture, as `distances` measures."""
        return Nearest(*self.distances(pictures_N3HW).min(dim=1))


def copy_threshold(distances_MM: Tensor) -> float:
    """Below which distance from a training picture a generated one counts as its copy.

    Training pictures that are second takes of an earlier one are left out: else the threshold would be theirs. Of the
    others each has a nearest other one; the threshold is the 5th percentile of those distances, or half their median
    where that is more.

    Args:
        distances_MM: of training pictures among themselves, mirror images included; the diagonal does not matter.

    Returns:
        LPIPS; 0 where fewer than two different pictures are left.
    """
    among_MM = distances_MM.clone().fill_diagonal_(torch.inf)
    duplicate = _DUPLICATE * among_MM.min(dim=1).values.median()
    kept: list[int] = []
    for row, distance_M in enumerate(among_MM):
        if not kept or distance_M[kept].min() >= duplicate:
            kept.append(row)
    if len(kept) < 2:  # noqa: PLR2004  # nothing is another's neighbour
        return 0.0
    nearest_K = among_MM[kept][:, kept].min(dim=1).values
    return float(torch.maximum(nearest_K.quantile(_PERCENTILE), _SHARE * nearest_K.median()))


def copy_rate(distance_N: Tensor, *, threshold: float) -> float:
    """The share of generated pictures nearer to a training picture than the threshold; in [0, 1]."""
    return float((distance_N < threshold).float().mean())


class Copies:
    """The search for copies in a stream of generated pictures.

    Args:
        training: all training pictures.
        threshold: from `copy_threshold`.
        pictures: how many of the stream to look at, from its beginning.
    """

    def __init__(self, training: TrainingPictures, *, threshold: float, pictures: int) -> None:
        self._training, self._threshold, self._missing = training, threshold, pictures
        self._waiting: list[Tensor] = []
        self._found: list[Nearest] = []

    def add(self, pictures_N3HW: Tensor) -> None:
        """Take the next pictures of the stream, uint8."""
        some = pictures_N3HW[: self._missing]
        self._missing -= len(some)
        self._waiting.append(some)
        if sum(map(len, self._waiting)) >= _TOGETHER:
            self._search()

    def _search(self) -> None:
        pictures_N3HW, self._waiting = torch.cat(self._waiting), []
        if len(pictures_N3HW) > 0:
            self._found.append(self._training.nearest(pictures_N3HW))

    def nearest(self) -> Nearest:
        """The nearest training pictures of those that were looked at."""
        if self._waiting:
            self._search()
        distances, rows = zip(*self._found, strict=True)
        return Nearest(torch.cat(distances), torch.cat(rows))

    def metrics(self) -> dict[str, float]:
        """copy_rate, copy_threshold, and nearest_lpips: the median distance from the nearest training picture."""
        distance_N = self.nearest().distance_N
        return {
            "copy_rate": copy_rate(distance_N, threshold=self._threshold),
            "copy_threshold": self._threshold,
            "nearest_lpips": float(distance_N.median()),
        }
