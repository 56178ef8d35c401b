"""All metrics of a generator, under one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.metrics.copies import Copies
from core.metrics.fid import fid, kid, precision_recall
from core.metrics.generated import observe
from core.metrics.inception_score import inception_score
from core.metrics.intra import intra_fid
from core.metrics.protocol import ClassedProtocol

if TYPE_CHECKING:
    from torch import Tensor

    from core.metrics.features import Features
    from core.metrics.protocol import MetricProtocol
    from core.metrics.real import RealPictures
    from core.training.deployed import DeployedGenerator


def measure(
    generator: DeployedGenerator, protocol: MetricProtocol, *, features: Features, real: RealPictures
) -> tuple[dict[str, float | list[float]], Copies | None]:
    """Compute all metrics in one pass over the generated pictures.

    Args:
        generator: makes the pictures.
        protocol: says which, how many, and what is computed of them.
        features: of the protocol.
        real: what is known of the real pictures under it.

    Returns:
        The metrics that docs/metrics.md lists, and the search for copies. What rests on nearest training pictures is
        missing where the protocol leaves that search out, and lpips_intra where no two pictures share one.

    Raises:
        NonFinite: a feature left the finite numbers.
    """
    real_MF = real.features()
    copies = None
    if protocol.copies > 0:
        training, threshold = real.to_search()
        copies = Copies(training, threshold=threshold, pictures=protocol.copies)
    seen = observe(generator, protocol, features=features, copies=copies)
    metrics: dict[str, float | list[float]] = {
        "fid": fid(seen.features_NF, real_MF),
        **_kid(seen.features_NF, real_MF, size=protocol.kid_subset_size, protocol=protocol, suffix=""),
        **precision_recall(seen.features_NF, real_MF)._asdict(),
        "lpips": float(seen.distance_P.double().mean()),
        **real.floors(),
    }
    if seen.logits_NK is not None:
        score = inception_score(seen.logits_NK, seed=protocol.seed)
        metrics |= {"inception_score": score.mean, "inception_score_sd": score.sd}
    held_out_HF = real.held_out_features()
    if held_out_HF is not None:
        metrics["fid_held_out"] = fid(seen.features_NF, held_out_HF)
        size = min(protocol.generated, protocol.held_out) // 2
        metrics |= _kid(seen.features_NF, held_out_HF, size=size, protocol=protocol, suffix="_held_out")
    if isinstance(protocol, ClassedProtocol):
        metrics |= intra_fid(
            generator,
            protocol,
            features=features,
            real_MF=real_MF,
            labels=real.labels,
            classes=real.class_count,
        )
    if copies is not None:
        metrics |= copies.metrics()
        intra = copies.within_clusters(features.lpips, pairs=protocol.lpips_pairs, seed=protocol.seed)
        if intra is not None:
            metrics["lpips_intra"] = intra
        metrics |= _bank_hits(generator, copies, real=real, protocol=protocol)
    return metrics, copies


def _kid(
    generated_NF: Tensor, real_MF: Tensor, *, size: int, protocol: MetricProtocol, suffix: str
) -> dict[str, float]:
    found = kid(generated_NF, real_MF, subsets=protocol.kid_subsets, subset_size=size, seed=protocol.seed)
    return {f"kid{suffix}": found.mean, f"kid_sd{suffix}": found.sd}


def _bank_hits(
    generator: DeployedGenerator, copies: Copies, *, real: RealPictures, protocol: MetricProtocol
) -> dict[str, float]:
    """How often the nearest training picture is one whose metadata the picture was drawn from.

    Pictures drawn from none that was searched cannot hit, and are left out.
    """
    nearest_N = real.searched_rows[copies.nearest().row_N]
    drawn_NK = generator.bank_rows(range(len(nearest_N)), seed=protocol.seed, latents=protocol.latents)
    if drawn_NK is None:
        return {}
    searched_N = torch.isin(drawn_NK, real.searched_rows).any(dim=1)
    if not searched_N.any():
        return {}
    hit_N = (drawn_NK == nearest_N[:, None]).any(dim=1)
    return {"bank_hit_rate": float(hit_N[searched_N].double().mean())}
