"""VGG-16 up to relu5_3: perceptual distances, metadata and offline FID stand on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import nn

from core.weights import ensure_vgg16

if TYPE_CHECKING:
    from pathlib import Path

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
# Channels of the convolutions, 0 for a max-pool by two: Simonyan & Zisserman 2015, Table 1, column D.
_PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


def vgg16_features(weights_dir: Path) -> nn.Sequential:
    """Load VGG-16 through relu5_3 with its ImageNet weights, frozen, float32.

    The layers stand where torchvision has them in `vgg16().features[:30]`; torchvision itself is not
    imported, which would double the time a process needs to start. The ReLUs are not in place, so that
    a caller may keep what lies between the layers.

    Args:
        weights_dir: folder of pretrained weights; they are fetched into it if they are not there.

    Returns:
        Maps N3HW pictures, normalised by IMAGENET_MEAN and IMAGENET_DEVIATION, to N,512,H/16,W/16.

    Raises:
        WeightsMissing: the weights are neither there nor to be had.
    """
    layers: list[nn.Module] = []
    channels_in = 3
    with torch.device("meta"):  # the weights are assigned, never initialised
        for channels in _PLAN:
            if channels:
                layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU()]
                channels_in = channels
            else:
                layers.append(nn.MaxPool2d(2))
        network = nn.Sequential(*layers)
    prefix = "features."
    tensors = load_file(ensure_vgg16(weights_dir))
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
