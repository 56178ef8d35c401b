from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError

from core.schemas.slaegan import SlaeganConfig
from core.training import precision
from core.training.checkpoint import load_state
from core.training.ema import Ema
from core.training.families import build_networks
from core.training.family import Setting
from core.training.guard import Guard
from core.training.metadata import MetadataBank
from core.training.perceptual import Lpips
from core.training.slaegan import Slaegan
from core.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state

if TYPE_CHECKING:
    from core.schemas.ticks import TrainingSpec
    from tests.unit.training.conftest import MakeSpec

ROOT = Path(__file__).parents[3]
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


CASES: dict[str, dict[str, Any]] = {
    "adaptive": ADAPTIVE | QUICK,
    "lecam": LECAM | QUICK,
    "apa": APA | QUICK,
    "coverage": COVERAGE | QUICK,
    "cutout": CUTOUT | QUICK,
    "no-attention": QUICK | {"attention": False},
    "no-metadata": QUICK | {"metadata": False},
    "no-excitation": QUICK | {"excitation": False},
    "no-decoders": QUICK,
    "all": ALL,
}
HALF = 10
_RESUME = """
import json, sys
from pathlib import Path
import torch
from core.schemas.ticks import TrainingSpec
from core.training.trainer import Trainer

torch.set_num_threads(1)
for text in json.loads(Path(sys.argv[1]).read_text()):
    trainer = Trainer(TrainingSpec.model_validate_json(text), emit=lambda tick: None, check_stop=lambda: None)
    for _ in range(int(sys.argv[2])):
        trainer.iterate()
    trainer.save()
    trainer.wait_until_saved()
    trainer.close()
"""


@pytest.fixture(scope="module")
def runs(make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """For each case in each precision: the state after 20 iterations, and that of 10 and, in a new process, 10."""
    folder = tmp_path_factory.mktemp("runs")
    found, resumed = {}, []
    for kind in ("fp32", "bf16"):
        for case, switches in CASES.items():
            name, config = f"{case}-{kind}", switches | {"precision": kind}
            trainer = new(make_spec(folder / name, **config))
            first, whole = saved(trainer, iterations=HALF), saved(trainer, iterations=HALF)
            trainer.close()
            rest = make_spec(folder / f"{name}-rest", resume=first, **config)
            resumed.append(rest.model_dump_json())
            found[name] = whole, rest.work_dir / whole.name
    (folder / "resumed.json").write_text(json.dumps(resumed))
    subprocess.run(
        [sys.executable, "-c", _RESUME, str(folder / "resumed.json"), str(HALF)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    return found


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_ten_iterations_and_ten_in_a_new_process_are_twenty(
    runs: dict[str, tuple[Path, Path]], case: str, kind: str
) -> None:
    whole, rest = runs[f"{case}-{kind}"]
    assert_same_state(whole, rest)
    remembered = load_state(whole, device=CPU)["networks"]["switches"]
    on = {
        name
        for name, key in (("adaptive", "adaptive_target"), ("apa", "apa_target"), ("lecam", "lecam"))
        if key in CASES[case]
    }
    assert {name.partition(".")[0] for name in remembered} == on
    # p has moved, and the averages have left 0
    assert all(remembered[f"{name}.probability"] > 0 for name in {"adaptive", "apa"} & on)
    assert all(remembered[f"{name}.real"] != 0 for name in {"lecam"} & on)


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
    assert plain["networks"]["switches"] == {}


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
    after = list(trainer._family.networks["switches"].buffers())
    before = [tensor.clone() for tensor in after]
    trainer.factor = float("nan")
    trainer.iterate()  # the fourth, in which p would have moved
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
        setting=Setting(
            bank=MetadataBank.of(torch.rand(6, 512)),
            perceptual=Lpips(weights_dir, dtype=torch.bfloat16, device=meta),
            dtype=torch.bfloat16,
            device=meta,
            micro_batch=config.batch,
        ),
    )
    guard = Guard(
        networks,
        scaler=precision.scaler(torch.bfloat16, device=meta),
        device=meta,
    )
    average = Ema(networks[family.averaged])
    # torch has no fused Adam for the meta device, and without it the guard cannot step.
    optimisers = {
        phase.name: torch.optim.Adam(networks[phase.name].parameters(), foreach=True)
        for phase in family.phases
    }
    guard.remember()
    pictures = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8, device=meta)
    family.begin(pictures, rows_N=torch.arange(2, device=meta))
    losses = {}
    for phase in family.phases:
        losses |= family.run(phase, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
        assert all(p.grad is not None and p.grad.is_meta for p in networks[phase.name].parameters())
        optimisers[phase.name].step()
    average.update(decay=0.999)
    guard.finish(losses)
    assert len(losses) == 10
    assert all(loss.is_meta for loss in losses.values())
    assert all(tensor.is_meta for tensor in [*networks["switches"].buffers(), *average.average.values()])
