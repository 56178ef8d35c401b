"""Whether a generator repeats its training pictures.

Shapes: N generated and M training pictures, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.metrics.clusters import Clusters
from core.metrics.nearest import SIDE, TOGETHER, Nearest
from core.metrics.perception import apart, batch_size, look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from core.metrics.nearest import TrainingPictures
    from core.training.perceptual import Lpips

# A training picture is a second take of another if it is nearer than this share of the median of nearest distances, or
# of all distances: the former is small itself where most pictures have a twin.
_OF_NEAREST, _OF_ALL = 0.2, 0.1
_PERCENTILE, _SHARE = 0.05, 0.5


def copy_threshold(distances_MM: Tensor) -> float:
    """Below which distance from a training picture a generated one counts as its copy.

    Training pictures that are second takes of an earlier one are left out: else the threshold would be theirs. Of the
    others each has a nearest other one; the threshold is the 5th percentile of those distances, or half their median
    where that is more.

    Args:
        distances_MM: of training pictures among themselves, mirror images included; the diagonal does not matter.

    Returns:
        LPIPS; 0 where fewer than two different pictures are left, so that there is nothing to tell copies by.
    """
    among_MM = distances_MM.clone().fill_diagonal_(torch.inf)
    of_nearest = _OF_NEAREST * among_MM.min(dim=1).values.median()
    duplicate = torch.maximum(of_nearest, _OF_ALL * among_MM[among_MM.isfinite()].median())
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
        self._training, self.threshold, self._missing = training, threshold, pictures
        self._room_2KD = torch.stack([training.room(min(TOGETHER, pictures))] * 2)
        self._waiting = 0  # points that lie there
        self._found: list[Nearest] = []
        self._small: list[Tensor] = []

    def add(self, pictures_N3HW: Tensor, *, depths: Sequence[Tensor] | None = None) -> None:
        """Take the next pictures of the stream, uint8; with their depths where they are known, at 64 pixels."""
        wanted = min(len(pictures_N3HW), self._missing)
        taken = 0
        while taken < wanted:
            free = self._room_2KD.shape[1] - self._waiting
            part = slice(taken, min(taken + free, wanted))
            self._take(pictures_N3HW[part], depths and [features[part] for features in depths])
            taken = part.stop
        self._missing -= wanted

    def _take(self, pictures_N3HW: Tensor, depths: Sequence[Tensor] | None) -> None:
        straight_ND, mirrored_ND = self._room_2KD[:, self._waiting : self._waiting + len(pictures_N3HW)]
        if depths is None:
            self._training.place(pictures_N3HW, straight_ND)
        else:
            self._training.place_depths(depths, straight_ND)
        self._training.place(pictures_N3HW.flip(dims=(3,)), mirrored_ND)
        self._small += _small(pictures_N3HW).unbind()
        self._waiting += len(pictures_N3HW)
        if self._waiting == self._room_2KD.shape[1]:
            self._search()

    def _search(self) -> None:
        found = self._training.distances_of(self._room_2KD[:, : self._waiting]).min(dim=1)
        self._found.append(Nearest(found.values.cpu(), found.indices.cpu()))
        self._waiting = 0

    def nearest(self) -> Nearest:
        """The nearest training pictures of those that were looked at; on the CPU."""
        if self._waiting > 0:
            self._search()
        distances, rows = zip(*self._found, strict=True)
        return Nearest(torch.cat(distances), torch.cat(rows))

    def within_clusters(self, lpips: Lpips, *, pairs: int, seed: int) -> float | None:
        """Intra-cluster LPIPS at 64 pixels of so many pairs; None where no two pictures share a cluster."""
        clusters = Clusters(self.nearest().row_N, pairs=pairs, seed=seed)
        together = torch.stack([clusters.first, clusters.second], dim=1).flatten()
        parts = torch.split(together, batch_size(lpips.shift.device, side=SIDE)) if len(together) else ()
        pictures = (torch.stack([self._small[row] for row in part.tolist()]) for part in parts)
        distances = [apart(lpips, look(lpips, some, side=SIDE)) for some in pictures]
        return clusters.mean(torch.cat([torch.zeros(0), *distances]))

    def metrics(self) -> dict[str, float]:
        """nearest_lpips, the median distance from the nearest training picture; copy_threshold and copy_rate.

        The latter two are missing where the training pictures are all alike and give no threshold.
        """
        distance_N = self.nearest().distance_N
        found = {"nearest_lpips": float(distance_N.median())}
        if self.threshold > 0:
            found["copy_threshold"] = self.threshold
            found["copy_rate"] = copy_rate(distance_N, threshold=self.threshold)
        return found


def _small(pictures_N3HW: Tensor) -> Tensor:
    """Uint8 pictures on the CPU, of at most 64 pixels."""
    if pictures_N3HW.shape[2] > SIDE:
        small = F.interpolate(pictures_N3HW.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
        pictures_N3HW = small.round_().clamp_(0, 255).to(torch.uint8)
    return pictures_N3HW.cpu()
