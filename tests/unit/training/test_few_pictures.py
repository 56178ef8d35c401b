"""ADA's pipeline and InsGen in the training of every family; off, they change no number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from pydantic import ValidationError

from core.schemas.families import FAMILIES, parse_config
from core.schemas.ticks import StateTick
from core.training.families import build_networks, family_of
from core.training.family import Setting
from core.training.insgen import InsGen
from core.training.trainer import Trainer
from tests.unit.training.conftest import check_resume, collect, of
from tests.unit.training.test_families import SIGNLESS, tiny, trainer_of

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.families import Config
    from core.schemas.ticks import TrainingSpec
    from core.training.switches import Switches
    from tests.unit.training.conftest import MakeSpec

pytestmark = pytest.mark.usefixtures("hasty_statistics")
# A target that the untrained D is always above, and few images, so that a few iterations move everything.
ON: dict[str, Any] = {
    "pipeline": "ada",
    "ada_kinds": ("blit", "geometry", "color", "filter", "noise", "cutout"),
    "adaptive_target": -0.99,
    "adaptive_images": 32,
    "insgen": 0.5,
    "insgen_queue": 7,
}
# Those whose logits have a zero, by which ADA is steered.
families = pytest.mark.parametrize("family", [name for name in FAMILIES if name not in SIGNLESS])


@pytest.fixture
def spec_of(make_spec: MakeSpec, tmp_path: Path) -> Any:
    def make(name: str, config: Config, *, resume: Path | None = None) -> TrainingSpec:
        return make_spec(tmp_path / name, resume=resume).model_copy(update={"config": config})

    return make


def test_without_them_the_losses_are_as_before_them(spec_of: Any) -> None:
    """The mean losses of the fifth and sixth iteration of SLAE-GAN, recorded before the first of them was there."""
    trainer = trainer_of(spec_of("run", tiny("slaegan", total_images=10_000)))
    for _ in range(6):
        trainer.iterate()
    means = trainer._guard.means()
    recorded = {"real": 0.95175, "fake": 0.93719, "generator": 0.12513}
    assert {name: means[name] for name in recorded} == pytest.approx(recorded, rel=2e-3)
    assert "insgen" not in trainer._family.networks


@families
def test_they_are_told_and_everything_moves(family: str, spec_of: Any) -> None:
    """In micro-batches, too."""
    spec = spec_of("run", tiny(family, batch=4, total_images=10_000, **ON))
    trainer = trainer_of(spec.model_copy(update={"micro_batch": 2}))
    insgen = trainer._family.networks["insgen"]
    before = {name: value.clone() for name, value in insgen.state_dict().items()}
    for _ in range(5):
        trainer.iterate()
    means = trainer._guard.means()
    adaptive = cast("Switches", trainer._family.networks["switches"]).adaptive
    assert adaptive is not None
    assert float(adaptive.count + adaptive.probability) > 0
    assert means["augmentation_share"] == pytest.approx(float(adaptive.probability))
    assert min(means[f"instance_{name}"] for name in ("real", "fake", "generator")) > 0
    still = [name for name, value in insgen.state_dict().items() if torch.equal(value, before[name])]
    frozen = {name for name, p in trainer._family.networks["discriminator"].named_parameters()}
    moved = {name.replace("/", ".").removeprefix("slow_discriminator.") for name in still} - frozen
    assert not moved  # of D itself, a weight may wait for its turn
    assert len(still) < len(frozen)
    assert (insgen.get_buffer("owners_Q") >= 0).all()


@families
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_eight_steps_are_four_and_a_resume_and_four(family: str, precision: str, spec_of: Any) -> None:
    check_resume(spec_of, tiny(family, precision=precision, **ON), iterations=8)


@families
def test_a_skipped_iteration_moves_nothing_of_them(family: str, spec_of: Any) -> None:
    class Poisonable(Trainer):
        factor = 1.0

        def _backward(self, loss: torch.Tensor) -> None:
            super()._backward(loss * self.factor)

    spec = spec_of("run", tiny(family, total_images=10_000, **ON))
    trainer = Poisonable(spec, emit=lambda _tick: None, check_stop=lambda: None)
    for _ in range(3):
        trainer.iterate()
    insgen = trainer._family.networks["insgen"]
    before = {name: value.clone() for name, value in insgen.state_dict().items()}
    trainer.factor = float("nan")
    trainer.iterate()
    assert all(torch.equal(value, before[name]) for name, value in insgen.state_dict().items())
    trainer.factor = 1.0
    trainer.iterate()
    assert not torch.equal(insgen.get_buffer("fake_QE"), before["fake_QE"])


@families
def test_one_iteration_on_the_meta_device(family: str) -> None:
    """No tensor is made on a device of its own."""
    meta, config = torch.device("meta"), tiny(family, precision="bf16", **ON)
    with meta:
        networks = build_networks(config, device=meta)
    setting = Setting(dtype=torch.bfloat16, device=meta, micro_batch=config.batch)
    trained = family_of(config)(config, networks=networks, setting=setting)
    pictures = torch.zeros(config.shown, 3, 64, 64, dtype=torch.uint8, device=meta)
    trained.begin(pictures, rows_N=torch.arange(config.shown, device=meta))
    told = set()
    for phase in trained.phases:
        losses = trained.run(phase, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
        assert all(loss.is_meta for loss in losses.values())
        told |= losses.keys()
    assert {"instance_real", "instance_fake", "instance_generator"} <= told
    assert all(p.grad is not None and p.grad.is_meta for p in networks["insgen"].parameters())


def test_a_training_may_begin_from_one_with_another_queue(spec_of: Any) -> None:
    config = tiny("dcgan", total_images=4, evaluate_every_images=4, **ON)
    first = spec_of("first", config)
    (state,) = of(StateTick, collect(first))
    other = parse_config(config.model_dump() | {"insgen_queue": 9})
    spec = spec_of("second", other).model_copy(update={"init_from": first.work_dir / state.state})
    trainer = trainer_of(spec)
    insgen = trainer._family.networks["insgen"]
    assert isinstance(insgen, InsGen)
    assert (insgen.owners_Q == -1).all()


def test_what_does_not_go_together_is_refused() -> None:
    assert tiny("dcgan", pipeline="ada").adaptive_target == 0.6
    assert tiny("dcgan").adaptive_target is None
    with pytest.raises(ValidationError, match="pipeline ada needs adaptive_target"):
        tiny("dcgan", pipeline="ada", adaptive_target=None)
    with pytest.raises(ValidationError, match="adaptive_target needs at least one kind"):
        tiny("dcgan", pipeline="ada", ada_kinds=())
    with pytest.raises(ValidationError, match="choose one of the two"):
        tiny("dcgan", insgen=1.0, apa_target=0.6)
