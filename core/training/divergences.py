"""f-divergences and the variational bound by which a discriminator estimates them.

Source: Nowozin, Cseke and Tomioka 2016 (arXiv 1606.00709). D_f(P, Q) = E_Q[f(p / q)] is bounded from below by
    F = E_P[g_f(V)] - E_Q[f*(g_f(V))]                                      (Eq. 6 and 7)
V being the discriminator's output, g_f an activation onto the domain of f* (Table 2; Table 6 of the appendix), and
f* the convex conjugate of f. The bound is tight where g_f(V) = f'(p / q) (Eq. 5).
Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.schemas.fgan import DivergenceName

_LOG_2 = math.log(2)


@dataclass(frozen=True)
class Divergence:
    """One row of the paper's Table 2.

    Args:
        activation: g_f, which grows with V: the larger V, the more a picture seems real.
        conjugate: f*(t), for t in the range of g_f.
        of_output: f*(g_f(V)) in one, which stays finite where its two parts would not.
    """

    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    of_output: Callable[[Tensor], Tensor]


DIVERGENCES: Mapping[DivergenceName, Divergence] = {
    # f(u) = u log u
    "kl": Divergence(
        activation=lambda v: v, conjugate=lambda t: torch.exp(t - 1), of_output=lambda v: torch.exp(v - 1)
    ),
    # f(u) = -log u
    "reverse_kl": Divergence(
        activation=lambda v: -torch.exp(-v),
        conjugate=lambda t: -1 - torch.log(-t),
        of_output=lambda v: v - 1,
    ),
    # f(u) = (u - 1)^2
    "pearson": Divergence(
        activation=lambda v: v,
        conjugate=lambda t: t.square() / 4 + t,
        of_output=lambda v: v.square() / 4 + v,
    ),
    # f(u) = (sqrt(u) - 1)^2, the squared Hellinger distance
    "hellinger": Divergence(
        activation=lambda v: -torch.expm1(-v), conjugate=lambda t: t / (1 - t), of_output=torch.expm1
    ),
    # f(u) = u log u - (u + 1) log((u + 1) / 2)
    "jensen_shannon": Divergence(
        activation=lambda v: _LOG_2 + F.logsigmoid(v),
        conjugate=lambda t: -torch.log(2 - torch.exp(t)),
        of_output=lambda v: F.softplus(v) - _LOG_2,
    ),
    # f(u) = u log u - (u + 1) log(u + 1): the objective of Goodfellow et al. 2014
    "gan": Divergence(
        activation=F.logsigmoid, conjugate=lambda t: -torch.log(-torch.expm1(t)), of_output=F.softplus
    ),
}


def real_loss(logits_NK: Tensor, *, divergence: DivergenceName) -> Tensor:
    """First term of -F: -E[g_f(V(x))] on real pictures, a float32 scalar (Eq. 6 and 7).

    Args:
        logits_NK: V, any float type.
        divergence: which f.
    """
    return -DIVERGENCES[divergence].activation(logits_NK.float()).mean()


def fake_loss(logits_NK: Tensor, *, divergence: DivergenceName) -> Tensor:
    """Second term of -F: E[f*(g_f(V(G(z))))] on generated pictures, a float32 scalar (Eq. 6 and 7)."""
    return DIVERGENCES[divergence].of_output(logits_NK.float()).mean()


def minimising_loss(logits_NK: Tensor, *, divergence: DivergenceName) -> Tensor:
    """G's loss of Algorithm 1: -E[f*(g_f(V(G(z))))], the part of F that depends on G."""
    return -fake_loss(logits_NK, divergence=divergence)


def non_saturating_loss(logits_NK: Tensor, *, divergence: DivergenceName) -> Tensor:
    """G's loss of section 3.2: -E[g_f(V(G(z)))], whose gradient does not vanish while D wins."""
    return real_loss(logits_NK, divergence=divergence)
