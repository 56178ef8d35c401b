"""Feature extractors of our own, by torch-fidelity's interface, so that its command computes with them too.

Shapes: N pictures, H height, W width, F features.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from core.models.alexnet import alexnet_features
from core.models.dinov2 import dinov2
from core.models.vgg import IMAGENET_DEVIATION, IMAGENET_MEAN, vgg16_features

if TYPE_CHECKING:
    from torch import Tensor

# The side of the pictures on which all of these were trained.
SIDE = 224
_DTYPES = {None: torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}


class OwnExtractor(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity is untyped
    """A network on ImageNet-normalised pictures of 224x224.

    Args:
        name: under which it is registered.
        features_list: [LAYER].
        feature_extractor_weights_path: its file in a folder of weights.
        feature_extractor_internal_dtype: float32 (also None) or bfloat16.
        **_: torch-fidelity hands all of its options to every extractor.

    Raises:
        WeightsMissing: the weights are neither there nor to be had.
    """

    LAYER: ClassVar[str]

    def __init__(
        self,
        name: str,
        features_list: list[str],
        *,
        feature_extractor_weights_path: str,
        feature_extractor_internal_dtype: str | None = None,
        **_: Any,
    ) -> None:
        super().__init__(name, features_list)
        self.dtype = _DTYPES[feature_extractor_internal_dtype]
        self.layers = self.network(Path(feature_extractor_weights_path)).to(self.dtype)
        for layer in self.layers.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = True  # only the last layer's result is kept
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1))

    @staticmethod
    def network(path: Path) -> nn.Module:
        """The layers, with the weights of the file."""
        raise NotImplementedError

    def resized(self, x_N3HW: Tensor) -> Tensor:
        """Pictures in the size in which the network takes them."""
        return functional.interpolate(x_N3HW, size=(SIDE, SIDE), mode="bilinear", antialias=True)

    def forward(self, pictures_N3HW: Tensor) -> tuple[Tensor]:
        """Features [N, F] in fp32 of uint8 pictures; maps are averaged over space."""
        x = self.resized(pictures_N3HW / 255)
        x = ((x - self.mean) / self.deviation).to(self.dtype, memory_format=torch.channels_last)
        found = self.layers(x)
        return (found.mean(dim=(2, 3), dtype=torch.float32) if found.ndim > 2 else found.float(),)  # noqa: PLR2004

    @classmethod
    def get_provided_features_list(cls) -> tuple[str]:
        return (cls.LAYER,)

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        return {"fid": cls.LAYER, "kid": cls.LAYER, "prc": cls.LAYER}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 64, 64, dtype=torch.uint8)


class Vgg16Relu53(OwnExtractor):
    """VGG-16 relu5_3, mean over space: 512 features.

    Enlarging a smaller picture adds no detail, and costs twelve times as much at 64 pixels
    (docs/adr/0005-vgg-features-at-native-size.md).
    """

    LAYER = "relu5_3"

    @staticmethod
    def network(path: Path) -> nn.Module:
        return vgg16_features(path.parent)

    def resized(self, x_N3HW: Tensor) -> Tensor:
        return super().resized(x_N3HW) if max(x_N3HW.shape[2:]) > SIDE else x_N3HW


class AlexNetRelu5(OwnExtractor):
    """AlexNet relu5, mean over space: 256 features."""

    LAYER = "relu5"

    @staticmethod
    def network(path: Path) -> nn.Module:
        return alexnet_features(path.parent)


class DinoV2Small(OwnExtractor):
    """DINOv2 ViT-S/14: 384 features."""

    LAYER = "class_token"
    WIDTH = 384

    @classmethod
    def network(cls, path: Path) -> nn.Module:
        layers: nn.Module = dinov2(path, width=cls.WIDTH, side=SIDE)
        return layers


class DinoV2Base(DinoV2Small):
    """DINOv2 ViT-B/14: 768 features."""

    WIDTH = 768


class DinoV2Large(DinoV2Small):
    """DINOv2 ViT-L/14: 1024 features."""

    WIDTH = 1024


# torch-fidelity's own "vgg16" is another layer of another network file.
VGG16_NAME = "slaegan-vgg16-relu5_3"
OWN: dict[str, type[OwnExtractor]] = {
    VGG16_NAME: Vgg16Relu53,
    "slaegan-alexnet-relu5": AlexNetRelu5,
    "slaegan-dinov2-vits14": DinoV2Small,
    "slaegan-dinov2-vitb14": DinoV2Base,
    "slaegan-dinov2-vitl14": DinoV2Large,
}


def register() -> None:
    """Make ours known to torch-fidelity; a second call changes nothing."""
    for name, kind in OWN.items():
        if name not in FEATURE_EXTRACTORS_REGISTRY:
            register_feature_extractor(name, kind)
