"""What only a CUDA device can show. Figures to write down from a run are printed (pytest -s) and kept in the report:

- seconds an iteration and peak memory at 256 pixels, batch 8, width 1, bf16, all switches off;
- the scale that fp16's gradient scaler settles at.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from core.schemas.ticks import FinishedTick, Tick, WarningTick
from core.training.train import train
from core.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.schemas.ticks import TrainingSpec
    from tests.gpu.conftest import MakeSpec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]

SMALL: dict[str, Any] = {"resolution": 64, "width": 0.25, "batch": 4}
SWITCHES: dict[str, Any] = {
    "adaptive_target": -0.99,
    "adaptive_images": 64,
    "apa_target": -0.99,
    "apa_images": 64,
    "lecam": 0.3,
    "lecam_start_iterations": 2,
    "coverage": 1.0,
    "augmentation": ("color", "translation", "cutout"),
}
_GIB = 2**30


def new(spec: TrainingSpec) -> Trainer:
    return Trainer(spec, emit=lambda _tick: None, check_stop=lambda: None)


def iterate(trainer: Trainer, count: int) -> None:
    for _ in range(count):
        trainer.iterate()
    torch.cuda.synchronize()


def state_of(trainer: Trainer) -> Path:
    trainer.save()
    trainer.wait_until_saved()
    return trainer._spec.work_dir / f"state-{trainer.images_seen:09d}.pt"


@pytest.mark.parametrize("switches", [{}, SWITCHES], ids=["plain", "all-switches"])
@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp16"])
def test_training_moves_every_parameter_by_finite_steps(
    make_spec: MakeSpec, record_property: Callable[[str, object], None], kind: str, switches: dict[str, Any]
) -> None:
    if kind == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this device computes no bf16 of its own")
    trainer = new(make_spec("run", precision=kind, **SMALL, **switches))
    networks = trainer._family.networks.values()
    before = [p.detach().clone() for network in networks for p in network.parameters()]
    iterate(trainer, 12)  # fp16 may spend the first on finding its scale
    after = [p.detach() for network in networks for p in network.parameters()]
    assert all(torch.isfinite(p).all() for p in after)
    assert all(not torch.equal(mine, theirs) for mine, theirs in zip(after, before, strict=True))
    losses = trainer._guard.means()
    assert {"real", "fake", "generator"} <= losses.keys()
    assert all(
        tensor.is_cuda and torch.isfinite(tensor) for tensor in trainer._family.networks["switches"].buffers()
    )
    assert trainer._scaler.is_enabled() == (kind == "fp16")
    if kind == "fp16":
        scale = trainer._scaler.get_scale()
        record_property("fp16_scale", scale)
        print(f"fp16 gradient scale after 12 iterations: {scale}")  # noqa: T201 - a figure to write down
        assert scale >= 1


@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_a_resumed_run_begins_where_the_first_ended(make_spec: MakeSpec, kind: str) -> None:
    """The state is taken over to the bit; what follows is not promised to the bit on CUDA."""
    config = SMALL | SWITCHES | {"precision": kind}
    first = new(make_spec("first", **config))
    iterate(first, 5)
    saved = state_of(first)
    second = new(make_spec("second", resume=saved, **config))
    assert_same_state(saved, state_of(second))
    iterate(second, 5)
    assert second.images_seen == 10 * 4
    assert second._guard.means()


def test_memory_stays_where_the_first_iterations_put_it(
    make_spec: MakeSpec, record_property: Callable[[str, object], None]
) -> None:
    """Forty iterations need no more than five did, and batch 8 at 256 pixels fits a card of 8 GiB."""
    trainer = new(make_spec("run", resolution=256, batch=8))
    iterate(trainer, 5)
    early = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    iterate(trainer, 35)
    seconds = (time.perf_counter() - began) / 35
    late = torch.cuda.max_memory_allocated()
    for name, value in (("peak_gib", late / _GIB), ("iteration_s", seconds)):
        record_property(name, value)
        print(f"{torch.cuda.get_device_name()}: {name} {value:.3f}")  # noqa: T201 - figures to write down
    assert late <= 1.01 * early
    assert late < 7.5 * _GIB


def test_no_iteration_waits_for_the_device(make_spec: MakeSpec) -> None:
    """A switch that asked the host to look at a tensor would raise here."""
    trainer = new(make_spec("run", **SMALL, **SWITCHES, precision="fp32"))
    iterate(trainer, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            rows_N, pictures_N3HW = trainer._pictures.at(trainer.images_seen)
            trainer._family.begin(pictures_N3HW, rows_N=rows_N)
            for phase in trainer._family.phases:
                trainer._family.run(phase, backward=trainer._backward)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_does_not_fit_is_trained_in_micro_batches(make_spec: MakeSpec) -> None:
    """With room for a step on 8 pictures, a batch of 64 trains in parts."""
    config: dict[str, Any] = SMALL | {"batch": 64, "total_images": 128}
    small = new(make_spec("small", **config).model_copy(update={"micro_batch": 8}))
    torch.cuda.reset_peak_memory_stats()
    iterate(small, 2)
    limit = 1.5 * torch.cuda.max_memory_reserved()
    small.close()
    del small
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    ticks: list[Tick] = []
    try:
        train(make_spec("run", **config), emit=ticks.append, should_stop=lambda: False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any(isinstance(tick, WarningTick) and tick.code == "out_of_memory" for tick in ticks)
    assert isinstance(ticks[-1], FinishedTick)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_networks_train_as_the_others(make_spec: MakeSpec, mode: str) -> None:
    """The losses of the first iterations; later ones drift apart by rounding."""
    losses = []
    for name, compiled in (("plain", "off"), ("compiled", mode)):
        trainer = new(make_spec(name, precision="fp32", compile=compiled, **SMALL))
        iterate(trainer, 3)
        losses.append(trainer._guard.means())
        trainer.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
