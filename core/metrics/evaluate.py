"""One evaluation: a snapshot's pictures against all training pictures, under one protocol."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.errors import ConfigurationFailed, NonFinite
from core.files import atomic_path
from core.metrics.extractors import extract, load_extractor
from core.metrics.fid import fid, kid
from core.metrics.lpips import Diversity
from core.metrics.protocol import MetricProtocol, planned_protocol
from core.schemas.ticks import EvaluationSpec, MetricsTick
from core.training.data import load_pictures
from core.training.perceptual import Lpips
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase


_BATCH = 16  # pictures generated at once


def evaluate(spec: EvaluationSpec) -> MetricsTick:
    """Compute FID, KID and LPIPS diversity of a snapshot in one pass over its pictures.

    Args:
        spec: with the protocol that was planned when the snapshot was made.

    Returns:
        The metrics fid, kid, kid_sd and lpips, with the protocol under which they were computed.

    Raises:
        ConfigurationFailed: what would be computed here is not what was planned.
        WeightsMissing: the planned extractor's weights are not there and not to be had.
        DataFailed: the training pictures cannot be read.
        NonFinite: the generator or the extractor left the finite numbers.
    """
    real_M3HW = load_pictures(
        spec.images_dir,
        resolution=spec.config.resolution,
        fit=spec.config.fit,
        cache_dir=spec.cache_dir,
        dataset_hash=spec.dataset_hash,
        check_stop=lambda: None,
    )
    protocol = _agreed(spec, real=len(real_M3HW))
    extractor = load_extractor(protocol, weights_dir=spec.weights_dir, device=spec.device)
    real_MF = _real_features(spec, protocol, extractor=extractor, pictures_M3HW=real_M3HW)
    diversity = Diversity(
        Lpips(spec.weights_dir, device=spec.device),
        pictures=protocol.generated,
        pairs=protocol.lpips_pairs,
        seed=protocol.seed,
    )
    parts = []
    for pictures_N3HW in _generated(spec, protocol):
        parts.append(extract(extractor, pictures_N3HW))
        diversity.add(pictures_N3HW)
    generated_NF = torch.cat(parts)
    distance = kid(
        generated_NF,
        real_MF,
        subsets=protocol.kid_subsets,
        subset_size=protocol.kid_subset_size,
        seed=protocol.seed,
    )
    metrics = {
        "fid": fid(generated_NF, real_MF),
        "kid": distance.mean,
        "kid_sd": distance.sd,
        "lpips": diversity.mean(),
    }
    return MetricsTick(metrics=metrics, protocol=protocol.model_dump(mode="json"))


def _agreed(spec: EvaluationSpec, *, real: int) -> MetricProtocol:
    """The planned protocol, if it is what this code, these libraries and these pictures would compute."""
    planned = MetricProtocol.model_validate(spec.protocol)
    here = planned_protocol(spec.config, image_count=real)
    if planned.extractor == here.extractor == "inception_v3":
        # Which weights lie here is for load_extractor to find out: it takes the planned ones or none.
        here = here.model_copy(update={"weights_sha256": planned.weights_sha256})
    if here != planned:
        differing = {
            name: {"planned": value, "here": getattr(here, name)}
            for name, value in planned
            if getattr(here, name) != value
        }
        raise ConfigurationFailed(
            f"This evaluation was planned under another protocol; it differs in {', '.join(differing)}. "
            "Run the evaluating worker with the versions and weights of the training worker.",
            differing=differing,
        )
    return planned


def _generated(spec: EvaluationSpec, protocol: MetricProtocol) -> Iterator[Tensor]:
    generator = load_generator(spec.generator, device=spec.device)
    for name, value in generator.network.state_dict().items():
        if not value.isfinite().all():
            raise NonFinite(
                f"The generator's {name} holds numbers that are not finite; it draws nothing.", name=name
            )
    for start in range(0, protocol.generated, _BATCH):
        count = min(_BATCH, protocol.generated - start)
        pictures_N3HW = generator.sample(
            seed=protocol.seed, start=start, count=count, latents=protocol.latents
        )
        yield pictures_N3HW.to(spec.device)


def _real_features(
    spec: EvaluationSpec,
    protocol: MetricProtocol,
    *,
    extractor: FeatureExtractorBase,
    pictures_M3HW: Tensor,
) -> Tensor:
    """Features of the training pictures, from the cache where they were extracted before."""
    facts = protocol.model_dump_json(
        include={
            "extractor",
            "weights_sha256",
            "layer",
            "resize",
            "precision",
            "resolution",
            "real_preparation",
        }
    )
    name = hashlib.sha256(f"{spec.dataset_hash} {facts}".encode()).hexdigest()
    cached = spec.cache_dir / f"features-{name}.safetensors"
    if cached.is_file():
        try:
            return load_file(cached)["features"]
        except SafetensorError:
            cached.unlink(missing_ok=True)  # a damaged cache is made again
    real_MF = extract(extractor, pictures_M3HW)
    with atomic_path(cached) as temporary:
        save_file({"features": real_MF}, temporary)
    return real_MF
