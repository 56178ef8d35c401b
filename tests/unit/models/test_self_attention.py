"""SAGAN's self-attention against the paper's equations, position by position, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from core.models.self_attention import SelfAttention


def block(*, double_backward: bool = False) -> SelfAttention:
    """With 16 channels, float64, and a gamma that lets the attention through."""
    torch.manual_seed(0)
    layer = SelfAttention(16, spectral=False, double_backward=double_backward).double()
    for conv in (layer.query, layer.key, layer.value, layer.out):
        nn.init.normal_(conv.weight, 0.0, 0.5)
    nn.init.constant_(layer.gamma, 0.7)
    return layer


def features(*, grad: bool = False) -> Tensor:
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    return x.to(memory_format=torch.channels_last).requires_grad_(grad)


def by_hand(layer: SelfAttention, x_CL: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 1 to 3 of one picture, a number at a time: the output CL and the weights beta, JI."""
    channels, positions = x_CL.shape
    f, g, h, v = (conv.weight.flatten(1) for conv in (layer.key, layer.query, layer.value, layer.out))
    beta = torch.zeros(positions, positions, dtype=torch.float64)
    out = torch.zeros_like(x_CL)
    for j in range(positions):
        s = [float((f @ x_CL[:, i]) @ (g @ x_CL[:, j])) for i in range(positions)]
        total = sum(math.exp(value) for value in s)
        found = torch.zeros(channels // 8, dtype=torch.float64)
        for i in range(positions):
            beta[j, i] = math.exp(s[i]) / total
            found += beta[j, i] * (h @ x_CL[:, i])
        out[:, j] = 0.7 * (v @ found) + x_CL[:, j]
    return out, beta


@pytest.mark.parametrize("double_backward", [False, True])
def test_it_is_the_papers_equations(*, double_backward: bool) -> None:
    layer, x = block(double_backward=double_backward), features()
    with torch.no_grad():
        out, maps = layer(x), layer.maps(x, torch.arange(12))
        for picture in range(2):
            expected, beta = by_hand(layer, x[picture].flatten(1))
            torch.testing.assert_close(out[picture].flatten(1), expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(maps[picture].flatten(1), beta, rtol=0, atol=1e-12)


def test_it_begins_as_nothing() -> None:
    layer = SelfAttention(16, spectral=True).double()
    x = features()
    assert torch.equal(layer(x), x)


def test_maps_are_of_the_positions_asked_about() -> None:
    layer, x = block(), features()
    some = layer.maps(x, torch.tensor([7, 2]))
    assert some.shape == (2, 2, 3, 4)
    torch.testing.assert_close(some, layer.maps(x, torch.arange(12))[:, [7, 2]])
    torch.testing.assert_close(some.sum(dim=(2, 3)), torch.ones(2, 2, dtype=torch.float64))


def test_a_gradient_can_be_differentiated_again_where_that_was_asked_for() -> None:
    layer, x = block(double_backward=True), features(grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_the_fused_way_cannot() -> None:
    """Why there is a switch; when torch can, it may go."""
    layer, x = block(), features(grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="derivative"):
        slope.square().sum().backward()


def test_a_penalty_reaches_every_weight_under_spectral_normalisation() -> None:
    """The gradient of a gradient penalty in a weight, against its difference quotient."""
    torch.manual_seed(0)
    layer = SelfAttention(16, spectral=True, double_backward=True).double()
    for conv in (layer.query, layer.key, layer.value, layer.out):
        nn.init.normal_(conv.weight)
        conv.iterate(20)
    nn.init.constant_(layer.gamma, 0.7)
    layer.eval()
    x = features(grad=True)

    def penalty() -> Tensor:
        (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        return slope.square().sum()

    penalty().backward()
    for conv in (layer.query, layer.key, layer.value, layer.out):
        assert conv.weight.grad is not None
        way = torch.randn_like(conv.weight)
        # The vectors u and v stand still in the backward, and with them sigma = u W v: so they do here.
        both = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                conv.weight.add_(way, alpha=step)
            both.append(penalty().item())
            with torch.no_grad():
                conv.weight.sub_(way, alpha=step)
        quotient = (both[0] - both[1]) / 2e-5
        assert quotient == pytest.approx((conv.weight.grad * way).sum().item(), rel=1e-5, abs=1e-5)
