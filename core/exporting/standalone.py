"""A deployed generator as one function of plain numbers, and what is to be drawn for it.

Shapes: N pictures, Z latent numbers, M training pictures, F metadata features, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from core.training.metadata import mixed

if TYPE_CHECKING:
    from core.training.deployed import DeployedGenerator, Numbers


class Standalone(nn.Module):
    """Pictures N3HW in [-1, 1] of the inputs that `inputs_of` lists, in their order; the first dimension is N.

    The metadata of the training pictures, where there is some, is part of it.

    Args:
        generator: to be exported, on the CPU.
    """

    def __init__(self, generator: DeployedGenerator) -> None:
        super().__init__()
        self.network = generator.network
        self._planes = len(generator.network.noise_sides())
        self._by_class = generator.classes is not None
        self.register_buffer("metadata", generator.metadata_MF)
        self.metadata: Tensor | None

    def forward(self, *inputs: Tensor) -> Tensor:
        noise_NZ, *rest = inputs
        planes, rest = rest[: self._planes], rest[self._planes :]
        labels_N = rest[-1] if self._by_class else None
        metadata_NF = None
        if self.metadata is not None:
            rows_N2, share_N = rest[:2]
            metadata_NF = mixed(self.metadata[rows_N2[:, 0]], self.metadata[rows_N2[:, 1]], share_N)
        return self.network.render(self.network.latent(noise_NZ, metadata_NF), planes, labels_N=labels_N)


def inputs_of(generator: DeployedGenerator) -> list[dict[str, Any]]:
    """What `Standalone` takes, in the order of drawing: `name`, `shape` of one picture's, and how it is drawn.

    `draw` is normal (float32), uniform from 0 to 1 (float32), integers below `below` (int64), or choice by `shares`
    (int64). Drawn for one picture after the other, each from numpy's Philox with the key [seed, 0], they give the
    service's picture of that seed.
    """
    network = generator.network
    inputs: list[dict[str, Any]] = [{"name": "noise", "shape": [network.latent_size], "draw": "normal"}]
    inputs += [
        {"name": f"plane_{index}", "shape": [1, side, side], "draw": "normal"}
        for index, side in enumerate(network.noise_sides())
    ]
    if generator.metadata_MF is not None:
        inputs += [
            {"name": "rows", "shape": [2], "draw": "integers", "below": len(generator.metadata_MF)},
            {"name": "share", "shape": [], "draw": "uniform"},
        ]
    if generator.classes is not None:
        shares = generator.classes.shares.tolist()
        names = list(generator.classes.names)
        inputs.append({"name": "label", "shape": [], "draw": "choice", "shares": shares, "classes": names})
    return inputs


def as_inputs(numbers: Numbers) -> tuple[Tensor, ...]:
    """Numbers as `Standalone` takes them."""
    rest = (numbers.rows_N2, numbers.share_N, numbers.labels_N)
    return (numbers.noise_NZ, *numbers.planes, *(one for one in rest if one is not None))
