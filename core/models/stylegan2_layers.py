"""Layers of StyleGAN2. Feature maps are channels-last, in the type of the input; parameters stay float32.

Every weight is drawn from N(0, 1) and multiplied at run time by gain / sqrt(inputs): the equalised learning rate of
Karras et al. 2018 (ProGAN), section 4.1. A leaky ReLU multiplies by what it is multiplied by, so its gain of sqrt(2)
is folded into the weight and the bias of the layer before it, which spares passes over the maps.
Shapes: N pictures, C channels, H height, W width; O outputs, I inputs; S numbers of a style.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.layers import full_precision

SLOPE = 0.2
ACTIVATED = math.sqrt(2)
_EPS = 1e-8
_TAPS = (1.0, 3.0, 3.0, 1.0)
_IN_MEMORY = (0, 2, 3, 1)  # of a channels-last tensor


def wide(x: Tensor) -> Tensor:
    """The same in float32, where its type is a smaller one."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Blur(nn.Module):
    """A depthwise convolution with the binomial [1, 3, 3, 1]: the filter of all resampling.

    Source: Karras et al. 2020 (StyleGAN2), section 2 and appendix B; Zhang 2019.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor(_TAPS) / sum(_TAPS)
        kernel_C144 = torch.outer(taps, taps).expand(channels, 1, -1, -1).contiguous()
        self.register_buffer("kernel", kernel_C144, persistent=False)
        self.kernel: Tensor

    def forward(self, x_NCHW: Tensor, *, padding: int, stride: int = 1) -> Tensor:
        """Blur, with zeros around the map; a stride of 2 keeps every second pixel."""
        return F.conv2d(
            x_NCHW, self.kernel.to(x_NCHW.dtype), stride=stride, padding=padding, groups=self.kernel.shape[0]
        )

    def up(self, x_NCHW: Tensor) -> Tensor:
        """Twice the side: zeros between the pixels, then the filter with a gain of 4."""
        kernel_C144 = 4 * self.kernel.to(x_NCHW.dtype)
        return F.conv_transpose2d(x_NCHW, kernel_C144, stride=2, padding=1, groups=self.kernel.shape[0])


class EqualLinear(nn.Module):
    """y = gain * (W x / sqrt(I) + b), and with a rate below 1 it learns as much more slowly.

    Args:
        inputs: numbers that come in.
        outputs: numbers that go out.
        bias: of every output, at the start.
        rate: of learning, as a share of the optimiser's; the values at the start do not depend on it.
        gain: of the result; ACTIVATED where a leaky ReLU follows.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self._weight_gain, self._bias_gain = gain * rate / math.sqrt(inputs), gain * rate

    def forward(self, x_NI: Tensor) -> Tensor:
        return F.linear(x_NI, self.weight * self._weight_gain, self.bias * self._bias_gain)


class EqualConv2d(nn.Module):
    """A convolution at the equalised learning rate, which keeps the side of the map or halves it.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel: side of the square kernel: 1 or 3.
        gain: of the result.
        bias: whether it has one.
        down: whether it blurs the map and halves its side.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        gain: float = 1.0,
        bias: bool = True,
        down: bool = False,
    ) -> None:
        super().__init__()
        weight_OIHW = torch.randn(channels_out, channels_in, kernel, kernel)
        self.weight = nn.Parameter(weight_OIHW.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        self.blur = Blur(channels_in) if down else None
        self._weight_gain, self._bias_gain = gain / math.sqrt(channels_in * kernel**2), gain
        self._kernel = kernel

    def forward(self, x_NCHW: Tensor) -> Tensor:
        stride, padding = 1, self._kernel // 2
        if self.blur is not None and self._kernel == 1:  # only the pixels that stay are filtered
            x_NCHW = self.blur(x_NCHW, padding=1, stride=2)
        elif self.blur is not None:
            x_NCHW, stride, padding = self.blur(x_NCHW, padding=2), 2, 0
        bias = None if self.bias is None else (self.bias * self._bias_gain).to(x_NCHW.dtype)
        weight = (self.weight * self._weight_gain).to(x_NCHW.dtype)
        return F.conv2d(x_NCHW, weight, bias, stride=stride, padding=padding)


class ModulatedConv2d(nn.Module):
    """A 3x3 convolution whose kernel is scaled by a style and brought back to unit output deviation.

    Source: Karras et al. 2020 (StyleGAN2), section 2.2: modulation, w' = s_i w, Eq. 1; demodulation,
    w'' = w' / sqrt(sum over i and k of w'^2 + eps), Eqs. 2 and 3. Both scale whole channels, so the maps are scaled
    before and after one convolution of the whole batch: on the CPU that takes half the time of a group of kernels
    for each picture.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        style: numbers of a style.
        up: whether it doubles the side of the map and blurs it.
    """

    def __init__(self, channels_in: int, channels_out: int, *, style: int, up: bool = False) -> None:
        super().__init__()
        self.affine = EqualLinear(style, channels_in, bias=1.0)
        # A transposed convolution takes its inputs first.
        shape = (channels_in, channels_out) if up else (channels_out, channels_in)
        weight = torch.randn(*shape, 3, 3)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.blur = Blur(channels_out) if up else None
        self._gain = 1 / math.sqrt(channels_in * 9)

    def forward(self, x_NCHW: Tensor, style_NS: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve, all but demodulation.

        Returns:
            The maps NOHW, in the type of the input or autocast's, and the float32 factors NO by which their channels
            are yet to be multiplied: whoever adds a bias does that in the same pass.
        """
        weight = self.weight * self._gain
        with full_precision(x_NCHW):
            scale_NI = self.affine(style_NS)
            energy = weight.square().sum(dim=(2, 3))
            energy_IO = energy if self.blur is not None else energy.T
            factor_NO = (scale_NI.square() @ energy_IO + _EPS).rsqrt()
        x_NCHW = x_NCHW * scale_NI.to(x_NCHW.dtype)[:, :, None, None]
        weight = weight.to(x_NCHW.dtype)
        if self.blur is None:
            return F.conv2d(x_NCHW, weight, padding=1), factor_NO
        # Doubled without padding the side is 2 H + 1; the filter of 4 takes 1 back.
        double = F.conv_transpose2d(x_NCHW, weight, stride=2)
        return self.blur(double, padding=1), 4 * factor_NO


class StyledConv2d(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU. Source: StyleGAN2, Fig. 2 d.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        style: numbers of a style.
        up: whether it doubles the side of the map.
    """

    def __init__(self, channels_in: int, channels_out: int, *, style: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(channels_in, channels_out, style=style, up=up)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x_NCHW: Tensor, style_NS: Tensor, plane_N1HW: Tensor) -> Tensor:
        x_NCHW, factor_NC = self.conv(x_NCHW, style_NS)
        bias_C = (ACTIVATED * self.bias).to(x_NCHW.dtype)
        factor_NC = (ACTIVATED * factor_NC).to(x_NCHW.dtype)
        noise_N1HW = (ACTIVATED * self.strength * plane_N1HW).to(x_NCHW.dtype)
        x_NCHW = torch.addcmul(bias_C[:, None, None], x_NCHW, factor_NC[:, :, None, None]) + noise_N1HW
        return F.leaky_relu(x_NCHW, SLOPE)


class ToPicture(nn.Module):
    """The picture that a feature map holds: a modulated 1x1 convolution without demodulation.

    Source: StyleGAN2, section 4.1 and Fig. 7 b (tRGB). The kernel has few outputs, so each picture gets its own.

    Args:
        channels_in: of the maps.
        channels_out: of the picture.
        style: numbers of a style.
    """

    def __init__(self, channels_in: int, channels_out: int, *, style: int) -> None:
        super().__init__()
        self.affine = EqualLinear(style, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self._gain = 1 / math.sqrt(channels_in)

    def forward(self, x_NCHW: Tensor, style_NS: Tensor) -> Tensor:
        """The picture, NOHW float32."""
        with full_precision(x_NCHW):
            kernel_NIO = (self.affine(style_NS)[:, None] * (self.weight * self._gain)).transpose(1, 2)
        flat_NPI = x_NCHW.permute(_IN_MEMORY).flatten(1, 2)
        flat_NPO = wide(torch.bmm(flat_NPI, kernel_NIO.to(flat_NPI.dtype))) + self.bias
        return flat_NPO.view(x_NCHW.shape[0], *x_NCHW.shape[2:], -1).permute(0, 3, 1, 2)


def normalised(x_NZ: Tensor) -> Tensor:
    """Each row divided by the root of its mean square. Source: Karras et al. 2018 (ProGAN), section 4.2."""
    return x_NZ * (x_NZ.square().mean(dim=1, keepdim=True) + _EPS).rsqrt()


def minibatch_deviation(x_NCHW: Tensor, *, group: int = 4) -> Tensor:
    """How much the pictures of a group differ, as one more channel.

    Source: Karras et al. 2018 (ProGAN), section 3, in groups as in StyleGAN2: the deviation of each feature over the
    pictures of a group, its mean over all features, the same number for all of a group's pictures and positions.

    Args:
        x_NCHW: features. Picture n belongs to group n modulo the number of groups.
        group: how many pictures belong together, at most; where no number up to that divides the batch, the
            smallest larger one that does.

    Returns:
        N,C+1,H,W in the type of the input.
    """
    count, channels, height, width = x_NCHW.shape
    sizes = (*range(min(group, count), 1, -1), *range(group + 1, count + 1), 1)
    together = next(size for size in sizes if count % size == 0)
    grouped_GMCHW = wide(x_NCHW).reshape(together, -1, channels, height, width)
    variance_MCHW = grouped_GMCHW.var(dim=0, correction=0)
    deviation_M = (variance_MCHW + _EPS).sqrt().mean(dim=(1, 2, 3))
    deviation_N = deviation_M.repeat(together).to(x_NCHW.dtype)
    plane_N1HW = deviation_N[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([x_NCHW, plane_N1HW], dim=1)
