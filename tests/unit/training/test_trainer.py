from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from core.errors import ConfigurationFailed, DataFailed, NonFinite
from core.schemas.ticks import (
    TICK,
    ErrorTick,
    FactsTick,
    FinishedTick,
    PreparingTick,
    ProgressTick,
    SnapshotTick,
    StateTick,
    StoppedTick,
    Tick,
    TrainingSpec,
    WarningTick,
)
from core.training.checkpoint import load_state
from core.training.snapshot import load_generator
from core.training.train import train
from core.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state, collect, flat, of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.training.conftest import MakeSpec

pytestmark = pytest.mark.usefixtures("hasty_statistics")
ROOT = Path(__file__).parents[3]


class Process:
    """The training child with a pipe for its ticks."""

    def __init__(self, spec: TrainingSpec) -> None:
        path = spec.work_dir / "spec.json"
        path.write_text(spec.model_dump_json())
        reading, writing = os.pipe()
        command = [sys.executable, "-P", "-m", "worker.train_process", str(path)]
        options = ["--ticks-fd", str(writing), "--parent-pid", str(os.getpid()), "--threads", "1"]
        self.child = subprocess.Popen(
            [*command, *options],
            pass_fds=[writing],
            cwd=spec.work_dir,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        os.close(writing)
        self._pipe = os.fdopen(reading, "rb")

    def ticks(self) -> Iterator[Tick]:
        with self._pipe:
            for line in self._pipe:
                yield TICK.validate_json(line)
        assert self.child.wait(timeout=20) is not None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ten_steps_and_a_new_process_equal_twenty(
    make_spec: MakeSpec, tmp_path: Path, precision: str
) -> None:
    config = {"precision": precision, "evaluate_every_images": 1_000}
    whole = collect(make_spec(tmp_path / "whole", total_images=40, **config))
    half = collect(make_spec(tmp_path / "half", total_images=20, **config))
    resume = tmp_path / "half" / of(StateTick, half)[-1].state
    process = Process(make_spec(tmp_path / "rest", total_images=40, resume=resume, **config))
    rest = list(process.ticks())
    assert process.child.returncode == 0
    facts = of(FactsTick, rest)[0].facts
    assert facts["resumed_at"] == 20
    assert facts["resumed_differs"] == []
    assert_same_state(
        tmp_path / "whole" / of(StateTick, whole)[-1].state, tmp_path / "rest" / of(StateTick, rest)[-1].state
    )
    losses = {tick.images_seen: tick.losses for tick in of(ProgressTick, whole)}
    for tick in of(ProgressTick, rest):
        assert tick.losses == losses[tick.images_seen]


def test_the_ticks_of_a_run(make_spec: MakeSpec, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    ticks = collect(
        make_spec(work_dir, total_images=33, evaluate_every_images=10, checkpoint_every_images=15)
    )
    facts = of(FactsTick, ticks)[0]
    assert ticks[0] == facts
    assert facts.facts["parameters"]["discriminator"] > 100_000
    assert [type(tick) for tick in ticks if not isinstance(tick, PreparingTick)][1:3] == [
        ProgressTick,
        SnapshotTick,
    ]
    # Two pictures an iteration: what is due at 15 happens at 16, and 33 pictures are seen when 34 are.
    assert [tick.images_seen for tick in of(SnapshotTick, ticks)] == [0, 10, 20, 30, 34]
    assert [tick.images_seen for tick in of(StateTick, ticks)] == [16, 30, 34]
    assert [tick.images_seen for tick in of(ProgressTick, ticks)] == [2, 8, 16, 24, 32]
    assert ticks[-1] == FinishedTick(images_seen=34)
    named = {
        ("state" in name and name) or name for t in of(SnapshotTick, ticks) for name in (t.generator, t.grid)
    }
    named |= {tick.state for tick in of(StateTick, ticks)} | {"good.state"}
    assert {path.name for path in work_dir.iterdir()} == named
    for tick in of(ProgressTick, ticks):
        assert tick.peak_memory_bytes is not None
        assert 10**7 < tick.peak_memory_bytes < 10**12
        assert tick.images_per_s > 0
        assert {"real", "fake", "reconstruction", "generator"} <= tick.losses.keys()
    assert json.loads(facts.model_dump_json())["facts"] == facts.facts


def test_a_snapshot_can_be_sampled(make_spec: MakeSpec, tmp_path: Path) -> None:
    ticks = collect(make_spec(tmp_path / "run", total_images=4))
    first, last = (of(SnapshotTick, ticks)[index] for index in (0, -1))
    untrained, trained = (load_generator(tmp_path / "run" / tick.generator) for tick in (first, last))
    assert (untrained.images_seen, trained.images_seen) == (0, 4)
    assert not torch.equal(
        untrained.sample(seed=0, start=0, count=2), trained.sample(seed=0, start=0, count=2)
    )


def after(iterations: int) -> Callable[[], bool]:
    """Ask to stop once this often asked."""
    asked = iter(range(10_000))
    return lambda: next(asked) >= iterations


@pytest.mark.parametrize(
    ("asked", "snapshots"), [(1 + 3, [0, 16]), (1 + 8 + 2, [16])], ids=["in the first snapshot", "after it"]
)
def test_a_stopped_run_saves_and_goes_on_as_if_nothing_had_been(
    make_spec: MakeSpec, tmp_path: Path, asked: int, snapshots: list[int]
) -> None:
    config = {
        "total_images": 16,
        "evaluate_every_images": 1_000,
        "augmentation": ("color", "translation", "cutout"),
    }
    whole = collect(make_spec(tmp_path / "whole", **config))
    # The pictures and the bank are cached; the first snapshot comes with the first progress, after one iteration,
    # and asks twice for its statistics and 6 times for its grid.
    stopped = collect(make_spec(tmp_path / "stopped", **config), should_stop=after(asked))
    assert isinstance(stopped[-1], StoppedTick)
    assert 0 < stopped[-1].images_seen < 16
    saved = of(StateTick, stopped)[-1]
    assert saved.images_seen == stopped[-1].images_seen
    rest = collect(make_spec(tmp_path / "rest", resume=tmp_path / "stopped" / saved.state, **config))
    assert [tick.images_seen for tick in of(SnapshotTick, rest)] == snapshots
    for tick in of(SnapshotTick, rest):
        mine, theirs = (load_file(tmp_path / name / tick.generator) for name in ("whole", "rest"))
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert_same_state(
        tmp_path / "whole" / of(StateTick, whole)[-1].state, tmp_path / "rest" / of(StateTick, rest)[-1].state
    )


def test_a_stop_before_the_first_snapshot_loses_no_snapshot(make_spec: MakeSpec, tmp_path: Path) -> None:
    stopped = collect(make_spec(tmp_path / "stopped"), should_stop=after(1))
    assert of(SnapshotTick, stopped) == []
    saved = of(StateTick, stopped)[-1]
    rest = collect(make_spec(tmp_path / "rest", resume=tmp_path / "stopped" / saved.state))
    assert of(SnapshotTick, rest)[0].images_seen == 0


def test_a_stop_right_after_a_state_saves_it_once(make_spec: MakeSpec, tmp_path: Path) -> None:
    config = {"total_images": 16, "evaluate_every_images": 1_000, "checkpoint_every_images": 2}
    collect(make_spec(tmp_path / "first", total_images=2))  # the pictures and the bank are cached, as above
    ticks = collect(make_spec(tmp_path / "run", **config), should_stop=after(1 + 8 + 3))
    assert isinstance(ticks[-1], StoppedTick)
    assert ticks[-1].images_seen > 2
    names = [tick.state for tick in of(StateTick, ticks)]
    assert len(names) == len(set(names)), (
        "a file that is taken away with the first tick is missed by the second"
    )


def test_a_changed_configuration_is_refused(make_spec: MakeSpec, tmp_path: Path) -> None:
    ticks = collect(make_spec(tmp_path / "run", total_images=4))
    state = tmp_path / "run" / of(StateTick, ticks)[-1].state
    with pytest.raises(ConfigurationFailed, match=r"hinge_margin was 'random', is 'one'"):
        collect(make_spec(tmp_path / "rest", resume=state, hinge_margin="one"))
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(DataFailed, match="damaged"):
        collect(make_spec(tmp_path / "rest", resume=state))


def test_pictures_are_prepared_once_and_said_to_be(make_spec: MakeSpec, tmp_path: Path) -> None:
    config = {"fit": "pad", "metadata": False, "decoders": False, "evaluate_every_images": 100}
    prepared = [
        of(PreparingTick, collect(make_spec(tmp_path / run, **config))) for run in ("first", "second")
    ]
    assert prepared == [[PreparingTick(done=6, total=6)], []]


def test_a_set_beyond_the_budget_trains_to_the_same_bits(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"total_images": 12, "evaluate_every_images": 1_000}
    whole = collect(make_spec(tmp_path / "whole", **config))
    monkeypatch.setattr("core.training.pictures.CPU_BUDGET_BYTES", 0)
    half = collect(make_spec(tmp_path / "half", **config), should_stop=after(8 + 3))
    saved = of(StateTick, half)[-1]
    assert 0 < saved.images_seen < 12
    rest = collect(make_spec(tmp_path / "rest", resume=tmp_path / "half" / saved.state, **config))
    assert_same_state(
        tmp_path / "whole" / of(StateTick, whole)[-1].state, tmp_path / "rest" / of(StateTick, rest)[-1].state
    )
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pictures")] == []


def test_losses_beyond_the_finite_numbers_end_the_run(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(tmp_path / "run", total_images=2_000, evaluate_every_images=5_000)
    ticks: list[Tick] = []

    class Poisoned(Trainer):
        def _backward(self, loss: torch.Tensor) -> None:
            super()._backward(loss * float("nan"))

    run = Poisoned(spec, emit=ticks.append, check_stop=lambda: None)
    with pytest.raises(NonFinite):
        run.run()
    assert of(ProgressTick, ticks)[0].losses == {}


class PoisonedFor(Trainer):
    """Leaves the finite numbers from 24 images on, for a number of iterations in all."""

    poisonous_iterations = 0
    _poison = False

    def iterate(self) -> None:
        self._poison = self.images_seen >= 24 and self.poisonous_iterations > 0
        self.poisonous_iterations -= self._poison
        super().iterate()

    def _backward(self, loss: torch.Tensor) -> None:
        super()._backward(loss * float("nan") if self._poison else loss)


def test_it_goes_back_once_to_its_last_state(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path / "run", total_images=80, evaluate_every_images=1_000, checkpoint_every_images=16
    )
    ticks: list[Tick] = []
    run = PoisonedFor(spec, emit=ticks.append, check_stop=lambda: None)
    run.poisonous_iterations = 20
    run.run()
    (warning,) = of(WarningTick, ticks)
    # The states at 32 and 48 were saved while steps were being skipped.
    assert (warning.code, warning.images_seen) == ("non_finite", 16)
    assert [tick.images_seen for tick in of(StateTick, ticks)] == [16, 32, 48, 32, 48, 64, 80]
    assert isinstance(ticks[-1], FinishedTick)
    state = load_state(tmp_path / "run" / of(StateTick, ticks)[-1].state, device=torch.device("cpu"))
    assert state["went_back"] is True
    assert (state["images_seen"], state["iteration"]) == (80, 40)


def test_it_does_not_go_back_twice(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path / "run", total_images=400, evaluate_every_images=1_000, checkpoint_every_images=16
    )
    ticks: list[Tick] = []
    run = PoisonedFor(spec, emit=ticks.append, check_stop=lambda: None)
    run.poisonous_iterations = 10_000
    with pytest.raises(NonFinite):
        run.run()
    assert len(of(WarningTick, ticks)) == 1


def test_a_state_is_what_it_was_when_it_was_saved(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Written behind the training's back, and yet of one moment."""
    spec = make_spec(
        tmp_path / "run", total_images=24, evaluate_every_images=1_000, checkpoint_every_images=2
    )
    ticks = collect(spec)
    assert [tick.images_seen for tick in of(StateTick, ticks)] == list(range(2, 25, 2))
    again = make_spec(tmp_path / "again", total_images=14, evaluate_every_images=1_000)
    alone = tmp_path / "again" / of(StateTick, collect(again))[-1].state
    among = tmp_path / "run" / next(tick for tick in of(StateTick, ticks) if tick.images_seen == 14).state
    first, second = (dict(flat(load_state(path, device=torch.device("cpu")))) for path in (among, alone))
    tensors = [name for name, value in first.items() if isinstance(value, torch.Tensor)]
    assert len(tensors) > 200
    for name in tensors:
        assert torch.equal(first[name], second[name]), name


def test_a_finished_run_goes_on_with_a_larger_total(make_spec: MakeSpec, tmp_path: Path) -> None:
    config = {"evaluate_every_images": 1_000}
    finished = collect(make_spec(tmp_path / "finished", total_images=8, **config))
    whole = collect(make_spec(tmp_path / "whole", total_images=16, **config))
    state = tmp_path / "finished" / of(StateTick, finished)[-1].state
    extended = collect(make_spec(tmp_path / "extended", total_images=16, resume=state, **config))
    assert [tick.images_seen for tick in of(SnapshotTick, extended)] == [16]
    assert_same_state(
        tmp_path / "whole" / of(StateTick, whole)[-1].state,
        tmp_path / "extended" / of(StateTick, extended)[-1].state,
    )


def test_a_state_that_cannot_be_written_ends_the_run(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path / "run", total_images=40, evaluate_every_images=1_000, checkpoint_every_images=4
    )
    (tmp_path / "run" / "state-000000008.pt").mkdir()  # a folder in its place
    ticks: list[Tick] = []
    with pytest.raises(OSError, match="state-000000008"):
        train(spec, emit=ticks.append, should_stop=lambda: False)
    assert [tick.images_seen for tick in of(StateTick, ticks)] == [4]


def test_sigterm_saves_and_ends(make_spec: MakeSpec, tmp_path: Path) -> None:
    process = Process(make_spec(tmp_path / "run", total_images=100_000, evaluate_every_images=100_000))
    ticks = []
    for tick in process.ticks():
        ticks.append(tick)
        if isinstance(tick, ProgressTick) and len(of(ProgressTick, ticks)) == 1:
            process.child.send_signal(signal.SIGTERM)
    assert process.child.returncode == 0
    assert isinstance(ticks[-1], StoppedTick)
    state = load_state(tmp_path / "run" / of(StateTick, ticks)[-1].state, device=torch.device("cpu"))
    assert state["images_seen"] == ticks[-1].images_seen > 0


def test_a_failure_is_told_by_its_code(make_spec: MakeSpec, tmp_path: Path) -> None:
    process = Process(make_spec(tmp_path / "run", resume=tmp_path / "nothing.pt"))
    ticks = list(process.ticks())
    assert process.child.returncode == 1
    assert isinstance(ticks[-1], ErrorTick)
    assert ticks[-1].code == "data_failed"
    assert "nothing.pt" in ticks[-1].message
