"""Adaptive pseudo augmentation: D is shown some generated pictures as if they were real.

Source: Jiang et al. 2021 (arXiv 2111.06849), section 3: with probability p a real picture gives way to a
generated one, and p follows lambda_r = E[sign(D(real))] as `core.training.adaptive` says.
Shapes: N pictures, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def deceive(
    real_N3HW: Tensor, *, pseudo_N3HW: Tensor, probability: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Put each generated picture in the place of the real one of its row, with a probability.

    Args:
        real_N3HW: real pictures, augmented.
        pseudo_N3HW: generated pictures, augmented by draws of their own; no gradient flows into them.
        probability: p in [0, 1], a scalar on the pictures' device.
        generator: source of the draws, on the pictures' device.

    Returns:
        What D is shown as real, laid out like `real_N3HW`.
    """
    uniform_N111 = torch.rand(real_N3HW.shape[0], 1, 1, 1, device=real_N3HW.device, generator=generator)
    return torch.where(uniform_N111 < probability, pseudo_N3HW.detach(), real_N3HW)
