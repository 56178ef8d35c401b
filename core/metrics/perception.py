"""What VGG-16 sees in pictures: one pass serves the features of FID and the distances of LPIPS.

Shapes: N pictures, P pairs, C channels, H height, W width, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.metrics.networks import SIDE
from core.training.perceptual import direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from core.training.perceptual import Lpips


def batch_size(device: torch.device, *, side: int = SIDE) -> int:
    """How many pictures a pass takes at a time; an even number, so that pairs stay together.

    On the CPU a small batch keeps a layer's result in the cache: at 224x224 four pictures of VGG-16's first layers in
    bf16 take 25 MB, and are faster by a third than sixteen; at 64x64 sixteen are faster than four, by 40 % in fp32.

    Args:
        device: to compute on.
        side: of the pictures as the network sees them, in pixels.
    """
    if device.type == "cuda":
        return 64
    return max(4, min(16, 4 * SIDE**2 // side**2 // 2 * 2))


@torch.inference_mode()
def look(lpips: Lpips, pictures_N3HW: Tensor, *, side: int = SIDE) -> list[Tensor]:
    """Features of LPIPS's five depths, NCHW on its device and in its type.

    Args:
        lpips: the network.
        pictures_N3HW: uint8, on any device.
        side: larger pictures are brought to it, bilinear and antialiased; smaller ones stay, as for FID.
    """
    x = pictures_N3HW.to(lpips.shift.device).float()
    if max(x.shape[2:]) > side:
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    return list(lpips.depths(x / 127.5 - 1))


def relu5_3(depths: Sequence[Tensor]) -> Tensor:
    """The features of FID: the deepest one, mean over space; N,512 float32 on the CPU."""
    return depths[-1].mean(dim=(2, 3), dtype=torch.float32).cpu()


@torch.inference_mode()
def apart(lpips: Lpips, depths: Sequence[Tensor]) -> Tensor:
    """LPIPS of the first picture to the second, the third to the fourth, and so on; P float32 on the CPU.

    Source: Zhang et al. 2018, Eq. 1.

    Args:
        lpips: with the weights of the channels.
        depths: of an even number of pictures.
    """
    first, second = ([features[start::2] for features in depths] for start in (0, 1))
    return lpips.between(first, [direction(features) for features in second]).cpu()
