"""LeCam regularisation: D's logits stay near what it said of the other side, on average, before.

Source: Tseng et al. 2021 (arXiv 2104.03310), section 3:
    R_LC = E[(D(x) - alpha_F)^2] + E[(D(G(z)) - alpha_R)^2],
    alpha_R and alpha_F being exponential moving averages of D's predictions on real and generated pictures.
Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The paper's decay of both averages.
DECAY = 0.99


def squared_distance(logits_NK: Tensor, anchor: Tensor) -> Tensor:
    """E[(D - alpha)^2], a float32 scalar, differentiable in the logits.

    Args:
        logits_NK: any float type.
        anchor: alpha, a scalar.
    """
    return (logits_NK.float() - anchor).square().mean()


class LeCam(nn.Module):
    """The two averages, and the regulariser that they anchor.

    Both terms of an iteration use the averages of the iterations before it, so that neither depends on
    which came first. The averages start at 0, as D's logits do; the late start of the regulariser lets them settle.

    Args:
        weight: lambda of the paper.
        start: iterations in which the averages only watch.
    """

    real: Tensor
    fake: Tensor
    iterations: Tensor

    def __init__(self, weight: float, *, start: int) -> None:
        super().__init__()
        self._weight, self._start = weight, start
        for name in ("real", "fake", "iterations"):
            self.register_buffer(name, torch.zeros(()))

    def _share(self) -> Tensor:
        """Lambda once the start is past, 0 before: a tensor, so that the host need not know."""
        return self._weight * (self.iterations >= self._start)

    def on_real(self, logits_NK: Tensor) -> Tensor:
        """Lambda E[(D(x) - alpha_F)^2], float32."""
        return self._share() * squared_distance(logits_NK, self.fake)

    def on_fake(self, logits_NK: Tensor) -> Tensor:
        """Lambda E[(D(G(z)) - alpha_R)^2], float32."""
        return self._share() * squared_distance(logits_NK, self.real)

    @torch.no_grad()
    def update(self, *, real_NK: Tensor, fake_NK: Tensor) -> None:
        """Move both averages at the end of an iteration of D: alpha <- 0.99 alpha + 0.01 E[D]."""
        self.real.lerp_(real_NK.float().mean(), 1 - DECAY)
        self.fake.lerp_(fake_NK.float().mean(), 1 - DECAY)
        self.iterations.add_(1)
