"""The losses of SLAE-GAN, section 3.3, and FastGAN, section 3.3.

Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

# FastGAN sums LPIPS over its batch of 8; eight times the mean is the same and holds for every batch size.
_RECONSTRUCTION_WEIGHT = 8.0


def hinge_margin(
    like_NK: Tensor, *, kind: Literal["random", "one"], generator: torch.Generator | None
) -> Tensor:
    """The margins of one hinge loss, float32, shaped like the logits.

    Args:
        like_NK: logits.
        kind: random draws U[0.8, 1] for each logit, as FastGAN's code; one is SLAE-GAN's equation.
        generator: source of the draws.
    """
    if kind == "one":
        return torch.ones_like(like_NK, dtype=torch.float32)
    uniform = torch.rand(like_NK.shape, dtype=torch.float32, device=like_NK.device, generator=generator)
    return 0.8 + 0.2 * uniform


def hinge_real(logits_NK: Tensor, margin_NK: Tensor) -> Tensor:
    """First term of L_D: -E[min(0, -m + D(x))], a scalar."""
    return F.relu(margin_NK - logits_NK.float()).mean()


def hinge_fake(logits_NK: Tensor, margin_NK: Tensor) -> Tensor:
    """Second term of L_D: -E[min(0, -m - D(G(z)))], a scalar."""
    return F.relu(margin_NK + logits_NK.float()).mean()


def generator_loss(logits_NK: Tensor) -> Tensor:
    """L_G = -E[D(G(z))], a scalar."""
    return -logits_NK.float().mean()


def reconstruction(distances_N: Tensor) -> Tensor:
    """One decoder's share of L_recons = E||G(f) - T(x)||, with LPIPS as the norm: 8 times the mean."""
    return _RECONSTRUCTION_WEIGHT * distances_N.mean()
