"""A folder of training pictures as one packed file, and the order in which they are shown.

Shapes: M pictures in the set, N pictures of a batch, H height, W width.
"""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.errors import DataFailed
from core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from core.schemas.training import Fit

MIN_PICTURES = 4
# Pillow averages blocks of whole pixels first as long as this many times the size is left to resample: from a
# reduction of 2 * 4 = 8 on. A fair resampling of a large picture costs several times as much and differs in nothing
# that can be seen.
_REDUCING_GAP = 4.0
_HEADER_BYTES = 128  # of an .npy file whose shape fits


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


def squared(picture: Image.Image, *, side: int, fit: Fit, resample: Image.Resampling) -> Image.Image:
    """Make a picture square and bring it to a size.

    Args:
        picture: RGB, of any size.
        side: of the result, in pixels.
        fit: crop takes the central square; squash stretches the whole; pad centres the whole on white, the
            ground that transparent pictures get on upload.
        resample: the filter; where a side shrinks 8 times or more, blocks of pixels are averaged first.
    """
    width, height = picture.size
    if fit == "pad":
        inner_width, inner_height = (max(1, round(edge * side / max(width, height))) for edge in picture.size)
        inner = picture.resize((inner_width, inner_height), resample, reducing_gap=_REDUCING_GAP)
        ground = Image.new("RGB", (side, side), "white")
        ground.paste(inner, ((side - inner_width) // 2, (side - inner_height) // 2))
        return ground
    box = (0, 0, width, height)
    if fit == "crop":
        edge = min(width, height)
        left, top = (width - edge) // 2, (height - edge) // 2
        box = (left, top, left + edge, top + edge)
    return picture.resize((side, side), resample, box=box, reducing_gap=_REDUCING_GAP)


def read_picture(path: Path, *, side: int, fit: Fit, resample: Image.Resampling) -> Tensor:
    """Decode one file, make it square and resize it; 3HW uint8, contiguous.

    Raises:
        DataFailed: the file is no picture, or is damaged.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataFailed(f"{path.name} cannot be read as a picture: {error}", file=path.name) from error
    pixels_HW3 = np.asarray(squared(picture, side=side, fit=fit, resample=resample))
    return torch.from_numpy(pixels_HW3.transpose(2, 0, 1).copy())


def read_pictures(
    paths: list[Path], *, side: int, fit: Fit, resample: Image.Resampling, check_stop: Callable[[], None]
) -> Generator[Tensor]:
    """`read_picture` for many files, in their order, by as many threads as torch computes with.

    At most two pictures a thread are being decoded or wait to be taken, however many there are. Close the
    generator if it is not read to its end: the threads end with it.

    Raises:
        DataFailed: a file is no picture, or is damaged; and what check_stop raises between pictures.
    """
    read = partial(read_picture, side=side, fit=fit, resample=resample)
    threads, todo = torch.get_num_threads(), iter(paths)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            waiting = deque(pool.submit(read, path) for path in islice(todo, 2 * threads))
            while waiting:
                check_stop()
                yield waiting.popleft().result()
                waiting.extend(pool.submit(read, path) for path in islice(todo, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def packed_path(cache_dir: Path, *, dataset_hash: str, resolution: int, fit: Fit) -> Path:
    """Where the packed pictures of a dataset lie; an .npy file of M3HW uint8."""
    return cache_dir / f"pictures-{dataset_hash}-{resolution}-{fit}.npy"


def load_pictures(
    images_dir: Path,
    *,
    resolution: int,
    fit: Fit,
    cache_dir: Path,
    dataset_hash: str,
    check_stop: Callable[[], None],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Tensor:
    """All pictures of a folder at one resolution, from the cache where they were decoded before.

    Args:
        images_dir: PNG or JPEG files of any size, RGB.
        resolution: side of the result; Lanczos resampling.
        fit: how a picture becomes square; see `squared`.
        cache_dir: shared by jobs; holds one file for each dataset, resolution and fit.
        dataset_hash: names the content of images_dir.
        check_stop: called between pictures; may raise to give up.
        progress: called with pictures done and pictures in all, after each picture that is decoded.

    Returns:
        M3HW uint8, contiguous, memory-mapped: it takes no memory that the system could not take back, unless it
        is written to, which the file would not see.

    Raises:
        DataFailed: a file cannot be read, or there are too few.
    """
    cached = packed_path(cache_dir, dataset_hash=dataset_hash, resolution=resolution, fit=fit)
    pictures_M3HW = _mapped(cached, side=resolution)
    if pictures_M3HW is None:
        paths = picture_paths(images_dir)
        reading = read_pictures(
            paths, side=resolution, fit=fit, resample=Image.Resampling.LANCZOS, check_stop=check_stop
        )
        with atomic_path(cached) as temporary, temporary.open("wb") as file, closing(reading) as pictures:
            file.write(_header(len(paths), side=resolution))
            for done, picture_3HW in enumerate(pictures, start=1):
                file.write(picture_3HW.numpy().data)
                progress(done, len(paths))
        pictures_M3HW = _mapped(cached, side=resolution)
        assert pictures_M3HW is not None, "what was just written is whole"
    return pictures_M3HW


def _header(count: int, *, side: int) -> bytes:
    header = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, side, side)}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


def _mapped(path: Path, *, side: int) -> Tensor | None:
    """Map a packed file; None if there is none, or not one of whole pictures of this side: it is made again."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        count, rest = divmod(path.stat().st_size - _HEADER_BYTES, 3 * side * side)
        if rest or count < MIN_PICTURES or file.read(_HEADER_BYTES) != _header(count, side=side):
            return None
        # Mode c, private pages: torch takes no read-only memory without a warning, and the file stays as it is.
        shape = (count, 3, side, side)
        return torch.from_numpy(np.memmap(file, np.uint8, mode="c", offset=_HEADER_BYTES, shape=shape))


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
