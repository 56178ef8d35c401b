"""What the trainer asks of a family of models: its networks, its phases and its losses.

The trainer owns the loop, precision, averages, checkpoints and ticks, and knows no family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Phase:
    """One kind of optimiser step.

    Args:
        name: what the family knows it by; also the name of the network that steps.
        every: iterations between two steps of this phase.
        repeats: steps in an iteration that has any.
    """

    name: str
    every: int = 1
    repeats: int = 1


class Family(Protocol):
    """A family of models in training."""

    networks: Mapping[str, nn.Module]
    phases: tuple[Phase, ...]
    averaged: str  # the network whose parameters are averaged and deployed

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """A new optimiser of a phase's network."""

    def begin(self, real_N3HW: Tensor, *, rows_N: Tensor) -> None:
        """Prepare an iteration from uint8 pictures and their rows in the set."""

    def run(self, phase: Phase, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """Compute the losses of a phase, call backward on each, and return them detached, by name."""

    def average_decay(self, iteration: int) -> float:
        """How much of the average stays at an iteration, counted from 0."""

    def statistics(self) -> list[Tensor]:
        """Float tensors that `run` updates in place and that a skipped iteration must not move."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside networks and optimisers: random generators, statistics and data."""

    def reseed(self, salt: int) -> None:
        """Begin the random draws anew, otherwise than with another salt."""

    def load(self, state: dict[str, Any]) -> None:
        """Take over the random generators and statistics of `state`."""

    def write_snapshot(
        self, stem: Path, *, weights: dict[str, Tensor], images_seen: int, check_stop: Callable[[], None]
    ) -> tuple[Path, Path]:
        """Write the deployable network and its fixed-noise grid beside `stem`; return their paths.

        Args:
            stem: path without a suffix.
            weights: state of the averaged network, with the averages in the parameters' place.
            images_seen: its age.
            check_stop: may raise to give up.
        """
