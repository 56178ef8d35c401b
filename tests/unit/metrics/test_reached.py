from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from core.errors import ConfigurationFailed
from core.metrics.backtracking import backtrack
from core.metrics.backtracking_protocol import BacktrackingProtocol, planned_backtracking
from core.metrics.reached import SHEET, evaluate_backtracking
from core.schemas.evaluations import BacktrackingIn
from core.training.data import load_pictures
from core.training.perceptual import Lpips
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from core.schemas.ticks import EvaluationSpec


def planned(spec: EvaluationSpec, **asked: Any) -> EvaluationSpec:
    protocol = planned_backtracking(spec.config, BacktrackingIn(steps=2, **asked), image_count=6)
    return spec.model_copy(update={"protocol": protocol.model_dump(mode="json")})


def test_evenly_chosen_pictures_are_come_near_to(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    spec = planned(evaluation_spec, pictures=3, seed=4).model_copy(update={"work_dir": tmp_path})
    found = evaluate_backtracking(spec)
    pictures = load_pictures(
        spec.images_dir,
        resolution=64,
        fit="crop",
        cache_dir=spec.cache_dir,
        dataset_hash=spec.dataset_hash,
        check_stop=lambda: None,
    )
    rows = torch.tensor([0, 2, 5])  # 2.5 is rounded to even
    by_hand = backtrack(
        load_generator(spec.generator), pictures[rows], lpips=Lpips(spec.weights_dir), steps=2, seed=4
    ).lpips_N
    assert found.metrics["lpips_per_picture"] == pytest.approx(by_hand.tolist(), abs=1e-4)
    assert found.metrics["lpips"] == pytest.approx(float(by_hand.mean()), abs=1e-4)
    assert found.protocol["kind"] == "backtracking"
    assert found.picture == SHEET
    with Image.open(tmp_path / SHEET) as sheet:
        assert sheet.width > 256


def test_no_more_pictures_than_there_are(evaluation_spec: EvaluationSpec) -> None:
    assert planned(evaluation_spec, pictures=200).protocol["pictures"] == 6


def test_pictures_that_are_not_there_are_told(evaluation_spec: EvaluationSpec) -> None:
    with pytest.raises(ConfigurationFailed, match=r"planned with 6 pictures \(held_out\); here are 0"):
        evaluate_backtracking(planned(evaluation_spec, of="held_out"))


def test_every_field_is_in_the_hash(evaluation_spec: EvaluationSpec) -> None:
    plain = BacktrackingProtocol.model_validate(planned(evaluation_spec).protocol)
    hashes = {plain.hash()}
    for name, value in plain:
        other = value + 1 if isinstance(value, int) else f"not {value}"
        hashes.add(BacktrackingProtocol.model_construct(**(plain.model_dump() | {name: other})).hash())
    assert len(hashes) == 1 + len(BacktrackingProtocol.model_fields)
