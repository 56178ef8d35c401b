"""What the trainer asks of a family of models: its networks, its phases and its losses.

The trainer owns the loop, precision, averages, checkpoints, snapshots and ticks, and knows no family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from core.models.contract import PictureGenerator
    from core.training.classes import Classes
    from core.training.deployed import DeployedGenerator
    from core.training.metadata import MetadataBank
    from core.training.perceptual import Lpips

FOR_EVER = 2**63


@dataclass(frozen=True)
class Phase:
    """One kind of optimiser step.

    Args:
        name: what the family knows it by.
        every: iterations between two steps of this phase.
        repeats: steps in an iteration that has any.
        begins: images seen before its first iteration.
        ends: images seen from which on there is none.
        shares: the phase whose optimiser it steps; None: it has one of its own.
    """

    name: str
    every: int = 1
    repeats: int = 1
    begins: int = 0
    ends: int = FOR_EVER
    shares: str | None = None

    def steps(self, *, iteration: int, images_seen: int) -> int:
        """How many steps an iteration takes."""
        due = self.begins <= images_seen < self.ends and iteration % self.every == 0
        return self.repeats if due else 0


@dataclass(frozen=True)
class Setting:
    """What a family gets from the trainer, beside its configuration and networks.

    Args:
        dtype: in which the networks compute.
        device: where everything lies.
        micro_batch: pictures in memory at a time; see `core.training.microbatch`.
        bank: metadata of the training pictures, where the configuration uses it.
        perceptual: LPIPS in the type to compute in, where the configuration uses it.
        classes: of the training pictures, where the training is by class.
        labels_M: their classes, int64, on the device.
    """

    dtype: torch.dtype
    device: torch.device
    micro_batch: int
    bank: MetadataBank | None = None
    perceptual: Lpips | None = None
    classes: Classes | None = None
    labels_M: Tensor | None = None


class Family(Protocol):
    """A family of models in training.

    What it must remember beside its networks' weights lies in buffers of modules among its networks: so it is part of
    every checkpoint, and the guard puts it back after a step that left the finite numbers.
    """

    networks: Mapping[str, nn.Module]
    averaged: str  # the network whose parameters are averaged and deployed

    @classmethod
    def build(cls, config: Any, *, classes: int) -> dict[str, nn.Module]:
        """All networks, weights drawn from torch's own random numbers, on the default device.

        Args:
            config: of this family.
            classes: how many, where the training is by class; else 0.
        """

    @classmethod
    def deployable(cls, config: Any, *, classes: int, spectral: bool) -> PictureGenerator:
        """A new network of the averaged kind.

        Args:
            config: of this family.
            classes: as for `build`.
            spectral: True as it is trained, with power iterations; False as it is served, with spectral norms that are
                folded into its weights.
        """

    def __init__(self, config: Any, *, networks: Mapping[str, nn.Module], setting: Setting) -> None: ...

    @property
    def phases(self) -> tuple[Phase, ...]:
        """In the order in which an iteration takes them."""

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """A new optimiser of what steps in a phase."""

    def begin(self, real_N3HW: Tensor, *, rows_N: Tensor) -> None:
        """Prepare an iteration from uint8 pictures, as many as `config.shown`, and their rows in the set."""

    def run(self, phase: Phase, *, repeat: int, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """Compute the losses of a phase's step, call backward on each, and return them detached, by name."""

    def stepped(self, phase: Phase) -> None:
        """Called after the optimiser's step."""

    def extras(self, deployed: DeployedGenerator) -> Mapping[str, Callable[[Path], None]]:
        """What a snapshot shows beside its grid: writers of PNGs, by the kinds that they are listed as."""

    def average_decay(self, iteration: int) -> float:
        """How much of the average stays at an iteration, counted from 0."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside networks and optimisers: random sources and data."""

    def reseed(self, salt: int) -> None:
        """Begin the random draws anew, otherwise than with another salt."""

    def load(self, state: dict[str, Any]) -> None:
        """Take over the random sources of `state`."""


class PairFamily(Family, Protocol):
    """A family that can also be trained on what stands for pictures, such as their codes (core.training.codes)."""

    @classmethod
    def build(cls, config: Any, *, classes: int, channels: int = 3) -> dict[str, nn.Module]:
        """As every family, for pictures of so many channels."""

    @classmethod
    def deployable(cls, config: Any, *, classes: int, spectral: bool, channels: int = 3) -> PictureGenerator:
        """As every family, for pictures of so many channels."""

    def show(self, real_NCHW: Tensor, *, rows_N: Tensor) -> None:
        """What `begin` does, from float32 in [-1, 1], channels-last, that are neither flipped nor augmented."""
