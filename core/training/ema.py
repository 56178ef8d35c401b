"""The exponential moving average of a network's parameters."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

_DECAY = 0.999


def decay_at(step: int, *, kind: Literal["ramped", "constant"]) -> float:
    """How much of the average stays at a step, counted from 0.

    FastGAN's constant 0.999 keeps 61 % of the initial weights after 500 steps, so the default ramps up:
    min(0.999, (1 + t) / (10 + t)).
    """
    return _DECAY if kind == "constant" else min(_DECAY, (1 + step) / (10 + step))


class Ema:
    """average <- decay * average + (1 - decay) * parameter, over all parameters; buffers are not averaged."""

    def __init__(self, network: nn.Module) -> None:
        self._parameters = dict(network.named_parameters())
        self.average = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self, *, decay: float) -> None:
        """Take one step towards the parameters' present values."""
        torch._foreach_lerp_(list(self.average.values()), list(self._parameters.values()), 1 - decay)

    @torch.no_grad()
    def load(self, average: dict[str, Tensor]) -> None:
        """Take over a saved average of the same network."""
        for name, mine in self.average.items():
            mine.copy_(average[name])
