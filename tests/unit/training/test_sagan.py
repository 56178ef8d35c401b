"""SAGAN in training: its losses by hand, its optimisers, its labels, and the attention beside a snapshot's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from core.models.sagan import ConditionalNorm, Discriminator
from core.schemas.sagan import SaganConfig
from core.schemas.ticks import SnapshotTick, TrainingSpec
from core.training.families import build_networks
from core.training.family import Phase, Setting
from core.training.sagan import Sagan
from core.training.snapshot import load_generator
from core.training.trainer import Trainer
from tests.unit.training.conftest import collect, of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.training.conftest import MakeSpec

pytestmark = pytest.mark.usefixtures("hasty_statistics")
CLASSES, LABELS = ("cat", "dog", "owl"), (0, 1, 0, 0, 1, 0)  # no picture shows an owl


def tiny(**fields: Any) -> SaganConfig:
    small = {"width": 0.125, "batch": 2, "precision": "fp32", "total_images": 10_000}
    return SaganConfig.model_validate(small | fields)


@pytest.fixture
def family() -> Sagan:
    config, device = tiny(generator_rate=0.03, discriminator_rate=0.07), torch.device("cpu")
    setting = Setting(dtype=torch.float32, device=device, micro_batch=config.batch)
    return Sagan(config, networks=build_networks(config, device=device), setting=setting)


@pytest.fixture
def labelled(make_spec: MakeSpec, tmp_path: Path) -> TrainingSpec:
    config = tiny(conditional=True, total_images=24, evaluate_every_images=24)
    told = {"config": config, "classes": CLASSES, "labels": LABELS}
    return make_spec(tmp_path / "run").model_copy(update=told)


def test_losses_are_hinges(family: Sagan) -> None:
    """Eq. 4, of logits on both sides of both margins."""
    logits_NK = torch.tensor([[2.0], [0.5], [-1.5]], dtype=torch.bfloat16)
    expected = {"real": (0 + 0.5 + 2.5) / 3, "fake": (3 + 1.5 + 0) / 3, "generator": -(2 + 0.5 - 1.5) / 3}
    for name, value in expected.items():
        loss: Tensor = getattr(family, f"{name}_loss")(logits_NK)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(value)


def test_two_rates_and_no_momentum(family: Sagan) -> None:
    phases = {phase.name: phase for phase in family.phases}
    assert phases == {"discriminator": Phase("discriminator"), "generator": Phase("generator")}
    for name, rate in (("generator", 0.03), ("discriminator", 0.07)):
        (group,) = family.optimiser(phases[name]).param_groups
        assert (group["lr"], group["betas"]) == (rate, (0.0, 0.9))
        assert {id(p) for p in group["params"]} == {id(p) for p in family.networks[name].parameters()}


def test_the_papers_rates_are_the_defaults() -> None:
    config = SaganConfig()
    assert (config.generator_rate, config.discriminator_rate, config.discriminator_steps) == (1e-4, 4e-4, 1)


def test_a_training_by_class_learns_what_it_is_shown_of_each(labelled: TrainingSpec) -> None:
    trainer = Trainer(labelled, emit=lambda _: None, check_stop=lambda: None)
    networks = trainer._family.networks
    discriminator = networks["discriminator"]
    assert isinstance(discriminator, Discriminator)
    assert discriminator.projection is not None
    norms = [layer for layer in networks["generator"].modules() if isinstance(layer, ConditionalNorm)]
    tables = [discriminator.projection.weight.flatten(1)]
    for norm in norms:
        assert norm.gain is not None
        assert norm.offset is not None
        tables += [norm.gain.weight, norm.offset.weight]
    assert len(tables) == 1 + 2 * 8
    before = [table.detach().clone() for table in tables]
    for _ in range(6):
        trainer.iterate()
    for table, was in zip(tables[1:], before[1:], strict=True):
        moved = (table != was).any(dim=1)
        assert moved.tolist() == [True, True, False]
    assert not torch.equal(tables[0], before[0])


def test_pictures_of_a_class(labelled: TrainingSpec) -> None:
    ticks = collect(labelled)
    deployed = load_generator(labelled.work_dir / of(SnapshotTick, ticks)[-1].generator)
    assert deployed.classes is not None
    assert (deployed.classes.names, deployed.classes.counts) == (CLASSES, (4, 2, 0))
    cats, dogs = (deployed.sample(seed=1, start=0, count=3, label=label) for label in (0, 1))
    assert not torch.equal(cats, dogs)
    drawn = deployed.sample(seed=1, start=0, count=3)
    assert all(
        torch.equal(one, cat) or torch.equal(one, dog)
        for one, cat, dog in zip(drawn, cats, dogs, strict=True)
    )


@pytest.mark.parametrize("conditional", [False, True])
def test_a_snapshot_shows_where_the_generator_looks(labelled: TrainingSpec, *, conditional: bool) -> None:
    """Beside the grid, of whose first pictures it is."""
    config = labelled.config.model_copy(update={"conditional": conditional})
    spec = labelled.model_copy(update={"config": config})
    first, last = of(SnapshotTick, collect(spec))
    assert (first.extras, last.extras) == (
        {"attention": "snapshot-000000000-attention.png"},
        {"attention": "snapshot-000000024-attention.png"},
    )
    with (
        Image.open(spec.work_dir / last.extras["attention"]) as sheet,
        Image.open(spec.work_dir / last.grid) as grid,
    ):
        assert (sheet.size, grid.size) == ((6 * 128, 6 * 128), (6 * 64, 6 * 64))
        for row in range(6):
            cell = sheet.crop((0, row * 128, 64, row * 128 + 20))  # above its points
            same = grid.crop((row * 64, 0, row * 64 + 32, 10)).resize((64, 20), Image.Resampling.NEAREST)
            assert cell.tobytes() == same.tobytes()
