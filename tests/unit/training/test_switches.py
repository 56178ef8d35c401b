from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError

from core.schemas.training import SlaeganConfig
from core.training import precision
from core.training.checkpoint import load_state
from core.training.ema import Ema
from core.training.guard import Guard
from core.training.metadata import MetadataBank
from core.training.perceptual import Lpips
from core.training.slaegan import Slaegan, build_networks
from core.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.ticks import TrainingSpec
    from tests.unit.training.conftest import MakeSpec

CPU = torch.device("cpu")
# Targets that the untrained D is always above, and few images, so that a few iterations move everything.
ADAPTIVE: dict[str, Any] = {"adaptive_target": -0.99, "adaptive_images": 32}
LECAM: dict[str, Any] = {"lecam": 0.3, "lecam_start_iterations": 2}
APA: dict[str, Any] = {"apa_target": -0.99, "apa_images": 32}
COVERAGE: dict[str, Any] = {"coverage": 1.0, "coverage_pool": 2}
CUTOUT: dict[str, Any] = {"augmentation": ("color", "translation", "cutout")}
ALL = ADAPTIVE | LECAM | APA | COVERAGE | CUTOUT
QUICK: dict[str, Any] = {"decoders": False}  # two thirds of an iteration of such small networks are LPIPS


def new(spec: TrainingSpec) -> Trainer:
    return Trainer(spec, emit=lambda _tick: None, check_stop=lambda: None)


def saved(trainer: Trainer, *, iterations: int) -> Path:
    """The state after some more iterations; no snapshot is made on the way."""
    for _ in range(iterations):
        trainer.iterate()
    trainer.save()
    trainer.wait_until_saved()
    return trainer._spec.work_dir / f"state-{trainer.images_seen:09d}.pt"


CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("adaptive", 3, ADAPTIVE | QUICK),
    ("lecam", 3, LECAM | QUICK),
    ("apa", 3, APA | QUICK),
    ("coverage", 3, COVERAGE | QUICK),
    ("cutout", 3, CUTOUT | QUICK),
    ("all", 10, ALL),
    ("all-bf16", 3, ALL | {"precision": "bf16"}),
    ("all-without-metadata", 3, ALL | QUICK | {"metadata": False}),
    ("no-attention", 2, {"attention": False}),
    ("no-metadata", 2, {"metadata": False}),
    ("no-excitation", 2, {"excitation": False}),
    ("no-decoders", 2, {"decoders": False}),
]


@pytest.mark.parametrize(("half", "config"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_resumed_run_is_the_whole_run(
    make_spec: MakeSpec, tmp_path: Path, half: int, config: dict[str, Any]
) -> None:
    trainer = new(make_spec(tmp_path / "whole", **config))
    first, whole = saved(trainer, iterations=half), saved(trainer, iterations=half)
    rest = saved(new(make_spec(tmp_path / "rest", resume=first, **config)), iterations=half)
    assert_same_state(whole, rest)
    remembered = load_state(whole, device=CPU)["family"]["switches"]
    assert set(remembered) == {
        name
        for name, key in (("adaptive", "adaptive_target"), ("apa", "apa_target"), ("lecam", "lecam"))
        if key in config
    }
    if half > 2:  # p has moved, and the averages have left 0
        assert all(remembered[name]["probability"] > 0 for name in {"adaptive", "apa"} & set(remembered))
        assert all(remembered[name]["real"] != 0 for name in {"lecam"} & set(remembered))


def test_a_switch_that_only_watches_changes_no_weight(make_spec: MakeSpec, tmp_path: Path) -> None:
    watching = QUICK | {"lecam": 1.0, "lecam_start_iterations": 1_000}
    plain, watched = (
        load_state(saved(new(make_spec(tmp_path / name, **config)), iterations=3), device=CPU)
        for name, config in (("plain", QUICK), ("watched", watching))
    )
    for name, network in plain["networks"].items():
        for key, value in network.items():
            assert torch.equal(value, watched["networks"][name][key]), key
    assert torch.equal(plain["family"]["draws"], watched["family"]["draws"])
    assert plain["family"]["switches"] == {}


def test_their_losses_and_shares_are_told(make_spec: MakeSpec, tmp_path: Path) -> None:
    trainer = new(make_spec(tmp_path / "run", **ALL, **QUICK))
    for _ in range(3):
        trainer.iterate()
    trainer._guard.means()
    for _ in range(4):
        trainer.iterate()
    means = trainer._guard.means()
    assert {"lecam_real", "lecam_fake", "coverage"} <= means.keys()
    assert min(means[name] for name in ("lecam_real", "lecam_fake", "coverage")) > 0
    # The fourth iteration moved both by 4 * 2 / 32.
    assert means["augmentation_share"] == means["pseudo_share"] == 0.25


def test_a_skipped_iteration_moves_nothing_that_is_remembered(make_spec: MakeSpec, tmp_path: Path) -> None:
    class Poisonable(Trainer):
        factor = 1.0

        def _backward(self, loss: torch.Tensor) -> None:
            super()._backward(loss * self.factor)

    spec = make_spec(tmp_path / "run", **ALL, **QUICK)
    trainer = Poisonable(spec, emit=lambda _tick: None, check_stop=lambda: None)
    for _ in range(3):
        trainer.iterate()
    before = [tensor.clone() for tensor in trainer._family.statistics()]
    trainer.factor = float("nan")
    trainer.iterate()  # the fourth, in which p would have moved
    after = trainer._family.statistics()
    assert len(after) == 9
    assert all(torch.equal(mine, kept) for mine, kept in zip(after, before, strict=True))
    trainer.factor = 1.0
    trainer.iterate()
    assert not any(torch.equal(mine, kept) for mine, kept in zip(after, before, strict=True))


def test_adapting_no_augmentation_is_refused() -> None:
    with pytest.raises(ValidationError, match="adaptive_target needs at least one kind of augmentation"):
        SlaeganConfig(adaptive_target=0.6, augmentation=())


@pytest.mark.parametrize("resolution", [64, 256])
def test_a_full_step_on_the_meta_device(weights_dir: Path, resolution: int) -> None:
    """Everything that the family has, with guard and average: no tensor is made on a device of its own."""
    meta = torch.device("meta")
    config = SlaeganConfig.model_validate({"resolution": resolution, "width": 0.125, "batch": 2} | ALL)
    with meta:
        networks = build_networks(config, device=meta)
    family = Slaegan(
        config,
        networks=networks,
        bank=MetadataBank.of(torch.rand(6, 512)),
        perceptual=Lpips(weights_dir, dtype=torch.bfloat16, device=meta),
        dtype=torch.bfloat16,
        device=meta,
    )
    guard = Guard(
        networks,
        scaler=precision.scaler(torch.bfloat16, device=meta),
        device=meta,
        statistics=family.statistics(),
    )
    average = Ema(networks[family.averaged])
    # torch has no fused Adam for the meta device, and without it the guard cannot step.
    optimisers = {name: torch.optim.Adam(n.parameters(), foreach=True) for name, n in networks.items()}
    guard.remember()
    pictures = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8, device=meta)
    family.begin(pictures, rows_N=torch.arange(2, device=meta))
    losses = {}
    for phase in family.phases:
        losses |= family.run(phase, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
        assert all(p.grad is not None and p.grad.is_meta for p in networks[phase.name].parameters())
        optimisers[phase.name].step()
    average.update(decay=0.999)
    guard.finish(losses)
    assert len(losses) == 10
    assert all(loss.is_meta for loss in losses.values())
    assert all(tensor.is_meta for tensor in [*family.statistics(), *average.average.values()])
