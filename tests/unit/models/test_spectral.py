"""The further spectral layers against torch's own operations, in float64, forward and gradients."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.layers import SpectralConv2d, UpConv2d
from core.models.spectral import BiasedConv2d, DownConv2d, SpectralEmbedding, SpectralLinear
from tests.unit.models.test_layers import assert_same, channels_last, textbook


def test_a_convolution_has_a_bias_that_is_not_normalised() -> None:
    torch.manual_seed(0)
    layer = BiasedConv2d(6, 10, 3, padding=1, spectral=True).double()
    nn.init.normal_(layer.bias)
    reference = textbook(layer, nn.Conv2d(6, 10, 3, padding=1, bias=False))
    bias = layer.bias.detach().clone().requires_grad_()
    for _ in range(2):
        x = channels_last(2, 6, 8, 8)
        theirs = reference(x) + bias[:, None, None]
        pairs = [(x, x), (layer.weight, reference.get_parameter("weight_orig")), (layer.bias, bias)]
        assert_same(layer(x), theirs, inputs=pairs)


def test_a_matrix_and_a_bias() -> None:
    torch.manual_seed(0)
    layer = SpectralLinear(6, 10, spectral=True).double()
    nn.init.normal_(layer.bias)
    reference = textbook(layer, nn.Conv2d(6, 10, 1, bias=False))
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    theirs = reference(x[:, :, None, None]).flatten(1) + layer.bias
    assert_same(layer(x), theirs, inputs=[(x, x), (layer.weight, reference.get_parameter("weight_orig"))])


def test_an_embedding_is_a_row_of_the_normalised_matrix() -> None:
    torch.manual_seed(0)
    layer = SpectralEmbedding(5, 12, spectral=True).double()
    layer.iterate(200)
    rows = layer.weight.flatten(1) / torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
    labels_N = torch.tensor([4, 0, 4])
    assert_same(layer.eval()(labels_N), rows[labels_N], inputs=[(layer.weight, layer.weight)])


def test_a_convolution_and_the_mean_of_squares() -> None:
    torch.manual_seed(0)
    layer = DownConv2d(6, 10, spectral=True).double()
    nn.init.normal_(layer.bias)
    reference = textbook(layer, nn.Conv2d(6, 10, 3, padding=1, bias=False))
    for side in (4, 8):
        x = channels_last(2, 6, side, side)
        theirs = F.avg_pool2d(reference(x) + layer.bias[:, None, None], 2)
        assert_same(layer(x), theirs, inputs=[(x, x), (layer.weight, reference.get_parameter("weight_orig"))])


def test_autocast_does_not_round_the_power_iteration() -> None:
    """bf16 has 8 bits: a spectral norm in it would be off by up to half a per cent, and move with every step."""
    torch.manual_seed(0)
    layers = (
        SpectralConv2d(16, 32, 3, padding=1, spectral=True),
        UpConv2d(16, 32, spectral=True),
        DownConv2d(16, 32, spectral=True),
    )
    for layer in layers:
        vectors = layer.u.clone(), layer.v.clone()
        x = torch.randn(1, 16, 16, 16)
        plain = layer(x).detach()
        moved = layer.u.clone(), layer.v.clone()
        layer.u.copy_(vectors[0])
        layer.v.copy_(vectors[1])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = layer(x)
        assert rounded.dtype == torch.bfloat16
        assert torch.equal(layer.u, moved[0])
        assert torch.equal(layer.v, moved[1])
        torch.testing.assert_close(rounded.float(), plain, rtol=0, atol=0.02 * float(plain.abs().max()))
