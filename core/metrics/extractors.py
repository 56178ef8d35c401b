"""What turns pictures into features, with the very weights that a protocol names.

Shapes: N pictures, H height, W width, F features, K classes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch_fidelity.utils import create_feature_extractor

from core.errors import NonFinite, WeightsMissing
from core.metrics.networks import VGG16_NAME, register
from core.metrics.perception import batch_size
from core.weights import CATALOGUE, weights_path

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    from core.metrics.protocol import MetricProtocol
    from core.schemas.judging import Extractor

LOGITS = "logits_unbiased"  # those of the Inception Score


class _Registered(NamedTuple):
    """An extractor's name at torch-fidelity, and the layers that are asked of it: first the features."""

    name: str
    layers: tuple[str, ...]


_REGISTERED: dict[Extractor, _Registered] = {
    "inception_v3": _Registered("inception-v3-compat", ("2048", LOGITS)),
    "vgg16": _Registered(VGG16_NAME, ("relu5_3",)),
    "alexnet": _Registered("slaegan-alexnet-relu5", ("relu5",)),
    "clip_vit_b_32": _Registered("clip-vit-b-32", ("clip",)),
    "clip_vit_b_16": _Registered("clip-vit-b-16", ("clip",)),
    "clip_vit_l_14": _Registered("clip-vit-l-14", ("clip",)),
    "dinov2_vits14": _Registered("slaegan-dinov2-vits14", ("class_token",)),
    "dinov2_vitb14": _Registered("slaegan-dinov2-vitb14", ("class_token",)),
    "dinov2_vitl14": _Registered("slaegan-dinov2-vitl14", ("class_token",)),
}


def load_extractor(protocol: MetricProtocol, *, weights_dir: Path, device: str) -> FeatureExtractorBase:
    """The extractor that a protocol names, with the very weights that it names, and no other.

    Args:
        protocol: names the extractor, its weights' hash and its precision.
        weights_dir: folder of pretrained weights.
        device: cpu or cuda:<index>.

    Raises:
        WeightsMissing: the weights are not there and not to be had, or are not what their name says.
    """
    register()
    registered = _REGISTERED[protocol.extractor]
    path = _weights(protocol.extractor, weights_dir, sha256=protocol.weights_sha256)
    with warnings.catch_warnings():
        # OpenAI publishes CLIP as TorchScript, which torch-fidelity reads as long as torch does.
        warnings.filterwarnings("ignore", message="`torch.jit.load` is", category=FutureWarning)
        extractor = create_feature_extractor(
            registered.name,
            list(registered.layers),
            cuda=False,
            verbose=False,
            feature_extractor_weights_path=str(path),
            feature_extractor_internal_dtype="bfloat16" if protocol.precision == "bf16" else "float32",
        )
    return extractor.to(device=device, memory_format=torch.channels_last)


def _weights(extractor: Extractor, weights_dir: Path, *, sha256: str) -> Path:
    known = CATALOGUE[extractor]
    if known.converted is not None:
        return weights_dir / known.converted.file  # whoever loads it fetches and verifies it
    path = weights_path(extractor, weights_dir, sha256=sha256)
    if path is None:
        raise WeightsMissing(
            f"The weights of {extractor} with the sha256 {sha256} are not in {weights_dir}. "
            f"Put {known.files[0]} there, from {known.source}, or submit the job with the extractor vgg16.",
            folder=str(weights_dir), file=known.files[0], sha256=sha256,
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
    return extract_with_logits(extractor, pictures_N3HW)[0]


def extract_with_logits(
    extractor: FeatureExtractorBase, pictures_N3HW: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Features [N, F] of pictures, and what Inception v3 takes them for: logits [N, K]; both in fp32 on the CPU.

    Args:
        extractor: of load_extractor.
        pictures_N3HW: uint8, on any device.

    Returns:
        The logits are None of any extractor but Inception v3.

    Raises:
        NonFinite: a feature is not a finite number.
    """
    device = next(extractor.parameters()).device
    with torch.inference_mode():
        found = [
            [layer.float().cpu() for layer in extractor(part.to(device))]
            for part in torch.split(pictures_N3HW, batch_size(device))
        ]
    layers = [torch.cat(parts) for parts in zip(*found, strict=True)]
    if not all(layer.isfinite().all() for layer in layers):
        raise NonFinite("The extractor returned features that are not finite numbers.")
    return layers[0], layers[1] if len(layers) > 1 else None
