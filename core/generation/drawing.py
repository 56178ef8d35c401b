"""Pictures one at a time, so that each is the same to the byte whatever it is made with.

Kernels differ with the size of a batch and with the number of threads, and their results in the last bits. So on the
CPU every picture is a batch of its own, computed by one thread; pictures are made beside each other instead. That is
as fast: on two cores no thread waits for another within a layer.
Shapes: H height, W width.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from core.errors import NonFinite
from core.training.deployed import Drawn, as_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from torch import Tensor

    from core.training.deployed import DeployedGenerator

_AHEAD = 2  # finished pictures that wait to be taken, for each thread

Given = TypeVar("Given")
Made = TypeVar("Made")


class Studio:
    """Threads that make one picture each; from `studio`."""

    def __init__(self, pool: ThreadPoolExecutor, *, threads: int) -> None:
        self._pool, self._ahead = pool, _AHEAD * threads

    def each(self, make: Callable[[Given], Made], given: Iterable[Given]) -> Iterator[Made]:
        """What `make` makes of each, in their order; a few are made ahead, never all."""
        waiting: deque[Future[Made]] = deque()
        try:
            for one in given:
                waiting.append(self._pool.submit(make, one))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def studio(device: str) -> Iterator[Studio]:
    """As many threads as torch computes with, each of which computes alone; on a GPU one, since it has its own."""
    before = torch.get_num_threads()
    threads = before if device == "cpu" else 1
    # The number is the process's for threads to come and the calling thread's own: it is put back.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(
        threads, thread_name_prefix="pictures", initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        with pool:
            yield Studio(pool, threads=threads)
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def picture_of(generator: DeployedGenerator, seed: int, *, label: int | None, truncation: float) -> Tensor:
    """The picture of a seed, 3HW uint8 on the CPU.

    Args:
        generator: to make it with.
        seed: 0 to 2^63 - 1.
        label: its class, for a generator trained by class; None draws one by the training set's shares.
        truncation: 0 to 1; 1 changes nothing.

    Raises:
        NonFinite: the generator left the finite numbers.
    """
    drawn = drawn_of(generator, seed, label=label)
    return pixels(
        generator.network.render(
            drawn.latent_NZ, drawn.planes, labels_N=drawn.labels_N, truncation=truncation
        )
    )


def drawn_of(generator: DeployedGenerator, seed: int, *, label: int | None) -> Drawn:
    """What the picture of a seed is made from."""
    return generator.draw_seeds([seed], labels=[label])


def pixels(made_13HW: Tensor) -> Tensor:
    """One picture in [-1, 1] as 3HW uint8 on the CPU.

    Raises:
        NonFinite: it is not of finite numbers.
    """
    if not made_13HW.isfinite().all():
        raise NonFinite("The generator drew numbers that are not finite: its training had failed by then.")
    return as_pixels(made_13HW)[0].cpu().contiguous()
