"""The training pictures, batch by batch on the device: from its own memory, or read ahead from the packed file.

Shapes: M pictures in the set, N pictures of a batch, H height, W width.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.schemas.ticks import PreparingTick
from core.training.data import EpochOrder, load_pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from core.schemas.ticks import TrainingSpec

CPU_BUDGET_BYTES = 2 * 2**30
CUDA_BUDGET_SHARE = 0.25
AHEAD = 4  # batches read before they are asked for: enough to even out a slow disk
_TELL_S = 2.0


def budget_bytes(device: torch.device) -> int:
    """How much memory a set may take to lie on the device: 2 GiB on the CPU, on CUDA a quarter of what is free."""
    if device.type != "cuda":
        return CPU_BUDGET_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return int(free * CUDA_BUDGET_SHARE)


def prepare(
    spec: TrainingSpec,
    *,
    device: torch.device,
    emit: Callable[[PreparingTick], None],
    check_stop: Callable[[], None],
) -> Pictures:
    """The pictures of a run, decoded first if no run did so before; ticks tell how far that is.

    Raises:
        DataFailed: a picture cannot be read, or there are too few.
    """
    told = time.perf_counter()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done == total or time.perf_counter() - told >= _TELL_S:
            told = time.perf_counter()
            emit(PreparingTick(done=done, total=total))

    pictures_M3HW = load_pictures(
        spec.images_dir,
        resolution=spec.config.resolution,
        fit=spec.config.fit,
        cache_dir=spec.cache_dir,
        dataset_hash=spec.dataset_hash,
        check_stop=check_stop,
        progress=progress,
    )
    order = EpochOrder(pictures_M3HW.shape[0], seed=spec.config.seed)
    return Pictures(pictures_M3HW, order=order, batch=spec.config.shown, device=device)


class Pictures:
    """A set of pictures in its order of showing, as uint8 batches on the device.

    A set within the budget is copied to the device at once. Of a larger one a thread reads the batches to come,
    which are known: the order is a pure function of the position. Both ways give the same batches.

    Args:
        pictures_M3HW: uint8 on the CPU; memory-mapped, as `load_pictures` gives it.
        order: in which the pictures are shown.
        batch: pictures shown at once.
        device: where the batches go.
        budget: bytes that the set may take on the device; `budget_bytes` by default.
    """

    def __init__(
        self,
        pictures_M3HW: Tensor,
        *,
        order: EpochOrder,
        batch: int,
        device: torch.device,
        budget: int | None = None,
    ) -> None:
        self.count = pictures_M3HW.shape[0]
        self.resident = pictures_M3HW.nbytes <= (budget_bytes(device) if budget is None else budget)
        self._pictures_M3HW = pictures_M3HW.to(device, copy=True) if self.resident else pictures_M3HW
        self._order, self._batch, self._device = order, batch, device
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="pictures")  # starts with its first batch
        self._ahead: dict[int, tuple[Tensor, Future[Tensor]]] = {}

    def at(self, position: int) -> tuple[Tensor, Tensor]:
        """The batch that begins after `position` pictures: its rows of the set, N, int64, and N3HW uint8.

        Any position may be asked for; what follows the last one asked for has been read ahead. What the reading
        thread raised is raised here.
        """
        if self.resident:
            rows_N = self._sent(self._order.rows(position, batch=self._batch))
            return rows_N, self._pictures_M3HW[rows_N]
        self._read_ahead(position)
        rows_N, reading = self._ahead.pop(position)
        return self._sent(rows_N), self._sent(reading.result())

    def batch(self, rows_N: Tensor) -> Tensor:
        """Any pictures of the set, N3HW uint8, waiting for them to be read."""
        if self.resident:
            return self._pictures_M3HW[self._sent(rows_N)]
        return self._sent(self._read(rows_N))

    def close(self) -> None:
        """End the reading thread."""
        self._reader.shutdown(cancel_futures=True)

    def _read_ahead(self, position: int) -> None:
        wanted = range(position, position + (1 + AHEAD) * self._batch, self._batch)
        for passed in [begin for begin in self._ahead if begin not in wanted]:
            self._ahead.pop(passed)[1].cancel()
        for begin in wanted:
            if begin not in self._ahead:
                rows_N = self._order.rows(begin, batch=self._batch)
                self._ahead[begin] = rows_N, self._reader.submit(self._read, rows_N)

    def _read(self, rows_N: Tensor) -> Tensor:
        """Copy rows out of the file."""
        # NumPy copies in this very thread and in one go without the interpreter's lock, so that the step goes on
        # while the disk is waited for; torch would wake threads of its own, beside those of the step.
        return self._ready(torch.from_numpy(np.take(self._pictures_M3HW.numpy(), rows_N.numpy(), axis=0)))

    def _ready(self, tensor: Tensor) -> Tensor:
        """In memory that a GPU fetches from by itself: from other memory the host would have to wait for the copy."""
        return tensor.pin_memory() if self._device.type == "cuda" and tensor.device.type == "cpu" else tensor

    def _sent(self, tensor: Tensor) -> Tensor:
        return self._ready(tensor).to(self._device, non_blocking=True)
