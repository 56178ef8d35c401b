"""LPIPS diversity: how different two random pictures of a generator look.

Shapes: N pictures, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


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
