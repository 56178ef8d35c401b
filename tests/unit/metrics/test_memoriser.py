"""A planted memoriser: FID likes a generator that replays training pictures with noise, and the alarm catches it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.metrics_study import Memoriser
from core.jobs.alarms import alarms
from core.metrics.features import Features
from core.metrics.measure import measure
from core.metrics.protocol import planned_protocol
from core.metrics.real import RealPictures, load_real
from core.schemas.judging import AlarmConfig, EvaluationConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import EvaluationSpec

if TYPE_CHECKING:
    from torch import Tensor

FACES = Path(__file__).parents[3] / "examples" / "emoji-faces.zip"
COUNT = 48


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> EvaluationSpec:
    folder = tmp_path_factory.mktemp("faces")
    images = folder / "images"
    with zipfile.ZipFile(FACES) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".jpg"))[:COUNT]:
            archive.extract(name, images)
    evaluation = EvaluationConfig(extractor="vgg16", precision="fp32", generated=64, lpips_pairs=8)
    config = SlaeganConfig(resolution=64, evaluation=evaluation)
    return EvaluationSpec(
        generator=folder / "none",
        images_dir=images,
        dataset_hash="faces",
        config=config,
        protocol={},
        cache_dir=folder / "cache",
        weights_dir=weights_dir,
        device="cpu",
    )


def found(spec: EvaluationSpec, replayed: Tensor, training: Tensor, *, noise: float) -> dict[str, float]:
    protocol = planned_protocol(spec.config, image_count=len(training))
    features = Features(protocol, weights_dir=spec.weights_dir, device="cpu")
    real = RealPictures(spec, protocol, features=features, training_M3HW=training, held_out_H3HW=None)
    metrics, _ = measure(Memoriser(replayed, noise), protocol, features=features, real=real)
    return metrics


def test_fid_likes_it_and_the_alarm_catches_it(spec: EvaluationSpec) -> None:
    pictures, _ = load_real(spec)
    training, unseen = pictures[0::2].contiguous(), pictures[1::2].contiguous()
    memorised = found(spec, training, training, noise=2)
    honest = found(spec, unseen, training, noise=2)
    assert memorised["fid"] < 0.75 * honest["fid"], "other faces, as real as can be, have a worse FID"
    assert memorised["kid"] < honest["kid"]
    assert memorised["copy_rate"] > 0.95
    assert honest["copy_rate"] < 0.5
    raised = alarms([memorised], rules=AlarmConfig())
    assert "copies" in raised
    assert "copy a training picture" in raised["copies"]
