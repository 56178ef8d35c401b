"""One evaluation: a snapshot's pictures against all training pictures, under one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import ConfigurationFailed, NonFinite
from core.metrics.features import Features
from core.metrics.generated import generated_at
from core.metrics.measure import measure
from core.metrics.neighbours import PAIRS, write_sheet
from core.metrics.protocol import differing_fields, planned_protocol
from core.metrics.real import RealPictures, load_real
from core.schemas.ticks import EvaluationSpec, MetricsTick
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from pathlib import Path

    from core.metrics.copies import Copies
    from core.metrics.protocol import MetricProtocol
    from core.training.deployed import DeployedGenerator

SHEET = "neighbours.png"


def evaluate(spec: EvaluationSpec) -> MetricsTick:
    """Compute all metrics of a snapshot in one pass over its pictures.

    Args:
        spec: with the protocol that was planned when the snapshot was made.

    Returns:
        The metrics that `measure` finds, with the protocol under which they were computed.

    Raises:
        ConfigurationFailed: what would be computed here is not what was planned.
        WeightsMissing: the planned extractor's weights are not there and not to be had.
        DataFailed: the training pictures cannot be read.
        NonFinite: the generator or the extractor left the finite numbers.
    """
    training_M3HW, held_out_H3HW = load_real(spec)
    protocol = _agreed(
        spec, real=len(training_M3HW), held_out=0 if held_out_H3HW is None else len(held_out_H3HW)
    )
    features = Features(protocol, weights_dir=spec.weights_dir, device=spec.device)
    real = RealPictures(
        spec, protocol, features=features, training_M3HW=training_M3HW, held_out_H3HW=held_out_H3HW
    )
    generator = load_generator(spec.generator, device=spec.device)
    _check_finite(generator)
    metrics, copies = measure(generator, protocol, features=features, real=real)
    picture = None
    if copies is not None and spec.work_dir is not None:
        _write_sheet(spec.work_dir / SHEET, generator, copies, real=real, protocol=protocol)
        picture = SHEET
    return MetricsTick(metrics=metrics, protocol=protocol.model_dump(mode="json"), picture=picture)


def _write_sheet(
    path: Path, generator: DeployedGenerator, copies: Copies, *, real: RealPictures, protocol: MetricProtocol
) -> None:
    """The pictures that are nearest to training pictures, of different ones where there are enough."""
    nearest = copies.nearest()
    order_N = nearest.distance_N.argsort()
    taken: dict[int, int] = {}
    for index in order_N.tolist():
        taken.setdefault(int(nearest.row_N[index]), index)
    chosen = list(taken.values())[:PAIRS]
    rows_K = real.searched_rows[nearest.row_N[chosen]]
    write_sheet(
        path,
        generated_at(generator, protocol, chosen),
        real.pictures_M3HW[rows_K],
        distance_N=nearest.distance_N[chosen],
        threshold=copies.threshold,
    )


def _agreed(spec: EvaluationSpec, *, real: int, held_out: int) -> MetricProtocol:
    """The planned protocol, if it is what this code, these libraries and these pictures would compute."""
    here = planned_protocol(
        spec.config, image_count=real, held_out=held_out, classes=spec.classes, labels=spec.labels
    )
    # Compared as they are stored: what another version has planned may be no protocol of this one.
    if differing := differing_fields({"planned": spec.protocol, "here": here.model_dump(mode="json")}):
        raise ConfigurationFailed(
            f"This evaluation was planned under another protocol; it differs in {', '.join(differing)}. "
            "Run the evaluating worker with the versions and weights of the training worker.",
            differing=differing,
        )
    return here


def _check_finite(generator: DeployedGenerator) -> None:
    for name, value in generator.network.state_dict().items():
        if not value.isfinite().all():
            raise NonFinite(
                f"The generator's {name} holds numbers that are not finite; it draws nothing.", name=name
            )
