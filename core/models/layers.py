"""Layers of FastGAN, some of other families too. Each computes in the type of its input; parameters stay float32.

Shapes: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

SLOPE = 0.2
_EPS = 1e-12
_IN_MEMORY = (0, 2, 3, 1)  # of a channels-last tensor
# Below this side building the 4x4 kernel costs more than its fewer products save, on the CPU.
_MIN_PHASE_SIDE = 16
# Which of a 3x3 kernel's rows each row of the phase kernel sums: K[k] = w[2 - k] + w[3 - k].
_ROWS = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Within it, layers keep the types of their factors, whatever `torch.autocast` is on around it."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class _SpectralNormalise(torch.autograd.Function):
    """W / sigma in the wanted type, whose backward is dL/dW = (g - <g, W / sigma> u v^T) / sigma."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any,
        weight: Tensor,
        sigma: Tensor,
        u: Tensor,
        v: Tensor,
        layer: SpectralConv2d,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(weight, sigma, u, v)
        ctx.layer = layer
        return (weight / sigma).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, sigma, u, v = ctx.saved_tensors
        # The kernel's layout, whatever a convolution's backward returned; one buffer serves every step.
        grad = torch.empty_like(weight).copy_(grads[0])
        # In the order of memory: flattening the matrices themselves would copy a transposed one.
        along = torch.dot(grad.permute(_IN_MEMORY).flatten(), weight.permute(_IN_MEMORY).flatten()) / sigma
        matrix = ctx.layer.matrix(grad).addr_(u * -along, v).div_(sigma)
        return ctx.layer.unmatrix(matrix), None, None, None, None, None


class SpectralConv2d(nn.Module):
    """A bias-free convolution whose kernel is divided by its largest singular value.

    Source: Miyato et al. 2018, Algorithm 1; initialised N(0, 0.02) as FastGAN. In training mode each
    forward makes one power iteration, also where the weight is frozen.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel: side of the square kernel.
        stride: step in pixels.
        padding: zeros at each border.
        spectral: False for a deployed network, whose weight is already divided.
    """

    outputs_first = True

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        spectral: bool,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.spectral = stride, padding, spectral
        shape = (channels_out, channels_in) if self.outputs_first else (channels_in, channels_out)
        weight = torch.empty(*shape, kernel, kernel, memory_format=torch.channels_last)
        self.weight = nn.Parameter(nn.init.normal_(weight, 0.0, 0.02))
        if spectral:
            self.register_buffer("u", F.normalize(torch.randn(channels_out), dim=0, eps=_EPS))
            self.register_buffer("v", F.normalize(torch.randn(channels_in * kernel**2), dim=0, eps=_EPS))
        self.u: Tensor
        self.v: Tensor

    def matrix(self, weight: Tensor) -> Tensor:
        """The kernel as outputs x everything else: a view where the kernel is channels-last."""
        last = weight.permute(_IN_MEMORY)
        return last.reshape(last.shape[0], -1)

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """The inverse of `matrix`."""
        channels, kernel = self.weight.shape[1], self.weight.shape[2:]
        return matrix.reshape(-1, *kernel, channels).permute(0, 3, 1, 2)

    @torch.no_grad()
    def iterate(self, steps: int = 1) -> Tensor:
        """Make power iterations and return the spectral norm they arrive at."""
        with full_precision(self.weight):
            matrix, u = self.matrix(self.weight), self.u
            for _ in range(steps):
                v = F.normalize(matrix.T @ u, dim=0, eps=_EPS)
                u = matrix @ v
                # u . (W v) with u = W v / |W v| is the length itself: a third pass over W is saved.
                sigma: Tensor = torch.linalg.vector_norm(u)
                u = u / sigma.clamp_min(_EPS)
        self.u.copy_(u)
        self.v.copy_(v)
        return sigma

    def normalised(self, dtype: torch.dtype) -> Tensor:
        """The kernel divided by its spectral norm, differentiable in the kernel."""
        if not self.spectral:
            return self.weight.to(dtype)
        if self.training:
            sigma = self.iterate()
        else:
            with torch.no_grad(), full_precision(self.weight):
                sigma = self.u @ (self.matrix(self.weight) @ self.v)
        # The next forward writes into the buffers, and this forward's backward still needs its own vectors.
        vectors = (self.u.clone(), self.v.clone()) if torch.is_grad_enabled() else (self.u, self.v)
        weight: Tensor = _SpectralNormalise.apply(self.weight, sigma, *vectors, self, dtype)
        return weight

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.conv2d(x_NCHW, self.normalised(x_NCHW.dtype), stride=self.stride, padding=self.padding)


class UpConv2d(SpectralConv2d):
    """Nearest x2, then a 3x3 convolution with zero padding.

    Every output pixel meets only 2x2 input pixels, so the pair equals one transposed convolution of
    stride 2 whose 4x4 kernel holds sums of the 3x3 kernel's taps: 4 products instead of 9.
    """

    def __init__(self, channels_in: int, channels_out: int, *, spectral: bool) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, spectral=spectral)
        rows = torch.tensor(_ROWS)
        self.register_buffer("taps", torch.kron(rows, rows), persistent=False)
        self.taps: Tensor

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if x_NCHW.shape[2] < _MIN_PHASE_SIDE:
            up_NCHW = F.interpolate(x_NCHW, scale_factor=2, mode="nearest")
            return F.conv2d(up_NCHW, self.normalised(x_NCHW.dtype), padding=1)
        # The sums are taken in the parameters' type, so that they are rounded once.
        with full_precision(x_NCHW):
            kernel = phase_kernel(self.normalised(self.weight.dtype), self.taps).to(x_NCHW.dtype)
        # Transposed convolutions of oneDNN take a contiguous kernel faster than any other.
        return F.conv_transpose2d(x_NCHW, kernel.contiguous(), stride=2, padding=1)


def phase_kernel(weight_OI33: Tensor, taps_PT: Tensor) -> Tensor:
    """The transposed 4x4 kernel that equals nearest x2 and a 3x3 convolution: K[k] = w[2 - k] + w[3 - k].

    Args:
        weight_OI33: channels-last.
        taps_PT: 16,9: which of the 9 taps each of the 16 places sums.

    Returns:
        IO44, for stride 2 and padding 1.
    """
    outputs, inputs = weight_OI33.shape[:2]
    kernel_OPI = taps_PT @ weight_OI33.permute(_IN_MEMORY).reshape(outputs, 9, inputs)
    return kernel_OPI.view(outputs, 4, 4, inputs).permute(3, 0, 1, 2)


class StartConv(SpectralConv2d):
    """The transposed convolution of a 1x1 input: a matrix product, laid out channels-last."""

    outputs_first = False

    def matrix(self, weight: Tensor) -> Tensor:
        """Outputs x (inputs, kernel): dimension 1 of a transposed convolution's weight holds its outputs."""
        return weight.permute(_IN_MEMORY).reshape(-1, weight.shape[1]).T

    def unmatrix(self, matrix: Tensor) -> Tensor:
        return super().unmatrix(matrix.T.reshape(self.weight.shape[0], -1))

    def forward(self, latent_NZ: Tensor) -> Tensor:
        weight_ZHWC = self.normalised(latent_NZ.dtype).permute(_IN_MEMORY)
        flat = latent_NZ @ weight_ZHWC.reshape(weight_ZHWC.shape[0], -1)
        return flat.reshape(-1, *weight_ZHWC.shape[1:]).permute(0, 3, 1, 2)


class _GatedLinearUnit(torch.autograd.Function):
    """a * sigmoid(b) over the channels' halves; the backward writes one channels-last tensor.

    The built-in backward returns a tensor that is not channels-last, which makes the batch
    normalisation before it several times slower.
    """

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor) -> Tensor:
        a, b = x_NCHW.chunk(2, dim=1)
        gate = torch.sigmoid(b)
        ctx.save_for_backward(x_NCHW, gate)
        return a * gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x_NCHW, gate = ctx.saved_tensors
        out = torch.empty_like(x_NCHW)
        to_a, to_b = out.chunk(2, dim=1)
        torch.mul(grads[0], gate, out=to_a)
        torch.mul(to_a, x_NCHW.chunk(2, dim=1)[0], out=to_b)
        to_b.mul_(1 - gate)
        return out


class GLU(nn.Module):
    """Gated linear unit over channels: half of them come out. Source: Dauphin et al. 2017, Eq. 1."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # a compiler writes the backward's layout itself
            return F.glu(x_NCHW, dim=1)
        out: Tensor = _GatedLinearUnit.apply(x_NCHW)
        return out


class NoiseInjection(nn.Module):
    """Add one noise plane to all channels, scaled by one learned number that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_NCHW: Tensor, noise_N1HW: Tensor) -> Tensor:
        return x_NCHW + self.weight.to(x_NCHW.dtype) * noise_N1HW


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with weights N(1, 0.02), as FastGAN starts them."""
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return norm


class UpBlock(nn.Module):
    """Nearest x2, conv3 to twice the channels, BN, GLU. Source: FastGAN, Fig. 3 (its plain up-sampling)."""

    noises = 0

    def __init__(self, channels_in: int, channels_out: int, *, spectral: bool) -> None:
        super().__init__()
        self.up = UpConv2d(channels_in, 2 * channels_out, spectral=spectral)
        self.norm = batch_norm(2 * channels_out)
        self.glu = GLU()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out: Tensor = self.glu(self.norm(self.up(x_NCHW)))
        return out


class FullUpBlock(nn.Module):
    """Nearest x2, then twice conv3, noise injection, BN, GLU (FastGAN's published up-sampling with noise)."""

    noises = 2

    def __init__(self, channels_in: int, channels_out: int, *, spectral: bool) -> None:
        super().__init__()
        self.up = UpConv2d(channels_in, 2 * channels_out, spectral=spectral)
        self.noise_up = NoiseInjection()
        self.norm_up = batch_norm(2 * channels_out)
        self.conv = SpectralConv2d(channels_out, 2 * channels_out, 3, padding=1, spectral=spectral)
        self.noise_conv = NoiseInjection()
        self.norm_conv = batch_norm(2 * channels_out)
        self.glu = GLU()

    def forward(self, x_NCHW: Tensor, noise_up_N1HW: Tensor, noise_conv_N1HW: Tensor) -> Tensor:
        x_NCHW = self.glu(self.norm_up(self.noise_up(self.up(x_NCHW), noise_up_N1HW)))
        out: Tensor = self.glu(self.norm_conv(self.noise_conv(self.conv(x_NCHW), noise_conv_N1HW)))
        return out


class DownBlock(nn.Module):
    """Halve the side: the mean of a convolutional path and an average-pooled one. Source: FastGAN, Fig. 4."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.down = SpectralConv2d(channels_in, channels_out, 4, stride=2, padding=1, spectral=True)
        self.norm_down = batch_norm(channels_out)
        self.conv = SpectralConv2d(channels_out, channels_out, 3, padding=1, spectral=True)
        self.norm_conv = batch_norm(channels_out)
        self.short = SpectralConv2d(channels_in, channels_out, 1, spectral=True)
        self.norm_short = batch_norm(channels_out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        main = F.leaky_relu(self.norm_down(self.down(x_NCHW)), SLOPE)
        main = F.leaky_relu(self.norm_conv(self.conv(main)), SLOPE)
        short = F.leaky_relu(self.norm_short(self.short(F.avg_pool2d(x_NCHW, 2))), SLOPE)
        return (main + short) / 2
