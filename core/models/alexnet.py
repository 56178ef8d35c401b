"""AlexNet up to relu5: features that are cheap to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import nn

from core.converted import ALEXNET
from core.weights import ensure

if TYPE_CHECKING:
    from pathlib import Path


def alexnet_features(weights_dir: Path) -> nn.Sequential:
    """Load AlexNet through relu5 with its ImageNet weights, frozen, float32.

    Source: Krizhevsky 2014 (one tower), as in torchvision's `alexnet().features[:12]`.

    Args:
        weights_dir: folder of pretrained weights; they are fetched into it if they are not there.

    Returns:
        Maps N3HW pictures, normalised by core.models.vgg's IMAGENET_MEAN and IMAGENET_DEVIATION, to N,256 maps,
        13x13 of 224x224 pixels.

    Raises:
        WeightsMissing: the weights are neither there nor to be had.
    """
    with torch.device("meta"):  # the weights are assigned, never initialised
        network = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        )
    prefix = "features."
    tensors = load_file(ensure(ALEXNET, weights_dir))
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
