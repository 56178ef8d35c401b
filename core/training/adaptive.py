"""A probability that rises while D overfits, and falls otherwise; it drives augmentation and APA alike.

Source: Karras et al. 2020 (arXiv 2006.06676), section 3: the heuristic r_t = E[sign(D(real))] and its control.
Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# The paper moves p once every four minibatches.
INTERVAL = 4


def overfitting(logits_NK: Tensor) -> Tensor:
    """r_t of one batch, float32: the mean sign of D's logits on real pictures; 0 fits well, 1 is memorised."""
    return logits_NK.float().sign().mean()


class AdaptiveProbability:
    """p of Karras et al.: a fixed step up or down, every four iterations, by r_t against its target.

    All of it lies on the device and is written in place, so that nothing waits and the guard can put it
    back after a skipped iteration. The paper keeps p from falling below 0; as a probability it also ends at 1.

    Args:
        target: of r_t; the paper's is 0.6.
        images: real pictures in which p could rise from 0 to 1.
        batch: real pictures an iteration.
        device: of the logits.
    """

    def __init__(self, target: float, *, images: int, batch: int, device: torch.device) -> None:
        self._target, self._step = target, INTERVAL * batch / images
        self.probability = torch.zeros((), device=device)
        self._sum, self._count = torch.zeros((), device=device), torch.zeros((), device=device)

    @torch.no_grad()
    def observe(self, logits_NK: Tensor) -> None:
        """Take in D's logits on the real pictures of an iteration; every fourth time p moves.

        Args:
            logits_NK: any float type.
        """
        self._sum.add_(overfitting(logits_NK))
        self._count.add_(1)
        due = self._count >= INTERVAL
        move = self._step * torch.sign(self._sum / self._count - self._target)
        self.probability.add_(due * move).clamp_(0, 1)
        self._sum.mul_(~due)
        self._count.mul_(~due)

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name, not copies: a checkpoint and the guard write into them."""
        return {"probability": self.probability, "sum": self._sum, "count": self._count}
