"""An evaluation by weights that a user put into the folder: those that the job names, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from core.errors import WeightsMissing
from core.metrics.evaluate import evaluate
from core.metrics.protocol import planned_protocol, resolve
from core.weights import CATALOGUE
from tests.unit.models.test_dinov2 import published

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.ticks import EvaluationSpec


def test_the_weights_of_submission_are_those_of_every_evaluation(
    evaluation_spec: EvaluationSpec, tmp_path: Path
) -> None:
    vgg16 = CATALOGUE["vgg16"].files[0]
    (tmp_path / vgg16).symlink_to(evaluation_spec.weights_dir / vgg16)  # for LPIPS
    file = tmp_path / CATALOGUE["dinov2_vits14"].files[0]
    torch.save(published(depth=1), file)
    asked = evaluation_spec.config.evaluation.model_copy(update={"extractor": "dinov2_vits14"})
    config = evaluation_spec.config.model_copy(update={"evaluation": resolve(asked, weights_dir=tmp_path)})
    protocol = planned_protocol(config, image_count=6).model_dump(mode="json")
    spec = evaluation_spec.model_copy(
        update={
            "config": config,
            "protocol": protocol,
            "weights_dir": tmp_path,
            "cache_dir": tmp_path / "cache",
        }
    )
    found = evaluate(spec)
    assert found.protocol == protocol
    assert found.metrics["fid"] > 0
    torch.save(published(depth=0), file)
    with pytest.raises(WeightsMissing, match=protocol["weights_sha256"]):
        evaluate(spec)
