"""One pass over generated pictures, which serves every metric; no picture is kept, and none is written.

Shapes: N pictures, P pairs of them, F features, K classes.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from core.metrics.nearest import SIDE
from core.metrics.perception import apart, look
from core.training.deployed import STATISTICS_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.metrics.copies import Copies
    from core.metrics.features import Features
    from core.metrics.protocol import MetricProtocol
    from core.training.deployed import DeployedGenerator


class Observed(NamedTuple):
    """What the pass found."""

    features_NF: Tensor  # float32 on the CPU
    logits_NK: Tensor | None  # where the extractor is Inception v3
    distance_P: Tensor  # LPIPS of the first picture to the second, the third to the fourth, and so on


def generated(generator: DeployedGenerator, protocol: MetricProtocol) -> Iterator[Tensor]:
    """The pictures of a protocol in their order, in batches of N3HW uint8 on the CPU; N is even but for the last."""
    for start in range(0, protocol.generated, STATISTICS_BATCH):
        yield _batch(generator, protocol, start)[: protocol.generated - start]


def generated_at(generator: DeployedGenerator, protocol: MetricProtocol, indices: Sequence[int]) -> Tensor:
    """Some of the pictures of a protocol, again."""
    if protocol.generator_mode == "deployed":
        return generator.pictures(indices, seed=protocol.seed, latents=protocol.latents)
    starts = {index - index % STATISTICS_BATCH for index in indices}
    batches = {start: _batch(generator, protocol, start) for start in sorted(starts)}
    return torch.stack(
        [batches[index - index % STATISTICS_BATCH][index % STATISTICS_BATCH] for index in indices]
    )


def generated_of_class(
    generator: DeployedGenerator, protocol: MetricProtocol, *, label: int, count: int
) -> Iterator[Tensor]:
    """The first pictures of a protocol's latents, all of one class, in batches as of `generated`."""
    for start in range(0, count, STATISTICS_BATCH):
        yield _batch(generator, protocol, start, of=count, label=label)[: count - start]


def _batch(
    generator: DeployedGenerator,
    protocol: MetricProtocol,
    start: int,
    *,
    of: int | None = None,
    label: int | None = None,
) -> Tensor:
    """A whole batch: where its statistics matter, the last is as large as the others."""
    deployed = protocol.generator_mode == "deployed"
    rest = (protocol.generated if of is None else of) - start
    count = min(STATISTICS_BATCH, rest) if deployed else STATISTICS_BATCH
    with nullcontext() if deployed else generator.batch_statistics():
        return generator.sample(
            seed=protocol.seed, start=start, count=count, latents=protocol.latents, label=label
        )


def observe(
    generator: DeployedGenerator, protocol: MetricProtocol, *, features: Features, copies: Copies | None
) -> Observed:
    """Generate the pictures of a protocol and take them once through the networks.

    Args:
        generator: makes the pictures.
        protocol: says how many, and of how many pairs the LPIPS is wanted.
        features: the networks.
        copies: is shown the pictures that it looks at.

    Raises:
        NonFinite: a feature is not a finite number.
    """
    parts, logits, distances = [], [], [torch.zeros(0)]
    unpaired = 2 * protocol.lpips_pairs  # pictures that are still to be compared in pairs
    for pictures_N3HW in generated(generator, protocol):
        for part in torch.split(pictures_N3HW, features.batch):
            depths = look(features.lpips, part) if features.from_depths or unpaired > 0 else None
            if depths is not None and unpaired > 0:
                paired = min(len(part), unpaired)
                distances.append(apart(features.lpips, [some[:paired] for some in depths]))
                unpaired -= paired
            if copies is not None:
                copies.add(part, depths=depths if part.shape[2] == SIDE else None)
            if depths is not None and features.from_depths:
                parts.append(features.of_depths(depths))
            else:
                features_NF, logits_NK = features.with_logits(part)
                parts.append(features_NF)
                if logits_NK is not None:
                    logits.append(logits_NK)
    return Observed(torch.cat(parts), torch.cat(logits) if logits else None, torch.cat(distances))
