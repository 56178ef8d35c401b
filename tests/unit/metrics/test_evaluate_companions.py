"""What stands beside FID: floors of the dataset, pictures never seen, where metadata came from, the sheet."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from core.errors import ConfigurationFailed
from core.metrics.evaluate import SHEET, evaluate
from core.metrics.extractors import extract, load_extractor
from core.metrics.fid import fid, kid
from core.metrics.generated import generated, generated_at
from core.metrics.protocol import MetricProtocol, planned_protocol
from core.schemas.jobs import METRICS
from core.training.data import load_pictures
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from core.schemas.ticks import EvaluationSpec, MetricsTick


def planned(spec: EvaluationSpec, *, held_out: int = 0, **evaluation: Any) -> EvaluationSpec:
    chosen = spec.config.evaluation.model_copy(update=evaluation)
    config = spec.config.model_copy(update={"evaluation": chosen})
    protocol = planned_protocol(config, image_count=6, held_out=held_out).model_dump(mode="json")
    return spec.model_copy(update={"config": config, "protocol": protocol})


def features(spec: EvaluationSpec, pictures: Tensor) -> Tensor:
    protocol = MetricProtocol.model_validate(spec.protocol)
    return extract(load_extractor(protocol, weights_dir=spec.weights_dir, device="cpu"), pictures)


def read(spec: EvaluationSpec, folder: Path, *, name: str) -> Tensor:
    return load_pictures(
        folder,
        resolution=64,
        fit="crop",
        cache_dir=spec.cache_dir,
        dataset_hash=name,
        check_stop=lambda: None,
    )


def test_the_floor_is_the_training_set_against_its_mirror_images(
    evaluation_spec: EvaluationSpec, result: MetricsTick
) -> None:
    real = read(evaluation_spec, evaluation_spec.images_dir, name=evaluation_spec.dataset_hash)
    found = result.metrics
    mirrored, straight = features(evaluation_spec, real.flip(3)), features(evaluation_spec, real)
    assert found["floor_fid_mirror"] == pytest.approx(fid(mirrored, straight), rel=1e-3)
    expected = kid(mirrored, straight, subsets=100, subset_size=3, seed=0).mean
    assert found["floor_kid_mirror"] == pytest.approx(expected, abs=1e-4)
    assert 0.1 < found["floor_lpips"] < 1.5
    assert "floor_fid_halves" not in found, "halves of three pictures have no KID"
    assert set(found) <= set(METRICS)


def test_halves_of_eight_pictures_are_a_floor(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    shutil.copytree(evaluation_spec.images_dir, tmp_path / "images")
    for number in (6, 7):
        Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / "images" / f"{number}.png")
    protocol = planned_protocol(evaluation_spec.config, image_count=8).model_dump(mode="json")
    update = {"images_dir": tmp_path / "images", "dataset_hash": "eight", "protocol": protocol}
    spec = evaluation_spec.model_copy(update=update)
    real = features(spec, read(spec, spec.images_dir, name="eight"))
    one, other = real[torch.randperm(8, generator=torch.Generator().manual_seed(0))].chunk(2)
    found = evaluate(spec).metrics
    assert found["floor_fid_halves"] == pytest.approx(fid(one, other), rel=1e-3)
    assert found["floor_kid_halves"] == pytest.approx(
        kid(one, other, subsets=100, subset_size=2, seed=0).mean, rel=1e-3
    )


def test_pictures_never_seen_are_judged_by_too(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    for number in range(4):
        Image.effect_noise((64, 64), 20 * number).convert("RGB").save(tmp_path / f"{number}.png")
    spec = planned(evaluation_spec, held_out=4).model_copy(update={"held_out_dir": tmp_path})
    found = evaluate(spec).metrics
    drawn = load_generator(spec.generator).sample(seed=0, start=0, count=16, latents="mix")
    unseen = features(spec, read(spec, tmp_path, name="unseen"))
    assert found["fid_held_out"] == pytest.approx(fid(features(spec, drawn), unseen), rel=1e-4)
    expected = kid(features(spec, drawn), unseen, subsets=100, subset_size=2, seed=0)
    assert found["kid_held_out"] == pytest.approx(expected.mean, rel=1e-4)
    assert found["kid_sd_held_out"] == pytest.approx(expected.sd, rel=1e-4)
    assert found["fid_held_out"] != found["fid"]
    with pytest.raises(ConfigurationFailed, match="it differs in held_out"):
        evaluate(planned(evaluation_spec, held_out=4))


def test_metadata_of_the_nearest_picture_is_a_hit(
    evaluation_spec: EvaluationSpec, result: MetricsTick
) -> None:
    generator = load_generator(evaluation_spec.generator)
    for latents in ("mix", "bank", "plain"):
        rows = generator.bank_rows(range(16), seed=0, latents=latents)
        if latents == "plain":
            assert rows is None
        else:
            assert rows is not None
            assert rows.shape == (16, 2 if latents == "mix" else 1)
            assert 0 <= rows.min() <= rows.max() < 6
    assert "bank_hit_rate" in result.metrics
    plain = evaluate(planned(evaluation_spec, latents="plain")).metrics
    assert "bank_hit_rate" not in plain
    assert plain["fid"] != result.metrics["fid"]


def test_rows_are_those_that_the_pictures_were_made_from(evaluation_spec: EvaluationSpec) -> None:
    """Where only one row of the bank differs, exactly the pictures change that were drawn from it."""
    generator, other = (load_generator(evaluation_spec.generator) for _ in range(2))
    assert other.metadata_MF is not None
    other.metadata_MF[2] += 1
    rows = generator.bank_rows(range(16), seed=0, latents="bank")
    assert rows is not None
    before, after = (g.sample(seed=0, start=0, count=16, latents="bank") for g in (generator, other))
    changed = (before != after).flatten(1).any(dim=1)
    assert changed.tolist() == (rows[:, 0] == 2).tolist()
    assert 0 < changed.sum() < 16


def test_batch_statistics_are_a_protocol_of_their_own(
    evaluation_spec: EvaluationSpec, result: MetricsTick
) -> None:
    spec = planned(evaluation_spec, generator_mode="batch_statistics")
    assert spec.protocol["generator_mode"] == "batch statistics of 16 pictures"
    assert evaluate(spec).metrics["fid"] != result.metrics["fid"]
    generator = load_generator(spec.generator)
    before = {name: value.clone() for name, value in generator.network.state_dict().items()}
    deployed = generator.sample(seed=0, start=0, count=16)
    with generator.batch_statistics():
        assert not torch.equal(generator.sample(seed=0, start=0, count=16), deployed)
    assert torch.equal(generator.sample(seed=0, start=0, count=16), deployed)
    assert all(torch.equal(value, before[name]) for name, value in generator.network.state_dict().items())


def test_pictures_are_the_same_again_in_either_mode(evaluation_spec: EvaluationSpec) -> None:
    generator = load_generator(evaluation_spec.generator)
    for mode in ("deployed", "batch_statistics"):
        spec = planned(evaluation_spec, generator_mode=mode, generated=37, lpips_pairs=8)
        protocol = MetricProtocol.model_validate(spec.protocol)
        every = torch.cat(list(generated(generator, protocol)))
        assert len(every) == 37
        again = generated_at(generator, protocol, [36, 3, 20])
        assert (again.int() - every[[36, 3, 20]].int()).abs().max() <= 1


def test_the_sheet_shows_generated_pictures_beside_their_nearest(
    evaluation_spec: EvaluationSpec, result: MetricsTick, tmp_path: Path
) -> None:
    assert result.picture is None
    found = evaluate(evaluation_spec.model_copy(update={"work_dir": tmp_path}))
    assert found.picture == SHEET
    assert [path.name for path in tmp_path.iterdir()] == [SHEET]
    sheet = Image.open(tmp_path / SHEET).convert("RGB")
    right = sheet.crop((8 + 128, 8, 8 + 256, 8 + 128)).resize((64, 64), Image.Resampling.NEAREST)
    shown = torch.tensor(list(right.get_flattened_data())).view(64, 64, 3).permute(2, 0, 1)
    real = read(evaluation_spec, evaluation_spec.images_dir, name=evaluation_spec.dataset_hash)
    assert any(torch.equal(shown, picture.long()) for picture in real)
