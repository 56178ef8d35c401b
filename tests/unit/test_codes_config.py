"""The configuration of the training on codes, and of the pair in it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from core.schemas.codes import CodesConfig
from core.schemas.dcgan import DcganConfig
from core.schemas.families import parse_config
from core.schemas.gan import architecture_differences
from core.schemas.jobs import JobIn
from core.schemas.slaegan import SlaeganConfig
from core.schemas.stylegan2 import Stylegan2Config
from core.schemas.wording import place, wording


def test_a_pair_gets_the_fields_of_the_run_and_its_own_settings() -> None:
    config = CodesConfig(pair="dcgan", resolution=128, batch=4, seed=7, pair_settings={"width": 16})
    pair = config.pair_config
    assert isinstance(pair, DcganConfig)
    assert (pair.resolution, pair.batch, pair.seed, pair.width) == (32, 4, 7, 16)
    assert pair.augmentation == ("translation",)
    assert (pair.total_images, pair.discriminator_steps) == (config.total_images, 1)


def test_the_critics_steps_are_by_pair() -> None:
    steps = {pair: CodesConfig(pair=pair).discriminator_steps for pair in ("wgan_gp", "dcgan", "slaegan")}
    assert steps == {"wgan_gp": 2, "dcgan": 1, "slaegan": 1}
    config = CodesConfig(discriminator_steps=3)
    assert (config.shown, config.pair_config.shown) == (3 * config.batch, 3 * config.batch)


def test_slaegan_on_codes_has_no_metadata_and_no_decoders() -> None:
    pair = CodesConfig(pair="slaegan", resolution=256).pair_config
    assert isinstance(pair, SlaeganConfig)
    assert (pair.resolution, pair.metadata, pair.decoders) == (64, False, False)
    assert (pair.excitation, pair.attention, pair.width) == (True, True, 0.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pair_settings": {"batch": 3}}, "batch: set the field"),
        ({"pair_settings": {"resolution": 64}}, "resolution: set the field"),
        ({"pair_settings": {"no_such": 3}}, "no_such"),
        ({"pair_settings": {"width": 1}}, "width"),
        ({"pair": "slaegan", "code_factor": 2, "pair_settings": {"metadata": True}}, "always the same"),
        ({"pair": "slaegan", "code_factor": 2, "discriminator_steps": 3}, "discriminator_steps is 1"),
        ({"autoencoder_images": 100, "total_images": 100}, "leaves none"),
        ({"code_factor": 16}, "4x4 are too small"),
        ({"augmentation": ("color",)}, "augmentation"),
        ({"pair": "codes"}, "pair"),
        ({"autoencoder": "reuse", "freeze_discriminator": 1}, "not taken from the checkpoint"),
        ({"autoencoder": "tune", "freeze_discriminator": 1}, "not taken from the checkpoint"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CodesConfig.model_validate({"resolution": 64, "pair": "dcgan"} | wrong)


def test_reuse_leaves_all_images_to_the_codes() -> None:
    config = CodesConfig(autoencoder="reuse", pair="dcgan", total_images=100, autoencoder_images=200)
    assert config.stage_one == 0


def test_only_the_autoencoder_of_a_checkpoint_must_fit_where_only_it_is_taken() -> None:
    then = CodesConfig(pair="dcgan", resolution=64)
    later: dict[str, Any] = {"pair": "slaegan", "resolution": 256, "total_images": 100_000}
    assert not architecture_differences(then, CodesConfig(autoencoder="reuse", **later))
    differing = {"pair", "resolution", "pair_architecture"}
    assert architecture_differences(then, CodesConfig(**later)).keys() == differing
    slower = CodesConfig(pair="dcgan", resolution=64, pair_settings={"learning_rate": 1e-4})
    assert not architecture_differences(then, slower)
    other = CodesConfig(autoencoder="tune", autoencoder_channels=16, **later)
    assert architecture_differences(then, other) == {"autoencoder_channels": (32, 16)}


def test_a_job_that_reuses_names_its_checkpoint() -> None:
    values = {"dataset_id": uuid4(), "config": {"family": "codes", "pair": "dcgan", "autoencoder": "reuse"}}
    with pytest.raises(ValidationError, match="init_from"):
        JobIn.model_validate(values)
    assert JobIn.model_validate(values | {"init_from": uuid4()}).config.family == "codes"


def test_it_is_stored_and_read_again() -> None:
    config = CodesConfig(pair="dcgan", pair_settings={"width": 16, "generator_norm": "pixel"})
    assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("pair", ["wgan_gp", "dcgan", "sagan", "stylegan2", "slaegan"])
def test_the_steps_of_the_discriminator_are_as_the_pair_takes_them(pair: str) -> None:
    config = CodesConfig.model_validate({"resolution": 256, "pair": pair})
    assert config.discriminator_steps == (2 if pair == "wgan_gp" else 1)
    assert config.shown == config.batch * config.discriminator_steps


def test_steps_without_a_pair_are_those_of_the_usual_pair_and_given_ones_stay() -> None:
    assert (CodesConfig().pair, CodesConfig().discriminator_steps) == ("wgan_gp", 2)
    assert CodesConfig(pair="wgan_gp", discriminator_steps=5).discriminator_steps == 5


def test_stylegan2s_penalty_is_reckoned_from_the_side_of_codes() -> None:
    values: dict[str, Any] = {"pair": "stylegan2", "resolution": 128, "code_factor": 8, "batch": 4}
    usual = CodesConfig(**values).pair_config
    assert isinstance(usual, Stylegan2Config)
    assert usual.r1_gamma == pytest.approx(0.0002 * 16**2 / 4)
    given = CodesConfig(**values, pair_settings={"r1_gamma": 3.0}).pair_config
    assert isinstance(given, Stylegan2Config)
    assert given.r1_gamma == 3.0


@pytest.mark.parametrize(
    ("pair", "settings", "where", "words"),
    [
        ("dcgan", {"widht": 16}, "config.pair_settings.widht", "is not known here"),
        ("dcgan", {"width": 1}, "config.pair_settings.width", "greater than or equal to"),
        (
            "dcgan",
            {"generator_norm": "none of them"},
            "config.pair_settings.generator_norm",
            "Input should be",
        ),
    ],
)
def test_a_wrong_setting_of_the_pair_is_named_where_it_is(
    pair: str, settings: dict[str, Any], where: str, words: str
) -> None:
    config = {"family": "codes", "pair": pair, "pair_settings": settings}
    with pytest.raises(ValidationError) as refused:
        JobIn.model_validate({"dataset_id": uuid4(), "config": config})
    [entry] = [dict(error) for error in refused.value.errors()]
    assert place(entry) == where
    assert words in wording(entry)
