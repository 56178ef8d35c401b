from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from core.errors import ConfigurationFailed, DataFailed, NonFinite, WeightsMissing
from core.files import sha256_of
from core.metrics.clusters import Clusters
from core.metrics.evaluate import evaluate
from core.metrics.extractors import extract, extract_with_logits, load_extractor
from core.metrics.fid import fid, kid, precision_recall
from core.metrics.inception_score import inception_score
from core.metrics.protocol import MetricProtocol, planned_protocol
from core.training.data import load_pictures
from core.training.perceptual import Lpips
from core.training.snapshot import load_generator, write_generator
from core.weights import CATALOGUE, INCEPTION_FILES

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from core.schemas.ticks import EvaluationSpec, MetricsTick


def features_files(spec: EvaluationSpec) -> list[Path]:
    return list(spec.cache_dir.glob("features-*.safetensors"))


def training_pictures(spec: EvaluationSpec) -> Tensor:
    return load_pictures(
        spec.images_dir,
        resolution=64,
        fit="crop",
        cache_dir=spec.cache_dir,
        dataset_hash=spec.dataset_hash,
        check_stop=lambda: None,
    )


def test_the_numbers_are_those_computed_by_hand(evaluation_spec: EvaluationSpec, result: MetricsTick) -> None:
    spec = evaluation_spec
    protocol = MetricProtocol.model_validate(spec.protocol)
    real = training_pictures(spec)
    generated = load_generator(spec.generator).sample(seed=0, start=0, count=16, latents="mix")
    extractor = load_extractor(protocol, weights_dir=spec.weights_dir, device="cpu")
    ours, theirs = extract(extractor, generated), extract(extractor, real)
    assert result.metrics["fid"] == pytest.approx(fid(ours, theirs), rel=1e-4)
    expected = kid(ours, theirs, subsets=100, subset_size=3, seed=0)
    assert result.metrics["kid"] == pytest.approx(expected.mean, rel=1e-4)
    assert result.metrics["kid_sd"] == pytest.approx(expected.sd, rel=1e-4)
    scaled = generated / 127.5 - 1
    with torch.inference_mode():
        distances = Lpips(spec.weights_dir)(scaled[0::2], scaled[1::2])
    assert result.metrics["lpips"] == pytest.approx(float(distances.mean()), rel=1e-4)
    assert result.metrics["precision"] == precision_recall(ours, theirs).precision
    assert result.metrics["recall"] == precision_recall(ours, theirs).recall
    assert result.protocol == spec.protocol


def test_neighbours_and_clusters_are_those_computed_by_hand(
    evaluation_spec: EvaluationSpec, result: MetricsTick
) -> None:
    spec = evaluation_spec
    real = training_pictures(spec)
    generated = load_generator(spec.generator).sample(seed=0, start=0, count=16, latents="mix")
    lpips = Lpips(spec.weights_dir)
    scaled, others = generated / 127.5 - 1, real / 127.5 - 1
    with torch.inference_mode():
        distance = torch.stack(
            [
                torch.minimum(lpips(x.expand_as(others), others), lpips(x.flip(2).expand_as(others), others))
                for x in scaled
            ]
        )
        nearest, row = distance.min(dim=1)
        pairs = [(a, b) for a in range(16) for b in range(a) if row[a] == row[b]]
        among = {pair: float(lpips(scaled[pair[0]][None], scaled[pair[1]][None])) for pair in pairs}
    assert result.metrics["nearest_lpips"] == pytest.approx(float(nearest.median()), rel=1e-3)
    threshold = result.metrics["copy_threshold"]
    assert result.metrics["copy_rate"] == float((nearest < threshold).float().mean())
    assert threshold > 0
    clusters = Clusters(row, pairs=8, seed=0)
    chosen = list(zip(clusters.first.tolist(), clusters.second.tolist(), strict=True))
    assert chosen, "sixteen pictures and six clusters"
    by_hand = clusters.mean(torch.tensor([among[max(pair), min(pair)] for pair in chosen]))
    assert result.metrics["lpips_intra"] == pytest.approx(by_hand, rel=1e-3)
    drawn = load_generator(spec.generator).bank_rows(range(16), seed=0, latents="mix")
    hits = [int(row[index]) in drawn[index].tolist() for index in range(16)]
    assert result.metrics["bank_hit_rate"] == sum(hits) / 16


def test_real_features_are_read_from_the_cache_unless_damaged(
    evaluation_spec: EvaluationSpec, result: MetricsTick
) -> None:
    (cached,) = features_files(evaluation_spec)
    save_file({"features": torch.zeros(6, 512)}, cached)
    assert evaluate(evaluation_spec).metrics["fid"] != pytest.approx(result.metrics["fid"], rel=0.01)
    cached.write_bytes(b"damaged")
    assert evaluate(evaluation_spec).metrics == pytest.approx(result.metrics, rel=1e-5)
    assert load_file(cached)["features"].any()


def test_precision_is_a_protocol_of_its_own(evaluation_spec: EvaluationSpec, result: MetricsTick) -> None:
    evaluation = evaluation_spec.config.evaluation.model_copy(update={"precision": "bf16"})
    config = evaluation_spec.config.model_copy(update={"evaluation": evaluation})
    with pytest.raises(ConfigurationFailed, match="it differs in precision"):
        evaluate(evaluation_spec.model_copy(update={"config": config}))
    protocol = planned_protocol(config, image_count=6).model_dump(mode="json")
    found = evaluate(evaluation_spec.model_copy(update={"config": config, "protocol": protocol}))
    assert len(features_files(evaluation_spec)) == 2
    assert found.metrics["fid"] == pytest.approx(result.metrics["fid"], rel=0.05)
    assert found.metrics["lpips"] == pytest.approx(result.metrics["lpips"], abs=0.002)


def test_the_search_for_copies_can_be_left_out(evaluation_spec: EvaluationSpec, result: MetricsTick) -> None:
    evaluation = evaluation_spec.config.evaluation.model_copy(update={"copies": 0})
    config = evaluation_spec.config.model_copy(update={"evaluation": evaluation})
    protocol = planned_protocol(config, image_count=6).model_dump(mode="json")
    found = evaluate(evaluation_spec.model_copy(update={"config": config, "protocol": protocol}))
    of_copies = {"copy_rate", "copy_threshold", "nearest_lpips", "lpips_intra", "bank_hit_rate"}
    assert set(found.metrics) == set(result.metrics) - of_copies
    assert found.metrics == pytest.approx({name: result.metrics[name] for name in found.metrics})


def test_real_pictures_are_prepared_as_for_the_training(
    evaluation_spec: EvaluationSpec, result: MetricsTick
) -> None:
    config = evaluation_spec.config.model_copy(update={"fit": "squash"})
    with pytest.raises(ConfigurationFailed, match="it differs in real_preparation"):
        evaluate(evaluation_spec.model_copy(update={"config": config}))
    protocol = planned_protocol(config, image_count=6).model_dump(mode="json")
    assert "squashed" in protocol["real_preparation"]
    found = evaluate(evaluation_spec.model_copy(update={"config": config, "protocol": protocol}))
    assert found.metrics["fid"] != result.metrics["fid"]
    assert found.metrics["lpips"] == result.metrics["lpips"]  # of generated pictures alone


@pytest.mark.parametrize(
    ("planned", "named"),
    [
        ({"generated": 17}, "generated"),
        ({"torch_fidelity": "0.3.0"}, "torch_fidelity"),
        ({"real": 7, "kid_subset_size": 4, "copies_real": 7}, "copies_real, kid_subset_size, real"),
        ({"weights_sha256": "0" * 64}, "weights_sha256"),
        ({"lpips_weights_sha256": "0" * 64}, "lpips_weights_sha256"),
        ({"copies": 15}, "copies"),
        ({"layer": "another version's"}, "layer"),
        ({"a_new_field": 1}, "a_new_field"),
    ],
)
def test_another_protocol_than_planned_is_refused(
    evaluation_spec: EvaluationSpec, planned: dict[str, Any], named: str
) -> None:
    spec = evaluation_spec.model_copy(update={"protocol": evaluation_spec.protocol | planned})
    with pytest.raises(ConfigurationFailed, match=f"it differs in {named}") as caught:
        evaluate(spec)
    assert set(caught.value.details["differing"]) == set(planned)


def test_a_generator_of_nan_is_refused(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    generator = load_generator(evaluation_spec.generator)
    next(generator.network.parameters()).data.view(-1)[0] = float("nan")
    write_generator(tmp_path / "generator.safetensors", generator, images_seen=0)
    with pytest.raises(NonFinite, match="not finite"):
        evaluate(evaluation_spec.model_copy(update={"generator": tmp_path / "generator.safetensors"}))


@pytest.mark.parametrize("damage", ["no configuration", "an unknown key", "no bank", "another shape"])
def test_a_file_that_is_no_whole_generator_is_refused(
    damage: str, evaluation_spec: EvaluationSpec, tmp_path: Path
) -> None:
    with safe_open(evaluation_spec.generator, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(evaluation_spec.generator)
    match damage:
        case "no configuration":
            del header["config"]
        case "an unknown key":
            header["config"] = header["config"].replace('"seed"', '"sead"', 1)
        case "no bank":
            del tensors["bank.rows"]
        case _:
            tensors["generator.start.weight"] = torch.zeros(1)
    save_file(tensors, tmp_path / "generator.safetensors", metadata=header)
    with pytest.raises(ConfigurationFailed, match="not whole as a generator"):
        evaluate(evaluation_spec.model_copy(update={"generator": tmp_path / "generator.safetensors"}))


def test_an_empty_folder_is_refused(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    update = {"images_dir": tmp_path, "dataset_hash": "none"}
    with pytest.raises(DataFailed):
        evaluate(evaluation_spec.model_copy(update=update))


class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]  # torch-fidelity is untyped
    """The architecture with the weights that it was made with."""

    def load_state_dict(self, *_: object) -> None:
        """Keep them."""


def with_inception(spec: EvaluationSpec) -> EvaluationSpec:
    evaluation = spec.config.evaluation.model_copy(update={"extractor": "inception_v3"})
    config = spec.config.model_copy(update={"evaluation": evaluation})
    protocol = planned_protocol(config, image_count=spec.protocol["real"]).model_dump(mode="json")
    return spec.model_copy(update={"config": config, "protocol": protocol})


def test_inception_computes_with_the_planned_weights(
    evaluation_spec: EvaluationSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights_dir = tmp_path / "weights"
    weights_dir.mkdir()
    for file in evaluation_spec.weights_dir.glob("vgg16*"):
        (weights_dir / file.name).symlink_to(file)
    nothing = tmp_path / "nothing.pth"
    torch.save({}, nothing)
    torch.manual_seed(0)
    network = Untrained("untrained", ["2048"], feature_extractor_weights_path=str(nothing))
    torch.save(network.state_dict(), weights_dir / INCEPTION_FILES[0])
    spec = with_inception(evaluation_spec).model_copy(update={"weights_dir": weights_dir})
    with pytest.raises(WeightsMissing):  # it is there, but is not the canonical one that was planned
        evaluate(spec)
    digest = sha256_of(weights_dir / INCEPTION_FILES[0])
    monkeypatch.setitem(CATALOGUE, "inception_v3", CATALOGUE["inception_v3"]._replace(sha256=digest))
    planned = with_inception(spec)
    found = evaluate(planned)
    assert found.protocol["extractor"] == "inception_v3"
    assert found.protocol["weights_sha256"] == digest
    assert all(torch.tensor(list(found.metrics.values())).isfinite())
    assert found.metrics["fid"] > 0
    extractor = load_extractor(
        MetricProtocol.model_validate(planned.protocol), weights_dir=weights_dir, device="cpu"
    )
    generated = load_generator(spec.generator).sample(seed=0, start=0, count=16, latents="mix")
    _, logits = extract_with_logits(extractor, generated)
    assert logits is not None
    expected = inception_score(logits, seed=0)
    assert found.metrics["inception_score"] == pytest.approx(expected.mean, rel=1e-5)
    assert found.metrics["inception_score_sd"] == pytest.approx(expected.sd, rel=1e-3, abs=1e-6)


def test_missing_inception_is_never_replaced(
    evaluation_spec: EvaluationSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsMissing, match="weights-inception"):
        evaluate(with_inception(evaluation_spec))
