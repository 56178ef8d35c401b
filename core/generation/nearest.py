"""Which training pictures are nearest to a generated one, by the distance of the copy alarm.

Shapes: M training pictures, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from core.metrics.nearest import TOGETHER, TrainingPictures
from core.metrics.protocol import MAX_COPIES_REAL
from core.metrics.real import evenly
from core.training.data import load_pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from core.schemas.families import Config
    from core.training.perceptual import Lpips

_TOLD = 3


class Neighbours:
    """The training pictures of a job, to be searched: 800 of them at most, evenly chosen, as in an evaluation.

    They take about a megabyte each in memory.

    Args:
        images_dir: of all of them.
        dataset_hash: names their content.
        positions: of each in the dataset; None: their order.
        config: of the training.
        cache_dir: where they lie packed.
        lpips: the distance.

    Raises:
        DataFailed: a picture cannot be read.
    """

    def __init__(
        self,
        images_dir: Path,
        *,
        dataset_hash: str,
        positions: Sequence[int] | None,
        config: Config,
        cache_dir: Path,
        lpips: Lpips,
    ) -> None:
        pictures_M3HW = load_pictures(
            images_dir,
            resolution=config.resolution,
            fit=config.fit,
            cache_dir=cache_dir,
            dataset_hash=dataset_hash,
            check_stop=lambda: None,
        )
        rows_K = evenly(min(MAX_COPIES_REAL, len(pictures_M3HW)), of=len(pictures_M3HW))
        self._positions = [row if positions is None else positions[row] for row in rows_K.tolist()]
        parts = (pictures_M3HW[some] for some in torch.split(rows_K, TOGETHER))
        self._training = TrainingPictures(parts, count=len(rows_K), lpips=lpips)

    @torch.inference_mode()
    def of(self, picture_3HW: Tensor) -> list[dict[str, Any]]:
        """The three nearest, or as many as there are, nearest first: `position` in the dataset, and `lpips`.

        Args:
            picture_3HW: uint8; its mirror image counts too.
        """
        distance_M = self._training.distances(picture_3HW[None])[0]
        found = distance_M.topk(min(_TOLD, len(distance_M)), largest=False)
        return [
            {"position": self._positions[row], "lpips": round(distance, 4)}
            for distance, row in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]
