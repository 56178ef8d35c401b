"""Batches in parts, for devices whose memory does not hold a step on the whole batch.

Gradients of the parts add up to those of the whole, and only the first part of a step makes a power iteration. Batch
normalisation differs: each part is normalised by its own statistics, and each moves the running ones. So does
StyleGAN2's minibatch deviation, which compares the pictures of a part. SLAE-GAN's G makes its pictures twice: for D
without a graph, and again, from the same draws, for its own step.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.models.layers import SpectralConv2d

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def parts(network: nn.Module, count: int, *, size: int) -> Iterator[slice]:
    """Rows of one part after the other; after the first the network's spectral vectors rest.

    Args:
        network: in training mode; it computes on the rows before the next are asked for.
        count: of all rows.
        size: of a part; the last may be smaller.
    """
    first, *others = split(count, size=size)
    yield first
    with _resting(network):
        yield from others


def split(count: int, *, size: int) -> list[slice]:
    """Rows of each part of a batch, in their order."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


class Tally:
    """Calls backward on each part's losses, weighted by its share of the batch, and adds them up.

    Args:
        count: pictures of the batch.
        backward: of the trainer.
    """

    def __init__(self, count: int, *, backward: Callable[[Tensor], None]) -> None:
        self._count, self._backward = count, backward
        self.losses: dict[str, Tensor] = {}

    def add(self, losses: dict[str, Tensor], *, rows: slice) -> None:
        """Take in the mean losses of a part, by name.

        Args:
            losses: float32 scalars.
            rows: of the part.
        """
        share = (rows.stop - rows.start) / self._count
        loss = torch.stack(list(losses.values())).sum()
        self._backward(loss if share == 1 else share * loss)
        for name, part in losses.items():
            weighted = share * part.detach()
            self.losses[name] = self.losses[name] + weighted if name in self.losses else weighted


@contextmanager
def replaying(network: nn.Module) -> Iterator[None]:
    """Let a network in training compute what it computed before on the same rows, and move no buffer."""
    # Those that already rest are left alone, so that this may stand within itself and within `parts`.
    norms = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats
    ]
    with _resting(network):
        for norm in norms:
            norm.track_running_stats = False  # in training mode: by the batch's own statistics, unrecorded
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True


@contextmanager
def _resting(network: nn.Module) -> Iterator[None]:
    """Without power iterations."""
    layers = [layer for layer in network.modules() if isinstance(layer, SpectralConv2d) and layer.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()
