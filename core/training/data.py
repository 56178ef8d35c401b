"""The training pictures as one uint8 tensor, and the order in which they are shown.

Shapes: M pictures in the set, N pictures of a batch, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import DataFailed
from core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIN_PICTURES = 4


def picture_paths(images_dir: Path) -> list[Path]:
    """The picture files of a folder in the order of their names.

    Raises:
        DataFailed: there are fewer than 4.
    """
    paths = sorted(path for path in images_dir.iterdir() if path.is_file() and not path.name.startswith("."))
    if len(paths) < MIN_PICTURES:
        raise DataFailed(
            f"{images_dir} holds {len(paths)} pictures; training needs at least {MIN_PICTURES}.",
            found=len(paths),
        )
    return paths


def read_picture(path: Path, *, side: int, resample: Image.Resampling) -> Tensor:
    """Decode one file, cut its central square and resize it; 3HW uint8.

    Raises:
        DataFailed: the file is no picture, or is damaged.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataFailed(f"{path.name} cannot be read as a picture: {error}", file=path.name) from error
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    pixels_HW3 = np.array(picture.resize((side, side), resample, box=box))
    return torch.from_numpy(pixels_HW3).permute(2, 0, 1)


def load_pictures(
    images_dir: Path, *, resolution: int, cache_dir: Path, dataset_hash: str, check_stop: Callable[[], None]
) -> Tensor:
    """All pictures of a folder at one resolution, from the cache where they were decoded before.

    Args:
        images_dir: PNG or JPEG files of any size, RGB.
        resolution: side of the result; Lanczos resampling of the central square.
        cache_dir: shared by jobs; holds one file for each dataset and resolution.
        dataset_hash: names the content of images_dir.
        check_stop: called between pictures; may raise to give up.

    Returns:
        M3HW uint8, contiguous.

    Raises:
        DataFailed: a file cannot be read, or there are too few.
    """
    cached = cache_dir / f"pictures-{dataset_hash}-{resolution}.safetensors"
    if cached.is_file():
        try:
            return load_file(cached)["pictures"]
        except SafetensorError:
            cached.unlink(missing_ok=True)  # a damaged cache is made again
    pictures = []
    for path in picture_paths(images_dir):
        check_stop()
        pictures.append(read_picture(path, side=resolution, resample=Image.Resampling.LANCZOS))
    pictures_M3HW = torch.stack(pictures)
    with atomic_path(cached) as temporary:
        save_file({"pictures": pictures_M3HW}, temporary)
    return pictures_M3HW


class EpochOrder:
    """Endless reshuffled epochs as a pure function of the position, so that images_seen is all its state.

    A batch may span epochs, and may be larger than the set.

    Args:
        count: pictures in the set.
        seed: of the shuffles.
    """

    def __init__(self, count: int, *, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._order_M = -1, torch.empty(0, dtype=torch.long)

    def rows(self, position: int, *, batch: int) -> Tensor:
        """Rows of the set that a batch shows which begins after `position` pictures; N, int64."""
        parts, end = [], position + batch
        while position < end:
            epoch, offset = divmod(position, self._count)
            part_N = self._shuffled(epoch)[offset : offset + end - position]
            parts.append(part_N)
            position += part_N.shape[0]
        return torch.cat(parts)

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            # torch's CPU generator keeps 32 bits of a seed; Philox takes both numbers as its key.
            philox = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            self._epoch, self._order_M = epoch, torch.from_numpy(philox.permutation(self._count))
        return self._order_M
