"""What is asked of every family alike; each has one line in `TINY`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from core.models.contract import PictureGenerator
from core.schemas.families import FAMILIES, parse_config
from core.schemas.ticks import SnapshotTick
from core.training.families import build_networks, family_of
from core.training.family import Setting
from core.training.snapshot import load_generator
from core.training.trainer import Trainer
from tests.unit.training.conftest import check_resume, collect, of

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.families import Config
    from core.schemas.ticks import Tick, TrainingSpec
    from tests.unit.training.conftest import MakeSpec

# The smallest networks of each.
TINY: dict[str, dict[str, Any]] = {
    "slaegan": {"width": 0.125, "decoders": False, "metadata": False},
    "dcgan": {"width": 4, "latent_size": 8},
    "wgan": {"width": 4, "latent_size": 8, "discriminator_steps": 2},
    "wgan_gp": {"width": 4, "latent_size": 8, "discriminator_steps": 2},
    "fgan": {"width": 4, "latent_size": 8, "divergence": "pearson"},
    "fastgan_baseline": {"width": 0.125},
    "sagan": {"width": 0.125},
    "stylegan2": {"channel_base": 256, "channel_max": 8, "latent_size": 8, "mapping_layers": 2},
    "codes": {
        "pair": "dcgan",
        "pair_settings": {"width": 4, "latent_size": 8},
        "autoencoder_channels": 4,
        "autoencoder_images": 6,
    },
}
# Nothing can be steered by the sign of their logits, which have no zero.
SIGNLESS = {"wgan", "wgan_gp"}
BASE: dict[str, Any] = {"resolution": 64, "batch": 2, "precision": "fp32"}
pytestmark = [
    pytest.mark.usefixtures("hasty_statistics"),
    pytest.mark.parametrize("family", FAMILIES),
]


def tiny(family: str, **more: Any) -> Config:
    return parse_config({"family": family} | BASE | TINY[family] | more)


def trainer_of(spec: TrainingSpec, ticks: list[Tick] | None = None) -> Trainer:
    return Trainer(spec, emit=(ticks if ticks is not None else []).append, check_stop=lambda: None)


@pytest.fixture
def spec_of(make_spec: MakeSpec, tmp_path: Path) -> Any:
    def make(name: str, config: Config, *, resume: Path | None = None) -> TrainingSpec:
        return make_spec(tmp_path / name, resume=resume).model_copy(update={"config": config})

    return make


def test_it_makes_and_judges_pictures(family: str) -> None:
    config = tiny(family)
    networks = build_networks(config, device=torch.device("cpu"))
    generator = networks["generator"]
    assert isinstance(generator, PictureGenerator)
    assert (generator.resolution, generator.latent_size > 0) == (64, True)
    noise = torch.randn(3, generator.latent_size)
    planes = generator.draw_noises(noise, generator=None)
    made = generator.render(generator.latent(noise, None), planes)
    assert made.shape == (3, 3, 64, 64)
    assert made.detach().abs().max() <= 1
    assert not torch.equal(made[0], made[1])


def test_every_parameter_gets_a_gradient(family: str, spec_of: Any) -> None:
    """Within a few iterations: some phases are not due in each, and gates may begin closed."""
    trainer = trainer_of(spec_of("run", tiny(family, total_images=10_000)))
    moving = {
        f"{name}.{key}": parameter.detach().clone()
        for name, network in trainer._family.networks.items()
        for key, parameter in network.named_parameters()
        if parameter.requires_grad
    }
    for _ in range(17):
        trainer.iterate()
    now = {
        f"{name}.{key}": parameter
        for name, network in trainer._family.networks.items()
        for key, parameter in network.named_parameters()
    }
    still = [name for name, before in moving.items() if torch.equal(now[name], before)]
    assert not still
    assert all(parameter.isfinite().all() for parameter in now.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_twenty_steps_are_ten_and_a_resume_and_ten(family: str, precision: str, spec_of: Any) -> None:
    check_resume(spec_of, tiny(family, precision=precision), iterations=20)


def test_one_iteration_on_the_meta_device(family: str) -> None:
    """No tensor is made on a device of its own."""
    meta, config = torch.device("meta"), tiny(family, precision="bf16")
    with meta:
        networks = build_networks(config, device=meta)
    setting = Setting(dtype=torch.bfloat16, device=meta, micro_batch=config.batch)
    trained = family_of(config)(config, networks=networks, setting=setting)
    pictures = torch.zeros(config.shown, 3, 64, 64, dtype=torch.uint8, device=meta)
    trained.begin(pictures, rows_N=torch.arange(config.shown, device=meta))
    for phase in trained.phases:
        losses = trained.run(phase, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
        assert all(loss.is_meta for loss in losses.values())
        trained.stepped(phase)
    grads = [p.grad for p in networks[trained.averaged].parameters()]
    assert all(grad is None or grad.is_meta for grad in grads)
    assert any(grad is not None for grad in grads)


def test_a_picture_of_a_checkpoint_is_its_own_whoever_is_beside_it(family: str, spec_of: Any) -> None:
    shown = tiny(family).shown
    config = tiny(family, total_images=4 * shown, evaluate_every_images=4 * shown)
    spec = spec_of("run", config)
    ticks = collect(spec)
    deployed = load_generator(spec.work_dir / of(SnapshotTick, ticks)[-1].generator)
    assert deployed.config == config
    assert (deployed.images_seen, of(SnapshotTick, ticks)[0].images_seen) == (4 * shown, 0)
    many = deployed.sample(seed=3, start=0, count=20)
    assert (many.shape, many.dtype) == ((20, 3, 64, 64), torch.uint8)
    alone = deployed.sample(seed=3, start=17, count=1)
    assert (alone[0].int() - many[17].int()).abs().max() <= 1
    assert torch.equal(deployed.sample(seed=3, start=17, count=1), alone)


def test_memory_that_holds_half_a_batch_is_enough(family: str, spec_of: Any) -> None:
    config = tiny(family, batch=4, total_images=10_000)
    spec = spec_of("run", config).model_copy(update={"micro_batch": 2})
    trainer = trainer_of(spec)
    for _ in range(2):
        trainer.iterate()
    assert all(torch.tensor(value).isfinite() for value in trainer._guard.means().values())


def test_switches_for_few_pictures_work(family: str, spec_of: Any) -> None:
    signs = {"adaptive_target": 0.1, "adaptive_images": 20, "apa_target": 0.1, "apa_images": 20}
    config = tiny(
        family,
        total_images=10_000,
        lecam=0.3,
        lecam_start_iterations=2,
        freeze_discriminator=1,
        **({} if family in SIGNLESS else signs),
    )
    trainer = trainer_of(spec_of("run", config))
    for _ in range(9):
        trainer.iterate()
    losses = trainer._guard.means()
    shares = set() if family in SIGNLESS else {"augmentation_share", "pseudo_share"}
    assert shares | {"lecam_real", "lecam_fake"} <= losses.keys()


def test_insgen_and_the_pipeline_of_ada_work(family: str, spec_of: Any) -> None:
    ada = {"pipeline": "ada", "adaptive_target": 0.1, "adaptive_images": 20}
    config = tiny(
        family, total_images=10_000, insgen=1.0, insgen_queue=4, **({} if family in SIGNLESS else ada)
    )
    trainer = trainer_of(spec_of("run", config))
    heads = dict(trainer._family.networks["insgen"].named_parameters())
    before = {name: head.detach().clone() for name, head in heads.items()}
    for _ in range(6):
        trainer.iterate()
    assert not [name for name, head in heads.items() if torch.equal(head, before[name])]
    losses = trainer._guard.means()
    shares = set() if family in SIGNLESS else {"augmentation_share"}
    assert shares | {"instance_real", "instance_fake", "instance_generator"} <= losses.keys()
    assert all(torch.tensor(value).isfinite() for value in losses.values())
