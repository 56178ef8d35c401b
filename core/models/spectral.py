"""Further layers whose weights are divided by their largest singular value, beside those of `layers`.

They share its power iteration, so that micro-batches and the deployment, which look for `SpectralConv2d`, find them.
Every layer computes in the type of its input; parameters stay float32.
Shapes: N pictures, C channels, H height, W width, I inputs, O outputs, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.layers import SpectralConv2d, full_precision

# Which of a 3x3 kernel's rows each row of the pooling kernel averages: K[k] = (w[k] + w[k - 1]) / 2.
_ROWS = ((0.5, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (0.0, 0.0, 0.5))


class BiasedConv2d(SpectralConv2d):
    """A convolution with a bias, of which only the kernel is normalised.

    Source: Miyato et al. 2018, section 2.1. The arguments are those of `SpectralConv2d`.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, padding: int = 0, spectral: bool
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=padding, spectral=spectral)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        weight, bias = self.normalised(x_NCHW.dtype), self.bias.to(x_NCHW.dtype)
        return F.conv2d(x_NCHW, weight, bias, padding=self.padding)


class SpectralLinear(BiasedConv2d):
    """A matrix and a bias, of which the matrix is normalised; kept as a 1x1 convolution's kernel."""

    def __init__(self, inputs: int, outputs: int, *, spectral: bool) -> None:
        super().__init__(inputs, outputs, 1, spectral=spectral)

    def forward(self, x_NI: Tensor) -> Tensor:
        return F.linear(x_NI, self.normalised(x_NI.dtype).flatten(1), self.bias.to(x_NI.dtype))


class SpectralEmbedding(SpectralConv2d):
    """A row of a normalised matrix for each class: the V of a projection discriminator."""

    def __init__(self, classes: int, size: int, *, spectral: bool) -> None:
        super().__init__(size, classes, 1, spectral=spectral)

    def forward(self, labels_N: Tensor) -> Tensor:
        """Rows of classes 0 to K - 1, int64; NO float32."""
        return F.embedding(labels_N, self.normalised(self.weight.dtype).flatten(1))


class DownConv2d(BiasedConv2d):
    """A 3x3 convolution with zero padding, then the mean of each 2x2 square.

    The pair equals one convolution of stride 2 whose 4x4 kernel holds means of the 3x3 kernel's taps: 16 products
    for each output instead of 36.
    """

    def __init__(self, channels_in: int, channels_out: int, *, spectral: bool) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, spectral=spectral)
        rows = torch.tensor(_ROWS)
        self.register_buffer("taps", torch.kron(rows, rows), persistent=False)
        self.taps: Tensor

    def forward(self, x_NCHW: Tensor) -> Tensor:
        weight_OI33 = self.normalised(self.weight.dtype)
        outputs, inputs = weight_OI33.shape[:2]
        with full_precision(
            x_NCHW
        ):  # the means are taken in the parameters' type, so that they are rounded once
            kernel = self.taps @ weight_OI33.permute(0, 2, 3, 1).reshape(outputs, 9, inputs)
        kernel_OI44 = kernel.view(outputs, 4, 4, inputs).permute(0, 3, 1, 2).to(x_NCHW.dtype)
        return F.conv2d(x_NCHW, kernel_OI44, self.bias.to(x_NCHW.dtype), stride=2, padding=1)
