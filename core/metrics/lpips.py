"""LPIPS diversity: how different two random pictures of a generator look.

Shapes: N pictures, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from core.training.perceptual import Lpips


class Diversity:
    """Mean LPIPS over random pairs of neighbours in a stream of independent pictures.

    The pictures are independent draws, so a picture and its successor are as random a pair as any; taking
    neighbours needs one picture kept between batches, and not all of them at once.

    Args:
        distance: gives N distances for two batches of pictures in [-1, 1].
        pictures: how many the stream will have.
        pairs: how many pairs, at most pictures - 1.
        seed: of the choice of pairs.
    """

    def __init__(
        self, distance: Callable[[Tensor, Tensor], Tensor], *, pictures: int, pairs: int, seed: int
    ) -> None:
        if not 1 <= pairs <= pictures - 1:
            raise ValueError(f"{pictures} pictures have {pictures - 1} pairs of neighbours, not {pairs}")
        self._distance = distance
        chosen = torch.randperm(pictures - 1, generator=torch.Generator().manual_seed(seed))[:pairs]
        self._second = torch.zeros(pictures, dtype=torch.bool)  # is this picture the second of a pair?
        self._second[chosen + 1] = True
        self._seen = 0
        self._last: Tensor | None = None
        self._distances: list[Tensor] = []

    def add(self, pictures_N3HW: Tensor) -> None:
        """Take the next pictures of the stream, uint8."""
        known_N3HW = pictures_N3HW if self._last is None else torch.cat([self._last, pictures_N3HW])
        is_second_N = self._second[self._seen : self._seen + len(pictures_N3HW)]
        at = is_second_N.nonzero().flatten().to(known_N3HW.device) + len(known_N3HW) - len(pictures_N3HW)
        with torch.inference_mode():
            for some in torch.split(at, 8):
                a, b = (known_N3HW[index] / 127.5 - 1 for index in (some - 1, some))
                self._distances.append(self._distance(a, b).float().cpu())
        self._seen += len(pictures_N3HW)
        self._last = pictures_N3HW[-1:].clone()

    def mean(self) -> float:
        """The mean over all pairs, once the stream has ended."""
        if self._seen != len(self._second):
            raise ValueError(f"{len(self._second)} pictures were announced, {self._seen} came")
        return float(torch.cat(self._distances).double().mean())


@torch.inference_mode()
def between(a_N3HW: Tensor, b_N3HW: Tensor, *, lpips: Lpips) -> Tensor:
    """LPIPS of uint8 pictures to others in pairs, N float32 on the CPU."""
    device = lpips.shift.device
    distance_N: Tensor = lpips(*(x.to(device) / 127.5 - 1 for x in (a_N3HW, b_N3HW)))
    return distance_N.float().cpu()


class Clusters:
    """Pairs of generated pictures that share their nearest training picture.

    Source: Ojha et al. 2021, section 4.1 (intra-cluster LPIPS): their mean distance falls towards 0 where a generator
    draws each training picture over and over, however good those look.

    Args:
        row_N: the nearest training picture of each generated one.
        pairs: how many in all, spread evenly over the clusters that have any: at least one in each, and no more than
            it has.
        seed: of their choice.
    """

    def __init__(self, row_N: Tensor, *, pairs: int, seed: int) -> None:
        draws = torch.Generator().manual_seed(seed)
        members = [(row_N == row).nonzero().flatten() for row in torch.unique(row_N)]
        members = [some for some in members if len(some) > 1]
        share = -(-pairs // max(1, len(members)))
        chosen = [_pairs(some, count=share, draws=draws) for some in members]
        self.first = (
            torch.cat([pair_2P[0] for pair_2P in chosen]) if chosen else torch.zeros(0, dtype=torch.int64)
        )
        self.second = torch.cat([pair_2P[1] for pair_2P in chosen]) if chosen else self.first
        self._sizes = [pair_2P.shape[1] for pair_2P in chosen]

    def mean(self, distance_P: Tensor) -> float | None:
        """The mean over clusters of the mean distance of their pairs; None where no cluster has two pictures.

        Args:
            distance_P: of the pairs `first[i]`, `second[i]`.
        """
        if not self._sizes:
            return None
        means = [part.double().mean() for part in torch.split(distance_P, self._sizes)]
        return float(torch.stack(means).mean())


def _pairs(members_K: Tensor, *, count: int, draws: torch.Generator) -> Tensor:
    """All pairs of different members, 2P, or so many random ones where there are more."""
    size = len(members_K)
    if size * (size - 1) // 2 <= count:
        return torch.combinations(members_K, 2).T
    first = torch.randint(size, (count,), generator=draws)
    second = (first + torch.randint(1, size, (count,), generator=draws)) % size
    return members_K[torch.stack([first, second])]
