"""What StyleGAN2 adds to the logistic loss: R1 and path length, penalties on gradients, and the mixing of styles.

Shapes: N pictures, C channels, H height, W width; L places that take a style, S numbers of a style; K logits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.models.contract import Judgement


def r1(
    judge: Callable[[Tensor, Tensor | None], Judgement],
    real_NCHW: Tensor,
    labels_N: Tensor | None = None,
    *,
    gamma: float,
) -> Tensor:
    """R1: gamma / 2 * E[|grad D(x)|^2] on real pictures, a scalar, differentiable in D.

    Source: Mescheder et al. 2018, Eq. 9; StyleGAN2, appendix B.

    Args:
        judge: D, which computes in float32.
        real_NCHW: as D is shown them, float32.
        labels_N: as D takes them.
        gamma: its weight.
    """
    real_NCHW = real_NCHW.detach().requires_grad_()
    logits_NK = judge(real_NCHW, labels_N).logits_NK
    (slope_NCHW,) = torch.autograd.grad(logits_NK.sum(), real_NCHW, create_graph=True)
    return gamma / 2 * slope_NCHW.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(pictures_NCHW: Tensor, styles_NLS: Tensor, *, directions_NCHW: Tensor) -> Tensor:
    """How far the pictures move with their styles: |J^T y|, N, differentiable in G.

    Source: StyleGAN2, section 3.2, Eq. 4 and appendix B: y is N(0, 1), divided here by the root of the number of
    pixels, and the squares are averaged over the places that take a style.

    Args:
        pictures_NCHW: what G made of the styles, float32.
        styles_NLS: of the same graph.
        directions_NCHW: y, N(0, 1).
    """
    pixels = pictures_NCHW.shape[2] * pictures_NCHW.shape[3]
    along = (pictures_NCHW * directions_NCHW).sum() / math.sqrt(pixels)
    (slope_NLS,) = torch.autograd.grad(along, styles_NLS, create_graph=True)
    return slope_NLS.square().sum(dim=2).mean(dim=1).sqrt()


class PathLength(nn.Module):
    """E[(|J^T y| - a)^2], where a follows the mean of the lengths.

    Source: StyleGAN2, section 3.2, Eq. 4. Until there were 1 / (1 - decay) steps, a is their plain mean: from 0
    it would take 800 iterations to come near, in which the penalty presses styles to have no effect.

    Args:
        decay: how much of a stays at a step.
    """

    mean: Tensor
    steps: Tensor

    def __init__(self, *, decay: float = 0.99) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def follow(self, lengths_N: Tensor) -> None:
        """Move a towards the mean of a batch's lengths."""
        self.steps.add_(1)
        self.mean.lerp_(lengths_N.mean(), (1 / self.steps).clamp_min(1 - self._decay))

    def forward(self, lengths_N: Tensor) -> Tensor:
        """The penalty on some lengths, a scalar; a is a constant in it, and before there is any it is 0."""
        return (self.steps > 0) * (lengths_N - self.mean).square().mean()


def mixed(styles_NS: Tensor, others_NS: Tensor, *, first_N: Tensor, places: int) -> Tensor:
    """Each picture's styles, NLS: its own at the places before `first_N`, the other's from there on.

    Source: StyleGAN, section 3.1.

    Args:
        styles_NS: of the latents.
        others_NS: of as many other latents.
        first_N: int64; `places` and more leave a picture all its own styles.
        places: L.
    """
    place_L = torch.arange(places, device=styles_NS.device)
    own_NL1 = (place_L < first_N[:, None])[:, :, None]
    return torch.where(own_NL1, styles_NS[:, None], others_NS[:, None])
