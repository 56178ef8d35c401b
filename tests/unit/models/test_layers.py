"""Every fast formulation against the textbook's operations, in float64, forward and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.layers import GLU, NoiseInjection, SpectralConv2d, StartConv, UpConv2d


def assert_same(mine: Tensor, theirs: Tensor, *, inputs: list[tuple[Tensor, Tensor]]) -> None:
    """The values, and the gradients in each pair of inputs."""
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
    upstream = torch.randn_like(theirs)
    my_grads = torch.autograd.grad(mine, [pair[0] for pair in inputs], upstream)
    their_grads = torch.autograd.grad(theirs, [pair[1] for pair in inputs], upstream)
    for my_grad, their_grad in zip(my_grads, their_grads, strict=True):
        torch.testing.assert_close(my_grad, their_grad, rtol=0, atol=1e-9)


def channels_last(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()


def textbook(layer: SpectralConv2d, module: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """torch's own spectral normalisation, started from the layer's weight and vectors."""
    with torch.no_grad():
        module.weight.copy_(layer.weight)
    normalised = nn.utils.spectral_norm(module.double())
    kernel = layer.weight.shape[2:]
    # Ours orders the columns rows, columns, channels, so that a channels-last kernel needs no copy.
    v = layer.v.view(*kernel, -1).permute(2, 0, 1).reshape(-1)
    normalised.get_buffer("weight_u").copy_(layer.u)
    normalised.get_buffer("weight_v").copy_(v)
    return normalised


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (4, 1, 0), (1, 1, 0)])
def test_spectral_convolution(kernel: int, stride: int, padding: int) -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(6, 10, kernel, stride=stride, padding=padding, spectral=True).double()
    reference = textbook(layer, nn.Conv2d(6, 10, kernel, stride=stride, padding=padding, bias=False))
    for _ in range(3):  # each forward in training mode makes one power iteration
        x = channels_last(2, 6, 8, 8)
        pairs = [(x, x), (layer.weight, reference.get_parameter("weight_orig"))]
        assert_same(layer(x), reference(x), inputs=pairs)
    layer.eval()
    reference.eval()
    x = channels_last(2, 6, 8, 8)
    assert_same(layer(x), reference(x), inputs=[(x, x)])


def test_start_is_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    layer = StartConv(6, 10, 4, spectral=True).double()
    reference = textbook(layer, nn.ConvTranspose2d(6, 10, 4, bias=False))
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert_same(
        out,
        reference(x[:, :, None, None]),
        inputs=[(x, x), (layer.weight, reference.get_parameter("weight_orig"))],
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_power_iteration_runs_on_frozen_weights_too(frozen: bool) -> None:  # noqa: FBT001 - a case
    torch.manual_seed(0)
    layer = SpectralConv2d(4, 8, 3, padding=1, spectral=True).requires_grad_(not frozen)
    before = layer.u.clone()
    layer(torch.randn(1, 4, 4, 4))
    assert not torch.equal(layer.u, before)


def test_many_iterations_find_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(4, 8, 3, padding=1, spectral=True).double()
    largest = torch.linalg.svdvals(layer.weight.flatten(1))[0]
    torch.testing.assert_close(layer.iterate(500), largest)


@pytest.mark.parametrize("side", [4, 8, 9])
def test_up_convolution_is_nearest_and_convolution(side: int) -> None:
    torch.manual_seed(0)
    layer = UpConv2d(5, 7, spectral=False).double()
    x = channels_last(2, 5, side, side)
    reference = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, padding=1)
    assert_same(layer(x), reference, inputs=[(x, x), (layer.weight, layer.weight)])


def test_glu() -> None:
    torch.manual_seed(0)
    x = channels_last(2, 6, 3, 5)
    out = GLU()(x)
    assert_same(out, F.glu(x, dim=1), inputs=[(x, x)])
    (grad,) = torch.autograd.grad(GLU()(x).sum(), x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(GLU(), [x])


def test_noise_injection_starts_silent_and_learns() -> None:
    layer = NoiseInjection().double()
    x, noise = channels_last(2, 3, 4, 4), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    out = layer(x, noise)
    assert torch.equal(out, x)
    (grad,) = torch.autograd.grad(out.sum(), layer.weight)
    torch.testing.assert_close(grad, 3 * noise.sum().view(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_compute_in_their_inputs_type(dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 8, 8, dtype=dtype).to(memory_format=torch.channels_last)
    for layer in (SpectralConv2d(4, 6, 3, padding=1, spectral=True), UpConv2d(4, 6, spectral=True)):
        out = layer(x)
        assert out.dtype == dtype
        assert out.is_contiguous(memory_format=torch.channels_last)
        out.float().sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == torch.float32
