from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.ablation_speed import speed_key
from benchmarks.ablation_suites import FAMILY_SUITE, config_of, of_length, stages_of
from benchmarks.families import write_table
from benchmarks.train_step import PICTURES, settling
from core.metrics.protocol import planned_protocol
from core.schemas.families import FAMILIES

if TYPE_CHECKING:
    from pathlib import Path

EVALUATION = {"extractor": "vgg16", "precision": "fp32", "generated": 64}
COST = {"iteration_s": 0.25, "of": 40, "tflop": 0.0625, "peak_mb": 1234}


def planned(family: str) -> Any:
    return config_of(FAMILY_SUITE.variants[family], seed=0, width=0.5, evaluation=EVALUATION)


def line(family: str, **measured: Any) -> dict[str, Any]:
    config = planned(family)
    protocol = planned_protocol(config, image_count=143)
    return {
        "suite": "families",
        "variant": family,
        "dataset": {"name": "faces", "hash": "a", "pictures": 143},
        "seed": 0,
        "seconds": 60.0,
        "seconds_trained": 61.0,
        "images_seen": 8_000,
        "kid": 0.5,
        "fid": 100.0,
        "recall": 0.25,
        "protocol": protocol.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "parameters": {"generator": 3_580_000, "discriminator": 2_770_000, "switches": 0},
        "device": "cpu",
        "instruction_set": "AVX2",
        "threads": 2,
    } | measured


def test_every_family_is_compared_at_its_own_defaults() -> None:
    assert FAMILY_SUITE.variants.keys() == FAMILIES.keys()
    keys = set()
    for family, kind in FAMILIES.items():
        config = planned(family)
        assert isinstance(config, kind)
        keys |= {speed_key(stage) for stage, _ in stages_of(config)}
        assert sum(share for _, share in stages_of(config)) == pytest.approx(1)
    assert len(keys) == len(FAMILIES) + 1, "codes have two stages, and no two families share a speed"


def test_codes_are_measured_when_all_pictures_are_encoded() -> None:
    first, second = (stage for stage, _ in stages_of(planned("codes")))
    assert settling(first) == settling(planned("dcgan")) == 1
    assert (settling(second) - 1) * second.shown >= 2 * PICTURES


def test_a_speed_is_of_the_whole_configuration() -> None:
    config = planned("dcgan")
    assert json.loads(speed_key(config))["batch"] == config.batch, "a default is told, too"
    same = config.model_copy(update={"seed": 7, "total_images": 64})
    assert speed_key(same) == speed_key(config)
    assert speed_key(config.model_copy(update={"flips": False})) != speed_key(config)


def test_a_training_in_stages_gets_the_pictures_of_each() -> None:
    codes = of_length(planned("codes"), [800, 4_000])
    assert (codes.total_images, codes.model_dump()["autoencoder_images"]) == (4_800, 800)
    assert of_length(planned("dcgan"), [400]).total_images == 400


def test_the_page_has_what_is_finished_and_keeps_what_stands_around_it(tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    results.mkdir()
    page.write_text("# Families\n<!-- families:begin -->\nold\n<!-- families:end -->\nThe end.\n")
    write_table(page, results=results)
    assert page.read_text() == (
        "# Families\n<!-- families:begin -->\nNo results yet.\n<!-- families:end -->\nThe end.\n"
    )
    lines = [
        line("wgan"),
        line("dcgan"),
        line("codes", kid=0.25, images_seen=9_000),
        line("dcgan", seed=1, kid=0.3),
    ]
    (results / "families.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    stages = [stage for family in ("dcgan", "codes") for stage, _ in stages_of(planned(family))]
    costs = {speed_key(stage): COST | {"iteration_s": 0.25 * (n + 1)} for n, stage in enumerate(stages)}
    (results / "speed.json").write_text(json.dumps(costs))
    write_table(page, results=results)
    text = page.read_text()
    assert text.startswith("# Families\n<!-- families:begin -->\n| family |")
    assert text.endswith("<!-- families:end -->\nThe end.\n")
    assert "| dcgan | 3.58 M + 2.77 M | 32 | 0.062 | 0.25 | 1,234 |" in text
    assert "| wgan | 3.58 M + 2.77 M | 80 |  |  |  |" in text, "its speed is not known"
    assert (
        "| codes | 3.58 M + 2.77 M | 16 | 0.062, then 0.062 | 0.50, then 0.75 | 1,234, then 1,234 |" in text
    )
    assert "### faces, 143 pictures, 60 s of training" in text
    assert "| dcgan | 2 | 8,000 | 400.0 | 100.0 | 0.25 |  |  |" in text
    assert "| codes | 1 | 9,000 | 250.0 | 100.0 | 0.25 |  |  |" in text
    assert "slaegan" not in text
