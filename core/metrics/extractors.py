"""What turns pictures into features: VGG-16 relu5_3, which is always to be had, and FID's own Inception v3.

Shapes: N pictures, H height, W width, F features.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from core.errors import NonFinite, WeightsMissing
from core.models.vgg import IMAGENET_DEVIATION, IMAGENET_MEAN, vgg16_features
from core.weights import INCEPTION_FILES, VGG16_FILE, inception_path

if TYPE_CHECKING:
    from torch import Tensor

    from core.metrics.protocol import MetricProtocol

# torch-fidelity's own "vgg16" is another layer of another network file.
VGG16_NAME = "slaegan-vgg16-relu5_3"
VGG16_LAYER = "relu5_3"
# The side at which VGG-16 was trained. Enlarging a smaller picture to it adds no detail, and costs twelve times as
# much at 64 pixels (docs/adr/0005-vgg-features-at-native-size.md).
VGG16_SIDE = 224
_DTYPES = {None: torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}


class Vgg16Relu53(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity is untyped
    """VGG-16 relu5_3, mean over space: 512 features a picture, by torch-fidelity's interface.

    Args:
        name: under which it is registered.
        features_list: [VGG16_LAYER].
        feature_extractor_weights_path: VGG16_FILE in a folder of weights.
        feature_extractor_internal_dtype: float32 (also None) or bfloat16.
        **_: torch-fidelity hands all of its options to every extractor.

    Raises:
        WeightsMissing: the weights are neither there nor to be had.
    """

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
        layers = vgg16_features(Path(feature_extractor_weights_path).parent)
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = True  # only the last layer's result is kept
        self.layers = layers.to(self.dtype)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1))

    def forward(self, pictures_N3HW: Tensor) -> tuple[Tensor]:
        """Features [N, 512] in fp32 of uint8 pictures; only larger ones are brought to 224x224."""
        x = pictures_N3HW / 255
        if max(x.shape[2:]) > VGG16_SIDE:
            x = functional.interpolate(x, size=(VGG16_SIDE, VGG16_SIDE), mode="bilinear", antialias=True)
        x = ((x - self.mean) / self.deviation).to(self.dtype, memory_format=torch.channels_last)
        return (self.layers(x).mean(dim=(2, 3), dtype=torch.float32),)

    @staticmethod
    def get_provided_features_list() -> tuple[str]:
        return (VGG16_LAYER,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return {"fid": VGG16_LAYER, "kid": VGG16_LAYER, "prc": VGG16_LAYER}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 64, 64, dtype=torch.uint8)


def register_vgg16() -> None:
    """Make ours known to torch-fidelity under VGG16_NAME; a second call changes nothing."""
    if VGG16_NAME not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(VGG16_NAME, Vgg16Relu53)


def load_extractor(protocol: MetricProtocol, *, weights_dir: Path, device: str) -> FeatureExtractorBase:
    """The extractor that a protocol names, with the very weights that it names, and no other.

    Args:
        protocol: names the extractor, its weights' hash and its precision.
        weights_dir: folder of pretrained weights.
        device: cpu or cuda:<index>.

    Raises:
        WeightsMissing: the weights are not there and not to be had.
    """
    if protocol.extractor == "vgg16":
        register_vgg16()
        name, layer, path = VGG16_NAME, VGG16_LAYER, weights_dir / VGG16_FILE
    else:
        name, layer = "inception-v3-compat", protocol.layer
        path = _inception(weights_dir, sha256=protocol.weights_sha256)
    extractor = create_feature_extractor(
        name,
        [layer],
        cuda=False,
        verbose=False,
        feature_extractor_weights_path=str(path),
        feature_extractor_internal_dtype="bfloat16" if protocol.precision == "bf16" else "float32",
    )
    return extractor.to(device=device, memory_format=torch.channels_last)


def _inception(weights_dir: Path, *, sha256: str) -> Path:
    path = inception_path(weights_dir, sha256=sha256)
    if path is None:
        raise WeightsMissing(
            f"The weights of Inception v3 with the sha256 {sha256} are not in {weights_dir}. "
            f"Put {INCEPTION_FILES[0]} there, which torch-fidelity publishes with its release v0.2.0 on "
            "GitHub, or submit the job with the extractor vgg16.",
            folder=str(weights_dir), file=INCEPTION_FILES[0], sha256=sha256,
        )  # fmt: skip
    return path


def extract(extractor: FeatureExtractorBase, pictures_N3HW: Tensor) -> Tensor:
    """Features [N, F] of pictures, in fp32 on the CPU.

    Args:
        extractor: of load_extractor.
        pictures_N3HW: uint8, on any device.

    Raises:
        NonFinite: a feature is not a finite number.
    """
    device = next(extractor.parameters()).device
    # On the CPU a small batch keeps a layer's result in the cache: at 224 x 224 four pictures of VGG-16's
    # first layers in bf16 take 25 MB, and are faster by a third than sixteen.
    batch = 64 if device.type == "cuda" else 4
    with torch.inference_mode():
        features_NF = torch.cat(
            [extractor(part.to(device))[0].cpu() for part in torch.split(pictures_N3HW, batch)]
        )
    if not features_NF.isfinite().all():
        raise NonFinite("The extractor returned features that are not finite numbers.")
    return features_NF.float()
