"""One evaluation: a snapshot's pictures against all training pictures, under one protocol."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.errors import ConfigurationFailed, NonFinite
from core.files import atomic_path
from core.metrics.copies import Copies, TrainingPictures, copy_threshold
from core.metrics.extractors import extract, load_extractor
from core.metrics.fid import fid, kid, precision_recall
from core.metrics.lpips import Clusters, Diversity, between
from core.metrics.protocol import MetricProtocol, planned_protocol
from core.schemas.ticks import EvaluationSpec, MetricsTick
from core.training.data import load_pictures
from core.training.perceptual import Lpips
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    from core.metrics.copies import Nearest
    from core.training.snapshot import DeployedGenerator


_BATCH = 16  # pictures generated at once


def evaluate(spec: EvaluationSpec) -> MetricsTick:
    """Compute all metrics of a snapshot in one pass over its pictures.

    Args:
        spec: with the protocol that was planned when the snapshot was made.

    Returns:
        The metrics that docs/metrics.md lists, with the protocol under which they were computed. What rests on
        nearest training pictures is missing where the protocol leaves the search for copies out, and lpips_intra where
        no two pictures share one.

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
    generator = load_generator(spec.generator, device=spec.device)
    _check_finite(generator)
    lpips = Lpips(spec.weights_dir, device=spec.device)
    diversity = Diversity(lpips, pictures=protocol.generated, pairs=protocol.lpips_pairs, seed=protocol.seed)
    copies = None
    if protocol.copies > 0:
        copies = _copies(spec, protocol, lpips=lpips, pictures_M3HW=real_M3HW)
    parts = []
    for pictures_N3HW in _generated(generator, protocol):
        parts.append(extract(extractor, pictures_N3HW))
        diversity.add(pictures_N3HW.to(spec.device))
        if copies is not None:
            copies.add(pictures_N3HW)
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
        **precision_recall(generated_NF, real_MF)._asdict(),
        "lpips": diversity.mean(),
    }
    if copies is not None:
        metrics |= copies.metrics()
        intra = _intra_cluster(generator, copies.nearest(), lpips=lpips, protocol=protocol)
        if intra is not None:
            metrics["lpips_intra"] = intra
    return MetricsTick(metrics=metrics, protocol=protocol.model_dump(mode="json"))


def _intra_cluster(
    generator: DeployedGenerator, nearest: Nearest, *, lpips: Lpips, protocol: MetricProtocol
) -> float | None:
    """Intra-cluster LPIPS; the pictures of the pairs are made again, since no pass over them kept them."""
    clusters = Clusters(nearest.row_N, pairs=protocol.lpips_pairs, seed=protocol.seed)
    distances = [torch.zeros(0)]
    for pair in zip(torch.split(clusters.first, _BATCH), torch.split(clusters.second, _BATCH), strict=True):
        a, b = (
            generator.pictures(some.tolist(), seed=protocol.seed, latents=protocol.latents) for some in pair
        )
        distances.append(between(a, b, lpips=lpips))
    return clusters.mean(torch.cat(distances))


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


def _generated(generator: DeployedGenerator, protocol: MetricProtocol) -> Iterator[Tensor]:
    for start in range(0, protocol.generated, _BATCH):
        count = min(_BATCH, protocol.generated - start)
        yield generator.sample(seed=protocol.seed, start=start, count=count, latents=protocol.latents)


def _check_finite(generator: DeployedGenerator) -> None:
    for name, value in generator.network.state_dict().items():
        if not value.isfinite().all():
            raise NonFinite(
                f"The generator's {name} holds numbers that are not finite; it draws nothing.", name=name
            )


def _real_features(
    spec: EvaluationSpec,
    protocol: MetricProtocol,
    *,
    extractor: FeatureExtractorBase,
    pictures_M3HW: Tensor,
) -> Tensor:
    """Features of the training pictures."""
    names = {"extractor", "weights_sha256", "layer", "resize", "precision", "resolution", "real_preparation"}
    return _cached("features", spec, protocol, names, lambda: extract(extractor, pictures_M3HW))


def _copies(spec: EvaluationSpec, protocol: MetricProtocol, *, lpips: Lpips, pictures_M3HW: Tensor) -> Copies:
    rows = torch.linspace(0, len(pictures_M3HW) - 1, protocol.copies_real).round().long()
    some_M3HW = pictures_M3HW[rows]
    training = TrainingPictures(some_M3HW, lpips=lpips)
    names = {
        "lpips",
        "lpips_weights_sha256",
        "copies_resize",
        "copies_real",
        "resolution",
        "real_preparation",
    }
    among_MM = _cached("distances", spec, protocol, names, lambda: training.distances(some_M3HW))
    return Copies(training, threshold=copy_threshold(among_MM), pictures=protocol.copies)


def _cached(
    kind: str, spec: EvaluationSpec, protocol: MetricProtocol, names: set[str], compute: Callable[[], Tensor]
) -> Tensor:
    """What depends on the training pictures and some of the protocol alone, from where it was kept before.

    Args:
        kind: of what is kept, the beginning of its file's name.
        spec: names the cache and the dataset.
        protocol: of the evaluation.
        names: of its fields that matter.
        compute: makes it anew.
    """
    facts = protocol.model_dump_json(include=names)
    name = hashlib.sha256(f"{spec.dataset_hash} {facts}".encode()).hexdigest()
    cached = spec.cache_dir / f"{kind}-{name}.safetensors"
    if cached.is_file():
        try:
            return load_file(cached)[kind]
        except SafetensorError:
            cached.unlink(missing_ok=True)  # a damaged cache is made again
    found = compute()
    with atomic_path(cached) as temporary:
        save_file({kind: found.contiguous()}, temporary)
    return found
