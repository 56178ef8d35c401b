"""Diversity within clusters: how different generated pictures look that share their nearest training picture.

Shapes: N pictures, P pairs of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


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
