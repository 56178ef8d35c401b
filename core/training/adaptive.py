"""A probability that rises while D overfits, and falls otherwise; it drives augmentation and APA alike.

Source: Karras et al. 2020 (arXiv 2006.06676), section 3: the heuristic r_t = E[sign(D(real))] and its control.
Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The paper moves p once every four minibatches.
INTERVAL = 4


def overfitting(logits_NK: Tensor) -> Tensor:
    """r_t of one batch, float32: the mean sign of D's logits on real pictures; 0 fits well, 1 is memorised."""
    return logits_NK.float().sign().mean()


class AdaptiveProbability(nn.Module):
    """p of Karras et al.: a fixed step up or down, every four iterations, by r_t against its target.

    All of it lies in buffers and is written in place, so that nothing waits and the guard can put it
    back after a skipped iteration. The paper keeps p from falling below 0; as a probability it also ends at 1.

    Args:
        target: of r_t; the paper's is 0.6.
        images: real pictures in which p could rise from 0 to 1.
        batch: real pictures that it is shown at a time.
    """

    probability: Tensor
    sum: Tensor
    count: Tensor

    def __init__(self, target: float, *, images: int, batch: int) -> None:
        super().__init__()
        self._target, self._step = target, INTERVAL * batch / images
        for name in ("probability", "sum", "count"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def observe(self, logits_NK: Tensor) -> None:
        """Take in D's logits on the real pictures of an iteration; every fourth time p moves.

        Args:
            logits_NK: any float type.
        """
        self.sum.add_(overfitting(logits_NK))
        self.count.add_(1)
        due = self.count >= INTERVAL
        move = self._step * torch.sign(self.sum / self.count - self._target)
        self.probability.add_(due * move).clamp_(0, 1)
        self.sum.mul_(~due)
        self.count.mul_(~due)
