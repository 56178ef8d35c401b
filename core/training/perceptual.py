"""LPIPS with VGG-16: how far apart two pictures look, by the features of a network trained on ImageNet.

Shapes: N pictures, C channels, H height, W width. Pictures are RGB in [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from core.models.vgg import vgg16_features
from core.weights import ensure_vgg16

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# ImageNet's mean and deviation, for pictures in [-1, 1] instead of [0, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
# relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 in torchvision's `features`.
_TAPS = (3, 8, 15, 22, 29)
_EPS = 1e-10


class Lpips(nn.Module):
    """The learned perceptual distance of Zhang et al. 2018, Eq. 1, version 0.1, frozen.

    Equal to the `lpips` package's `LPIPS(net="vgg")` to 1e-5 in float32.

    Args:
        weights_dir: where `core.weights` keeps the VGG-16 features.
        dtype: in which the features are computed; distances are float32.
        device: where.

    Raises:
        WeightsMissing: the weights are neither in the folder nor to be had.
    """

    def __init__(
        self, weights_dir: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        self.features = vgg16_features(weights_dir)
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = True  # what a convolution gives is needed nowhere else
        with safe_open(ensure_vgg16(weights_dir), framework="pt") as tensors:
            heads = [tensors.get_tensor(f"lpips.lin{index}.weight") for index in range(len(_TAPS))]
        self.dtype = dtype
        self.heads = nn.ParameterList(nn.Parameter(head, requires_grad=False) for head in heads)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.shift: Tensor
        self.scale: Tensor
        self.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.features.to(dtype)

    def directions(self, pictures_N3HW: Tensor) -> Iterator[Tensor]:
        """Features of five depths, each position scaled to length one.

        Args:
            pictures_N3HW: in [-1, 1], any float type, at least 16 pixels a side.

        Yields:
            NCHW features in the module's type.
        """
        yield from map(direction, self.depths(pictures_N3HW))

    def depths(self, pictures_N3HW: Tensor) -> Iterator[Tensor]:
        """Features of five depths, NCHW in the module's type; the last is VGG-16's relu5_3.

        Args:
            pictures_N3HW: in [-1, 1], any float type, at least 16 pixels a side.
        """
        x = ((pictures_N3HW - self.shift) / self.scale).to(self.dtype, memory_format=torch.channels_last)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                yield x

    def against(self, pictures_N3HW: Tensor, targets: list[Tensor]) -> Tensor:
        """Distances of pictures to targets whose `directions` are known, one number a picture, float32."""
        return self.between(self.depths(pictures_N3HW), targets)

    def between(self, depths: Iterable[Tensor], targets: list[Tensor]) -> Tensor:
        """As `against`, of pictures whose `depths` are known."""
        total: Tensor | float = 0.0
        for features, target, head in zip(depths, targets, self.heads, strict=True):
            total = total + _Distance.apply(features, target, head)
        assert isinstance(total, torch.Tensor), "there are five depths"
        return total

    def forward(self, a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
        """Distance of each picture of `a` to that of `b`, both in [-1, 1]; N numbers, float32."""
        return self.against(a_N3HW, list(self.directions(b_N3HW)))


def direction(features_NCHW: Tensor) -> Tensor:
    """Scale each position's features to length one, as the package does."""
    return _unit(features_NCHW)[0]


def _unit(features_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The directions, and the lengths, N1HW float32."""
    # 1e-20 under the root changes no value and keeps the gradient of a position that is dead in all channels.
    square = features_NCHW.square().sum(dim=1, keepdim=True, dtype=torch.float32)
    length_N1HW = (square + _EPS**2).sqrt()
    return features_NCHW * (1 / (length_N1HW + _EPS)).to(features_NCHW.dtype), length_N1HW


class _Distance(torch.autograd.Function):
    """One depth's weighted square distance of directions from a target's, a number a picture, float32.

    With u = x / (|x| + eps) and r = u - t it is the mean over positions of sum_c w_c r_c^2. Its gradient in x is
    (g - u <g, u> (|x| + eps) / |x|) / (|x| + eps), where g = 2 w r / positions: half the passes over memory that the
    operations one by one would make.
    """

    @staticmethod
    def forward(ctx: Any, features_NCHW: Tensor, target_NCHW: Tensor, head_1C11: Tensor) -> Tensor:
        unit, length_N1HW = _unit(features_NCHW)
        rest = unit.sub_(target_NCHW)
        ctx.save_for_backward(rest, target_NCHW, length_N1HW, head_1C11)
        weighted = (rest * head_1C11.to(rest.dtype)).mul_(rest)
        return weighted.sum(dim=1).mean(dim=(1, 2), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        rest, target_NCHW, length_N1HW, head_1C11 = ctx.saved_tensors
        positions = rest.shape[2] * rest.shape[3]
        grad = rest * head_1C11.to(rest.dtype)
        unit = rest + target_NCHW
        along_N1HW = (grad * unit).sum(dim=1, keepdim=True, dtype=torch.float32)
        grad.sub_(unit.mul_((along_N1HW * ((length_N1HW + _EPS) / length_N1HW)).to(unit.dtype)))
        share_N1HW = grads[0].view(-1, 1, 1, 1) * (2 / positions) / (length_N1HW + _EPS)
        return grad.mul_(share_N1HW.to(grad.dtype)), None, None
