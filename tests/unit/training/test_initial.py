"""Fine-tuning: the weights come over, everything else begins anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from core.errors import ConfigurationFailed, DataFailed
from core.models.slaegan import Discriminator, Generator
from core.schemas.ticks import FactsTick, SnapshotTick, StateTick
from core.training.checkpoint import load_state
from core.training.families import build_networks
from core.training.initial import initialise
from core.training.snapshot import load_generator
from tests.unit.training.conftest import collect
from tests.unit.training.test_trainer import of

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.ticks import TrainingSpec
    from tests.unit.training.conftest import MakeSpec

pytestmark = pytest.mark.usefixtures("hasty_statistics")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(
    make_spec: MakeSpec,
    tmp_path_factory: pytest.TempPathFactory,
    hasty_statistics: None,  # noqa: ARG001  # it comes first
) -> tuple[TrainingSpec, Path, Path]:
    """A short training, its state and its generator."""
    folder = tmp_path_factory.mktemp("source") / "run"
    spec = make_spec(folder, total_images=16, evaluate_every_images=1_000)
    ticks = collect(spec)
    return spec, folder / of(StateTick, ticks)[-1].state, folder / of(SnapshotTick, ticks)[-1].generator


def test_a_state_gives_the_averaged_generator_and_the_discriminator(
    source: tuple[TrainingSpec, Path, Path],
) -> None:
    spec, path, _ = source
    networks = build_networks(spec.config.model_copy(update={"seed": 7}), device=CPU)
    assert initialise(networks, path, config=spec.config) == {"kind": "state", "images_seen": 16}
    state = load_state(path, device=CPU)
    for name, parameter in networks["generator"].named_parameters():
        assert torch.equal(parameter, state["average"][name]), name
    for name, value in networks["discriminator"].state_dict().items():
        assert torch.equal(value, state["networks"]["discriminator"][name]), name


def test_a_generator_draws_the_same_pictures_once_it_is_a_network_in_training(
    source: tuple[TrainingSpec, Path, Path],
) -> None:
    spec, _, path = source
    networks = build_networks(spec.config.model_copy(update={"seed": 7}), device=CPU)
    assert initialise(networks, path, config=spec.config) == {"kind": "generator", "images_seen": 16}
    deployed, generator = load_generator(path).network, networks["generator"].eval()
    torch.manual_seed(0)
    latent = torch.randn(2, 256)
    planes = deployed.draw_noises(latent, generator=None)
    for mine, theirs in zip(generator(latent, planes), deployed(latent, planes), strict=True):
        assert (mine - theirs).abs().mean() < 0.01, "two of 255 levels"


def test_a_run_begins_from_it_and_says_so(
    source: tuple[TrainingSpec, Path, Path], make_spec: MakeSpec, tmp_path: Path
) -> None:
    _, _, path = source
    spec = make_spec(tmp_path / "tuned", total_images=8).model_copy(update={"init_from": path})
    ticks = collect(spec)
    assert of(FactsTick, ticks)[0].facts["init_from"] == {"kind": "generator", "images_seen": 16}
    # The first snapshot is the source's generator, whose statistics are taken anew from the same draws.
    first = load_generator(tmp_path / "tuned" / of(SnapshotTick, ticks)[0].generator)
    theirs = load_generator(path).sample(seed=0, start=0, count=4).int()
    assert (first.sample(seed=0, start=0, count=4).int() - theirs).abs().float().mean() < 8
    state = load_state(tmp_path / "tuned" / of(StateTick, ticks)[-1].state, device=CPU)
    assert state["images_seen"] == 8


def test_other_networks_are_refused_by_name(source: tuple[TrainingSpec, Path, Path]) -> None:
    spec, *paths = source
    config = spec.config.model_copy(update={"attention": False})
    networks = build_networks(config, device=CPU)
    for path in paths:
        with pytest.raises(ConfigurationFailed, match="attention was True, is False"):
            initialise(networks, path, config=config)


def test_a_damaged_checkpoint_is_refused(source: tuple[TrainingSpec, Path, Path], tmp_path: Path) -> None:
    spec, *paths = source
    networks = build_networks(spec.config, device=CPU)
    for path in paths:
        damaged = tmp_path / path.name
        damaged.write_bytes(path.read_bytes()[:-100])
        with pytest.raises((ConfigurationFailed, DataFailed), match=path.name):
            initialise(networks, damaged, config=spec.config)


def test_frozen_parts_of_the_discriminator_do_not_learn(
    source: tuple[TrainingSpec, Path, Path], make_spec: MakeSpec, tmp_path: Path
) -> None:
    _, path, _ = source
    spec = make_spec(
        tmp_path / "tuned", total_images=8, evaluate_every_images=1_000, freeze_discriminator=2
    ).model_copy(update={"init_from": path})
    ticks = collect(spec)
    before = load_state(path, device=CPU)["networks"]
    after = load_state(tmp_path / "tuned" / of(StateTick, ticks)[-1].state, device=CPU)["networks"]
    with torch.device("meta"):
        network = Discriminator(spec.config)
    for name, _ in network.named_parameters():
        same = torch.equal(before["discriminator"][name], after["discriminator"][name])
        # The stem and the first of three blocks; D's step and G's step leave them alone.
        assert same == name.startswith(("stem.", "blocks.32.")), name
    with torch.device("meta"):
        generator = Generator(spec.config)
    for name, _ in generator.named_parameters():
        assert not torch.equal(before["generator"][name], after["generator"][name]), name


def test_what_is_frozen_must_be_in_the_checkpoint(source: tuple[TrainingSpec, Path, Path]) -> None:
    spec, state, generator = source
    config = spec.config.model_copy(update={"freeze_discriminator": 1})
    networks = build_networks(config, device=CPU)
    assert initialise(networks, state, config=config)["kind"] == "state"
    with pytest.raises(ConfigurationFailed, match="a generator alone"):
        initialise(networks, generator, config=config)
