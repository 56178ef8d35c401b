"""Which pictures of a dataset are kept from a training, to judge by.

A picture's hash decides, so that the choice is the same in every job and on every machine, copies of a picture go the
same way, and a larger share holds out the same pictures and more.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from core.errors import InvalidRequest

if TYPE_CHECKING:
    from core.datasets.files import DatasetFiles

MIN_PICTURES = 4  # on either side: KID compares subsets of half of them, and a subset needs two


def split(files: DatasetFiles, *, share: float) -> tuple[DatasetFiles, DatasetFiles | None]:
    """The pictures to train on, and those that are kept from it.

    Args:
        files: of a dataset.
        share: of the pictures to keep, in [0, 1], met on average; with 0 the first is `files` itself, the second None.

    Raises:
        InvalidRequest: either has fewer than 4 pictures.
    """
    if share == 0:
        return files, None
    kept = {image: int(image.sha256[:16], 16) / 16**16 < share for image in files.images}
    training, held_out = (
        replace(
            files,
            content_hash=hashlib.sha256(f"{files.content_hash} {part} {share!r}".encode()).hexdigest(),
            images=tuple(image for image in files.images if kept[image] == (part == "held-out")),
            part=f"-{part}-{share!r}",
        )
        for part in ("training", "held-out")
    )
    if min(training.count, held_out.count) < MIN_PICTURES:
        raise InvalidRequest(
            f"held_out {share} keeps {held_out.count} of the {files.count} pictures from the training and leaves "
            f"{training.count}; both must be at least {MIN_PICTURES}. Choose another share, or add pictures.",
            held_out=held_out.count, training=training.count,
        )  # fmt: skip
    return training, held_out
