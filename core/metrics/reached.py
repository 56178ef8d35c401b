"""One backtracking on demand: a snapshot's generator against pictures of its dataset, under one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from core.errors import ConfigurationFailed
from core.metrics.backtracking import backtrack
from core.metrics.backtracking_protocol import BacktrackingProtocol
from core.metrics.neighbours import PAIRS, write_sheet
from core.metrics.real import evenly, load_real
from core.schemas.ticks import MetricsTick
from core.training.perceptual import Lpips
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from core.schemas.ticks import EvaluationSpec

SHEET = "reached.png"


def evaluate_backtracking(spec: EvaluationSpec) -> MetricsTick:
    """Bring a generator as near as it comes to real pictures.

    Args:
        spec: with the protocol that was planned when it was asked for.

    Returns:
        lpips, the mean over the pictures, lpips_sd, and lpips_per_picture in the order of the dataset.

    Raises:
        ConfigurationFailed: the pictures are not those that it was planned with.
        WeightsMissing: VGG-16's weights are not there and not to be had.
        DataFailed: a picture cannot be read.
        NonFinite: the generator left the finite numbers.
    """
    try:
        protocol = BacktrackingProtocol.model_validate(spec.protocol)
    except ValidationError as error:
        raise ConfigurationFailed(f"This backtracking was planned by another version: {error}") from error
    training_M3HW, held_out_H3HW = load_real(spec)
    pictures = training_M3HW if protocol.of == "training" else held_out_H3HW
    if pictures is None or len(pictures) < protocol.pictures:
        here = 0 if pictures is None else len(pictures)
        raise ConfigurationFailed(
            f"This backtracking was planned with {protocol.pictures} pictures ({protocol.of}); here are {here}.",
            planned=protocol.pictures, here=here,
        )  # fmt: skip
    rows_N = evenly(protocol.pictures, of=len(pictures))
    targets_N3HW = pictures[rows_N]
    labels = spec.labels if protocol.of == "training" else spec.held_out_labels
    labels_N = None if labels is None else torch.tensor(labels)[rows_N]
    lpips = Lpips(spec.weights_dir, device=spec.device)
    generator = load_generator(spec.generator, device=spec.device)
    reached = backtrack(
        generator, targets_N3HW, lpips=lpips, steps=protocol.steps, seed=protocol.seed, labels_N=labels_N
    )
    distance_N = reached.lpips_N
    picture = None
    if spec.work_dir is not None:
        some = reached.pictures_N3HW[:PAIRS], targets_N3HW[:PAIRS]
        write_sheet(spec.work_dir / SHEET, *some, distance_N=distance_N[:PAIRS], threshold=None)
        picture = SHEET
    metrics: dict[str, float | list[float]] = {
        "lpips": float(distance_N.mean()),
        "lpips_sd": float(distance_N.std(correction=0)),
        "lpips_per_picture": [round(value, 6) for value in distance_N.tolist()],
    }
    return MetricsTick(metrics=metrics, protocol=protocol.model_dump(mode="json"), picture=picture)
