"""What a metric's number means: how it was computed. Two numbers compare only under one protocol.

Imports no torch: a snapshot's evaluation is planned, with its protocol, where no torch is.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from core.errors import ConfigurationFailed
from core.schemas.judging import EvaluationConfig, Extractor
from core.schemas.sent import Frozen
from core.weights import CATALOGUE, VGG16_SHA256, available_extractors, usable_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.schemas.training import Fit, TrainingConfig

KID_SUBSETS = 100
Preparation = Literal[
    "all training pictures, centre crop, Lanczos, block means first where 8 times smaller",
    "all training pictures, padded with white, Lanczos, block means first where 8 times smaller",
    "all training pictures, squashed, Lanczos, block means first where 8 times smaller",
]
PREPARATION: dict[Fit, Preparation] = {
    "crop": "all training pictures, centre crop, Lanczos, block means first where 8 times smaller",
    "pad": "all training pictures, padded with white, Lanczos, block means first where 8 times smaller",
    "squash": "all training pictures, squashed, Lanczos, block means first where 8 times smaller",
}
_MODES: dict[str, Literal["deployed", "batch statistics of 16 pictures"]] = {
    "deployed": "deployed",
    "batch_statistics": "batch statistics of 16 pictures",
}
Layer = Literal[
    "relu5_3, mean over space", "relu5, mean over space", "2048", "image embedding", "class token, normalised"
]
Resize = Literal[
    "to 224x224 where larger, bilinear, antialiased",
    "224x224 bilinear, antialiased",
    "224x224 bilinear, as in TensorFlow 1",
    "299x299 bilinear, as in TensorFlow 1",
]


class _Features(NamedTuple):
    """What an extractor gives, and from pictures of which size."""

    layer: Layer
    resize: Resize
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32",)


_CLIP = _Features("image embedding", "224x224 bilinear, as in TensorFlow 1")
_DINOV2 = _Features("class token, normalised", "224x224 bilinear, antialiased")
_FEATURES: dict[Extractor, _Features] = {
    "inception_v3": _Features("2048", "299x299 bilinear, as in TensorFlow 1"),
    "vgg16": _Features(
        "relu5_3, mean over space", "to 224x224 where larger, bilinear, antialiased", ("fp32", "bf16")
    ),
    # Smaller pictures too: of 64 pixels its strides leave 3x3 positions, and padding reaches into each.
    "alexnet": _Features("relu5, mean over space", "224x224 bilinear, antialiased", ("fp32", "bf16")),
    "clip_vit_b_32": _CLIP,
    "clip_vit_b_16": _CLIP,
    "clip_vit_l_14": _CLIP,
    "dinov2_vits14": _DINOV2,
    "dinov2_vitb14": _DINOV2,
    "dinov2_vitl14": _DINOV2,
}
MAX_COPIES_REAL = 800  # a megabyte each in memory: an evaluation stays below 2 GiB
MIN_OF_CLASS = 10  # training pictures, for an FID of their own
MIN_GENERATED_OF_CLASS = 16
MIN_REAL = 4  # KID compares subsets of half the real pictures, and a subset needs two


class MetricProtocol(Frozen):
    """Everything that decides the numbers of one evaluation but the generator and the pictures."""

    version: Literal[1] = 1
    extractor: Extractor
    weights_sha256: str
    layer: Layer
    resize: Resize
    precision: Literal["fp32", "bf16"]  # of VGG-16's features, LPIPS's too; and of AlexNet's
    resolution: int
    real: int
    held_out: int  # pictures that were kept from the training
    real_preparation: Preparation
    generated: int
    generator_mode: Literal["deployed", "batch statistics of 16 pictures"]
    latents: Literal["mix", "bank", "plain"]
    seed: int
    kid_subsets: int
    kid_subset_size: int
    kid_kernel: Literal["polynomial: degree 3, gamma 1/width, coefficient 1"] = (
        "polynomial: degree 3, gamma 1/width, coefficient 1"
    )
    lpips: Literal["vgg16 v0.1, to 224x224 where larger, bilinear, antialiased"] = (
        "vgg16 v0.1, to 224x224 where larger, bilinear, antialiased"
    )
    lpips_weights_sha256: str = VGG16_SHA256
    lpips_pairs: int  # the first picture with the second, the third with the fourth, and so on
    lpips_intra: Literal["pairs with one nearest training picture, clusters evenly, at 64x64"] = (
        "pairs with one nearest training picture, clusters evenly, at 64x64"
    )
    precision_recall: Literal["3rd neighbour"] = "3rd neighbour"
    inception_score: Literal["10 splits, shuffled"] = "10 splits, shuffled"
    # So many generated pictures, the first ones, are compared with so many training pictures, evenly chosen.
    copies: int
    copies_real: int
    copies_resize: Literal["to 64x64 where larger, bilinear, antialiased; mirror images count"] = (
        "to 64x64 where larger, bilinear, antialiased; mirror images count"
    )
    copies_threshold: Literal["5th percentile of nearest distances, or half their median; twins left out"] = (
        "5th percentile of nearest distances, or half their median; twins left out"
    )
    torch_fidelity: str

    def hash(self) -> str:
        """The sha256 of the protocol's canonical JSON, in hex."""
        return hash_of(self)


class ClassedProtocol(MetricProtocol):
    """Of a training by class: also what decides intra-FID. Others have a protocol without these fields."""

    classes_sha256: str  # of the classes' names and of each training picture's class
    class_draws: Literal["by the training pictures' shares"] = "by the training pictures' shares"
    intra_fid: Literal["mean over classes of at least 10 training pictures, each against its own"] = (
        "mean over classes of at least 10 training pictures, each against its own"
    )
    intra_classes: int  # that have so many
    intra_generated: int  # pictures of each of them


def hash_of(protocol: Frozen) -> str:
    """The sha256 of a protocol's canonical JSON, in hex."""
    text = json.dumps(protocol.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differing_fields(protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """In which fields protocols differ.

    Args:
        protocols: as stored, by whose they are. They may be of different versions of this service.

    Returns:
        Of each field that differs its value by whose it is, "(no such field)" where a protocol has none; empty where
        all are one. Fields stand in alphabetical order.
    """
    names = sorted({name for protocol in protocols.values() for name in protocol})
    by_name = {
        name: {whose: of.get(name, "(no such field)") for whose, of in protocols.items()} for name in names
    }
    return {name: values for name, values in by_name.items() if len({repr(v) for v in values.values()}) > 1}


def resolve(config: EvaluationConfig, *, weights_dir: Path) -> EvaluationConfig:
    """Replace every "auto" by what this machine has; done once, when a job is submitted.

    Args:
        config: as the user sent it.
        weights_dir: Inception v3 is taken if its weights lie here or in torch hub's cache.

    Raises:
        InvalidRequest: the named extractor's weights are not here, or have another hash than the named one.
    """
    extractor = available_extractors(weights_dir)[0] if config.extractor == "auto" else config.extractor
    chosen: dict[str, str] = {"extractor": extractor}
    sha256 = usable_hash(extractor, weights_dir, asked=config.weights_sha256)
    if CATALOGUE[extractor].sha256 is None:
        chosen["weights_sha256"] = sha256
    if config.precision == "auto":
        chosen["precision"] = "bf16" if _computes_bf16_natively() else "fp32"
    return config.model_copy(update=chosen)


def planned_protocol(
    config: TrainingConfig,
    *,
    image_count: int,
    held_out: int = 0,
    classes: Sequence[str] = (),
    labels: Sequence[int] | None = None,
) -> MetricProtocol:
    """The protocol under which a job's snapshots will be evaluated.

    Args:
        config: of the job, its evaluation part resolved.
        image_count: pictures to train on.
        held_out: pictures that are kept from the training.
        classes: names of the dataset's classes; they and the labels count where the training is by class.
        labels: the class of each picture to train on.

    Raises:
        ConfigurationFailed: an "auto" was left, weights without a hash, or the pictures are too few for KID.
    """
    evaluation = config.evaluation
    features, sha256 = _extractor(evaluation)
    if image_count < MIN_REAL:
        raise ConfigurationFailed(
            f"KID compares subsets of half the real pictures and needs at least {MIN_REAL} of them; "
            f"there are {image_count}. Add pictures.",
            real=image_count,
        )
    planned = MetricProtocol(
        extractor=evaluation.extractor,
        weights_sha256=sha256,
        layer=features.layer,
        resize=features.resize,
        precision=evaluation.precision if evaluation.precision in features.precisions else "fp32",
        resolution=config.resolution,
        real=image_count,
        held_out=held_out,
        real_preparation=PREPARATION[config.fit],
        generated=evaluation.generated,
        generator_mode=_MODES[evaluation.generator_mode],
        latents=_latents(config),
        seed=evaluation.seed,
        kid_subsets=KID_SUBSETS,
        kid_subset_size=min(image_count, evaluation.generated) // 2,
        lpips_pairs=min(evaluation.lpips_pairs, evaluation.generated // 2),
        copies=min(evaluation.copies, evaluation.generated),
        copies_real=min(MAX_COPIES_REAL, image_count),
        torch_fidelity=version("torch-fidelity"),
    )
    return _by_class(planned, classes, labels) if config.needs_labels and labels is not None else planned


def _extractor(evaluation: EvaluationConfig) -> tuple[_Features, str]:
    """What is taken of a resolved configuration's extractor, and the hash of its weights."""
    if evaluation.extractor == "auto" or evaluation.precision == "auto":
        raise ConfigurationFailed(
            f"The evaluation's extractor is {evaluation.extractor!r} and its precision is "
            f"{evaluation.precision!r}; both are resolved when a job is submitted. Submit it again, or name them.",
        )
    sha256 = CATALOGUE[evaluation.extractor].sha256 or evaluation.weights_sha256
    if sha256 is None:
        raise ConfigurationFailed(
            f"The evaluation does not say which weights of {evaluation.extractor} it means; their hash is resolved "
            "when a job is submitted. Submit it again, or name it as weights_sha256.",
        )
    return _FEATURES[evaluation.extractor], sha256


def _by_class(planned: MetricProtocol, classes: Sequence[str], labels: Sequence[int]) -> ClassedProtocol:
    """The same with an FID within each class that has enough pictures."""
    counted = len(counted_classes(labels))
    return ClassedProtocol(
        **planned.model_dump(),
        classes_sha256=hashlib.sha256(json.dumps([list(classes), list(labels)]).encode()).hexdigest(),
        intra_classes=counted,
        intra_generated=max(MIN_GENERATED_OF_CLASS, planned.generated // max(1, counted)),
    )


def counted_classes(labels: Sequence[int]) -> list[int]:
    """The classes that have enough training pictures for an FID of their own, in their order."""
    return sorted(label for label, count in Counter(labels).items() if count >= MIN_OF_CLASS)


def _latents(config: TrainingConfig) -> Literal["mix", "bank", "plain"]:
    asked = config.evaluation.latents
    if asked == "auto":
        return "mix" if config.uses_metadata else "plain"
    return asked


def _computes_bf16_natively() -> bool:
    """Whether the CPU has instructions for it; emulated, it is many times slower than fp32."""
    facts = Path("/proc/cpuinfo")
    if not facts.is_file():
        return False
    wanted = {"bf16"} if platform.machine() == "aarch64" else {"avx512_bf16", "amx_bf16"}
    return not wanted.isdisjoint(facts.read_text().split())
