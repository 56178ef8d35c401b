"""Penalties on the gradient of a critic in its pictures, which need a backward through a backward.

Shapes: N pictures, C channels, H height, W width, K logits a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.models.layers import full_precision

if TYPE_CHECKING:
    from collections.abc import Callable


def between(real_NCHW: Tensor, fake_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """A point on the line from each real picture to a generated one: e x + (1 - e) G(z), e ~ U[0, 1) for each.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), Algorithm 1, line 6.

    Args:
        real_NCHW: real pictures, any float type.
        fake_NCHW: as many generated ones.
        generator: source of the draws, on the pictures' device.

    Returns:
        Float32, without a graph.
    """
    real, fake = real_NCHW.detach().float(), fake_NCHW.detach().float()
    share_N111 = torch.rand(real.shape[0], 1, 1, 1, device=real.device, generator=generator)
    return torch.lerp(fake, real, share_N111)


def gradient_norms(critic: Callable[[Tensor], Tensor], pictures_NCHW: Tensor) -> Tensor:
    """The length of the critic's gradient at each picture, differentiable in the critic's parameters.

    Args:
        critic: pictures to logits NK, whose sum is differentiated. It judges every picture by itself: where batch
            normalisation mixes them, this is not the gradient of one picture's logits.
        pictures_NCHW: any float type.

    Returns:
        N, float32. Computed in float32 whatever autocast says: a second backward through bfloat16 has too few digits.
    """
    pictures = pictures_NCHW.detach().float().requires_grad_()
    with torch.enable_grad(), full_precision(pictures):
        logits_NK = critic(pictures)
        (gradient_NCHW,) = torch.autograd.grad(logits_NK.sum(), pictures, create_graph=True)
        norms_N: Tensor = torch.linalg.vector_norm(gradient_NCHW.flatten(1), dim=1)
        return norms_N


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    *,
    real_NCHW: Tensor,
    fake_NCHW: Tensor,
    weight: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Lambda E[(|grad D(x')| - 1)^2] at points x' between real and generated pictures.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), Eq. 3.

    Args:
        critic: as `gradient_norms` takes it.
        real_NCHW: what the critic is shown as real.
        fake_NCHW: as many that it is shown as generated.
        weight: lambda; 10 in the paper.
        generator: source of the draws, on the pictures' device.

    Returns:
        A float32 scalar, differentiable in the critic's parameters.
    """
    points_NCHW = between(real_NCHW, fake_NCHW, generator=generator)
    return weight * (gradient_norms(critic, points_NCHW) - 1).square().mean()
