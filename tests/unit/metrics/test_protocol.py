from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from core.errors import ConfigurationFailed, InvalidRequest
from core.files import sha256_of
from core.metrics.protocol import MetricProtocol, differing_fields, planned_protocol, resolve
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig
from core.weights import INCEPTION_SHA256, VGG16_SHA256

if TYPE_CHECKING:
    from pathlib import Path

RESOLVED = EvaluationConfig(extractor="vgg16", precision="fp32", generated=500)


def config(**evaluation: Any) -> SlaeganConfig:
    return SlaeganConfig(resolution=64, evaluation=RESOLVED.model_copy(update=evaluation))


def test_hash_is_stable_over_processes_and_order() -> None:
    protocol = planned_protocol(config(), image_count=143).model_copy(update={"torch_fidelity": "0.4.0"})
    assert protocol.hash() == "32f405fcd9b0e6af211b0af28bd5fbac154cac1e77dd55af087a67c5f040faf1"
    turned = dict(reversed(protocol.model_dump(mode="json").items()))
    assert MetricProtocol.model_validate(turned).hash() == protocol.hash()


def test_hash_tells_every_field_apart() -> None:
    protocol = planned_protocol(config(), image_count=143)
    hashes = {protocol.hash()}
    for name, value in protocol:
        other = MetricProtocol.model_construct(**(protocol.model_dump() | {name: other_value(value)}))
        hashes.add(other.hash())
    assert len(hashes) == 1 + len(MetricProtocol.model_fields)


def other_value(value: int | str) -> int | str:
    return value + 1 if isinstance(value, int) else f"{value}, but otherwise"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generated", 501),
        ("seed", 1),
        ("precision", "bf16"),
        ("extractor", "inception_v3"),
        ("lpips_pairs", 99),
        ("latents", "bank"),
        ("generator_mode", "batch_statistics"),
    ],
)
def test_every_setting_changes_the_hash(name: str, value: Any) -> None:
    plain = planned_protocol(config(), image_count=143)
    assert planned_protocol(config(**{name: value}), image_count=143).hash() != plain.hash()


def test_facts_of_the_job_change_the_hash() -> None:
    plain = config()
    changes: list[dict[str, Any]] = [
        {"resolution": 128},
        {"metadata": False},
        {"fit": "pad"},
        {"fit": "squash"},
    ]
    others = [plain.model_copy(update=change) for change in changes]
    hashes = {planned_protocol(other, image_count=143).hash() for other in [plain, *others]}
    hashes |= {planned_protocol(plain, image_count=142).hash()}
    hashes |= {planned_protocol(plain, image_count=143, held_out=4).hash()}
    assert len(hashes) == 7


def test_latents_without_metadata_are_plain() -> None:
    without = SlaeganConfig(metadata=False, evaluation=config().evaluation)
    assert planned_protocol(without, image_count=143).latents == "plain"
    with pytest.raises(ValidationError, match="this training has none"):
        SlaeganConfig(metadata=False, evaluation=EvaluationConfig(latents="bank"))


def test_kid_subsets_are_half_the_smaller_set() -> None:
    assert planned_protocol(config(), image_count=143).kid_subset_size == 71
    assert planned_protocol(config(generated=100), image_count=143).kid_subset_size == 50
    assert planned_protocol(config(), image_count=4).kid_subset_size == 2


def test_pairs_take_half_of_the_pictures_each() -> None:
    protocol = planned_protocol(config(generated=16, lpips_pairs=200), image_count=143)
    assert protocol.lpips_pairs == 8


def test_inception_is_always_fp32_and_names_its_weights() -> None:
    protocol = planned_protocol(config(extractor="inception_v3", precision="bf16"), image_count=143)
    assert (protocol.precision, protocol.weights_sha256) == ("fp32", INCEPTION_SHA256)
    assert planned_protocol(config(), image_count=143).weights_sha256 == VGG16_SHA256


@pytest.mark.parametrize(
    "left", [{"extractor": "auto"}, {"precision": "auto"}, {"extractor": "dinov2_vits14"}]
)
def test_what_was_not_resolved_cannot_be_planned(left: dict[str, str]) -> None:
    with pytest.raises(ConfigurationFailed, match="resolved when a job is submitted"):
        planned_protocol(config(**left), image_count=143)


def test_three_pictures_are_too_few() -> None:
    with pytest.raises(ConfigurationFailed, match="at least 4"):
        planned_protocol(config(), image_count=3)


def test_auto_is_resolved_and_choices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = resolve(EvaluationConfig(), weights_dir=tmp_path)
    assert found.extractor == "vgg16"
    assert found.precision in {"fp32", "bf16"}
    chosen = EvaluationConfig(extractor="alexnet", precision="fp32")
    assert resolve(chosen, weights_dir=tmp_path) == chosen


def test_weights_that_a_user_put_there_are_named_on_the_job(tmp_path: Path) -> None:
    (tmp_path / "dinov2_vits14_pretrain.pth").write_bytes(b"weights")
    found = resolve(EvaluationConfig(extractor="dinov2_vits14"), weights_dir=tmp_path)
    assert found.weights_sha256 == sha256_of(tmp_path / "dinov2_vits14_pretrain.pth")
    resolved = found.model_copy(update={"precision": "bf16"})
    protocol = planned_protocol(SlaeganConfig(resolution=64, evaluation=resolved), image_count=143)
    assert (protocol.weights_sha256, protocol.precision) == (found.weights_sha256, "fp32")


def test_an_extractor_without_its_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InvalidRequest, match=r"weights-inception-2015-12-05-6726825d\.pth"):
        resolve(EvaluationConfig(extractor="inception_v3"), weights_dir=tmp_path)


def test_a_protocol_is_frozen_and_complete() -> None:
    protocol = planned_protocol(config(), image_count=143)
    with pytest.raises(ValidationError):
        protocol.seed = 2  # type: ignore[misc]  # frozen, which is what is shown
    with pytest.raises(ValidationError):
        MetricProtocol.model_validate(protocol.model_dump() | {"colour": "red"})


def test_differing_fields_are_named_with_their_values() -> None:
    first = planned_protocol(config(), image_count=143).model_dump(mode="json")
    assert differing_fields({"a": first, "b": dict(reversed(first.items()))}) == {}
    second = first | {"real": 144, "seed": 7}
    old = {name: value for name, value in first.items() if name != "copies"}
    assert differing_fields({"a": first, "b": second, "c": old}) == {
        "real": {"a": 143, "b": 144, "c": 143},
        "seed": {"a": 0, "b": 7, "c": 0},
        "copies": {"a": 500, "b": 500, "c": "(no such field)"},
    }
    assert differing_fields({}) == {}
