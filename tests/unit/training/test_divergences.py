"""Against the definitions of the divergences; nothing of Table 2 is repeated here but f itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from torch import Tensor

from core.schemas.fgan import DivergenceName
from core.training.divergences import (
    DIVERGENCES,
    fake_loss,
    minimising_loss,
    non_saturating_loss,
    real_loss,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES: tuple[DivergenceName, ...] = get_args(DivergenceName)
# f of D_f(P, Q) = sum of q f(p / q).
F_OF: dict[DivergenceName, Callable[[Tensor], Tensor]] = {
    "kl": lambda u: u * u.log(),
    "reverse_kl": lambda u: -u.log(),
    "pearson": lambda u: (u - 1).square(),
    "hellinger": lambda u: (u.sqrt() - 1).square(),
    "jensen_shannon": lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
    "gan": lambda u: u * u.log() - (u + 1) * (u + 1).log(),
}
P = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)


def slope(name: DivergenceName, ratio: Tensor) -> Tensor:
    """f', by autograd."""
    ratio = ratio.clone().requires_grad_()
    (grad,) = torch.autograd.grad(F_OF[name](ratio).sum(), ratio)
    return grad


def output_for(name: DivergenceName, wanted: Tensor) -> Tensor:
    """The V whose activation is wanted, by bisection: g_f grows."""
    low, high = torch.full_like(wanted, -40), torch.full_like(wanted, 40)
    for _ in range(200):
        middle = (low + high) / 2
        below = DIVERGENCES[name].activation(middle) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def bound(name: DivergenceName, output: Tensor) -> Tensor:
    """E_P[g_f(V)] - E_Q[f*(g_f(V))] over the four events."""
    divergence = DIVERGENCES[name]
    activated = divergence.activation(output)
    return (P * activated).sum() - (Q * divergence.conjugate(activated)).sum()


def test_each_name_has_a_divergence() -> None:
    assert set(DIVERGENCES) == set(NAMES) == set(F_OF)


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_is_tight_at_the_slope_of_f(name: DivergenceName) -> None:
    exact = (Q * F_OF[name](P / Q)).sum()
    best = output_for(name, slope(name, P / Q))
    torch.testing.assert_close(bound(name, best), exact)
    for offset in (-0.3, 0.3):
        for event in range(4):
            other = best.clone()
            other[event] += offset
            assert bound(name, other) < exact


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_of_samples_are_minus_the_bound(name: DivergenceName) -> None:
    """Events as often as their probabilities say: the means are then the expectations."""
    output = torch.tensor([0.7, -0.4, 0.1, -1.2], dtype=torch.float64)
    real, fake = (output.repeat_interleave((10 * share).round().long())[:, None].float() for share in (P, Q))
    loss = real_loss(real, divergence=name) + fake_loss(fake, divergence=name)
    torch.testing.assert_close(loss, -bound(name, output).float())


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_is_the_supremum(name: DivergenceName) -> None:
    """f*(t) = sup of u t - f(u), searched on a grid of u."""
    ratios = torch.logspace(-6, 3, 400_001, dtype=torch.float64)
    for output in (-1.5, 0.0, 0.6):
        t = DIVERGENCES[name].activation(torch.tensor(output, dtype=torch.float64))
        supremum = (ratios * t - F_OF[name](ratios)).max()
        torch.testing.assert_close(DIVERGENCES[name].conjugate(t), supremum, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_of_the_activation_in_one_is_the_same(name: DivergenceName) -> None:
    output = torch.linspace(-6, 6, 49, dtype=torch.float64)
    divergence = DIVERGENCES[name]
    torch.testing.assert_close(
        divergence.of_output(output), divergence.conjugate(divergence.activation(output))
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_of_the_conjugate_inverts_the_slope_of_f(name: DivergenceName) -> None:
    """(f*)'(f'(u)) = u."""
    ratio = torch.tensor([0.05, 0.5, 1.0, 2.0, 8.0], dtype=torch.float64)
    t = slope(name, ratio).requires_grad_()
    (back,) = torch.autograd.grad(DIVERGENCES[name].conjugate(t).sum(), t)
    torch.testing.assert_close(back, ratio)


@pytest.mark.parametrize("name", NAMES)
def test_the_activation_grows(name: DivergenceName) -> None:
    output = torch.linspace(-6, 6, 200, dtype=torch.float64)
    assert (DIVERGENCES[name].activation(output).diff() > 0).all()


def test_kl_of_two_gaussians() -> None:
    """KL(N(1, 1), N(0, 1)) = 1/2, and T* = 1 + log(p / q) = 1/2 + x."""
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    loss = real_loss(x[:, None] + 1.5, divergence="kl") + fake_loss(x[:, None] + 0.5, divergence="kl")
    assert -loss.item() == pytest.approx(0.5, abs=0.01)


def test_the_gan_of_equal_sides_is_goodfellows_constant() -> None:
    logits = torch.zeros(8, 1)
    loss = real_loss(logits, divergence="gan") + fake_loss(logits, divergence="gan")
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("name", NAMES)
def test_both_objectives_of_the_generator_raise_the_output(name: DivergenceName) -> None:
    """Descending either raises V: f* and g_f both grow. Only the minimising one dies out where D wins."""
    logits = torch.tensor([[-8.0]], requires_grad=True)
    (minimising,) = torch.autograd.grad(minimising_loss(logits, divergence=name), logits)
    (saving,) = torch.autograd.grad(non_saturating_loss(logits, divergence=name), logits)
    assert saving.item() < -0.9
    if name not in {"reverse_kl", "pearson"}:
        assert -1e-3 < minimising.item() < 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", [real_loss, fake_loss, minimising_loss, non_saturating_loss])
def test_losses_are_float32_from_any_logits(name: DivergenceName, loss: Callable[..., Tensor]) -> None:
    assert loss(torch.zeros(3, 1, dtype=torch.bfloat16), divergence=name).dtype == torch.float32
