"""The classes of a labelled dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True)
class Classes:
    """Their names in the order of their labels, and how many training pictures each has."""

    names: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, names: Sequence[str], labels: Sequence[int]) -> Classes:
        """The classes of training pictures, from each one's label."""
        counted = Counter(labels)
        return cls(tuple(names), tuple(counted[label] for label in range(len(names))))

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Each class's share of the training pictures."""
        counts = np.asarray(self.counts, dtype=np.float64)
        shares: npt.NDArray[np.float64] = counts / counts.sum()
        return shares
