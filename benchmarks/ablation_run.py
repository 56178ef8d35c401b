"""One run of an ablation, in a process of its own: train for a time or a number of pictures, then evaluate."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TypeVar

from core.files import atomic_path
from core.schemas.ticks import (
    EvaluationSpec,
    FactsTick,
    ProgressTick,
    SnapshotTick,
    StateTick,
    StoppedTick,
    Tick,
    TrainingSpec,
)
from core.schemas.training import Frozen
from worker.child import bind_to_parent

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T", bound=Tick)
RESULT = "result.json"
# Facts of the trainer that a result is told with.
_FACTS = ("commit", "torch", "device", "instruction_set", "threads", "precision")


class RunSpec(Frozen):
    """All a run needs; a JSON file in its folder."""

    training: TrainingSpec
    protocol: dict[str, Any]
    seconds: float | None
    threads: int
    parent_pid: int


class Stopwatch:
    """Training time: from the snapshot of the untrained networks on, since nothing is saved before the end.

    On CUDA the host may be ahead of the device, by less than the iterations between two progress ticks.

    Args:
        seconds: after which `over` is true; None for never.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began: float | None = None
        self.trained_s = 0.0

    def hear(self, tick: Tick) -> None:
        """Start at the first snapshot; without a time limit the last progress tick is where it stops."""
        if self._began is None:
            if isinstance(tick, SnapshotTick):
                self._began = time.perf_counter()
        elif isinstance(tick, ProgressTick):
            self.trained_s = time.perf_counter() - self._began

    def over(self) -> bool:
        """Whether the time is up; the trainer asks before every iteration."""
        if self._began is None or self._seconds is None:
            return False
        elapsed_s = time.perf_counter() - self._began
        if elapsed_s < self._seconds:
            return False
        self.trained_s = elapsed_s
        return True


def train_to_snapshot(spec: TrainingSpec, *, watch: Stopwatch) -> list[Tick]:
    """Train until the watch or total_images ends it; the last SnapshotTick is of the trained generator.

    A training that is stopped leaves a state and no snapshot. It is resumed with its end set to where it is, and
    makes the snapshot that a run of just this length makes.

    Args:
        spec: of a training from the beginning.
        watch: ends it.

    Raises:
        JobError: as core.training.trainer.train.
    """
    from core.training.trainer import train  # noqa: PLC0415  # torch: seconds of imports

    ticks: list[Tick] = []

    def emit(tick: Tick) -> None:
        watch.hear(tick)
        ticks.append(tick)

    train(spec, emit=emit, should_stop=watch.over)
    if isinstance(stopped := ticks[-1], StoppedTick):
        config = spec.config.model_copy(update={"total_images": stopped.images_seen})
        resume = spec.work_dir / last(StateTick, ticks).state
        ended = spec.model_copy(update={"config": config, "resume": resume})
        train(ended, emit=ticks.append, should_stop=lambda: False)
    return ticks


def last(kind: type[T], ticks: list[Tick]) -> T:
    """The last tick of a kind; there is one."""
    return next(tick for tick in reversed(ticks) if isinstance(tick, kind))


def perform(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate.

    Returns:
        What was measured, and on what: seconds_trained, images_seen, the metrics, the protocol, versions.

    Raises:
        RuntimeError: the training ended by itself before its time.
        JobError: as training and evaluation.
    """
    watch = Stopwatch(spec.seconds)
    ticks = train_to_snapshot(spec.training, watch=watch)
    if spec.seconds is not None and watch.trained_s < spec.seconds:
        raise RuntimeError(
            f"the training ended by itself after {watch.trained_s:.1f} s of {spec.seconds:g} s"
        )
    from core.metrics.evaluate import evaluate  # noqa: PLC0415  # seconds of imports, once there is something to judge

    snapshot = last(SnapshotTick, ticks)
    training = spec.training
    found = evaluate(
        EvaluationSpec(
            generator=training.work_dir / snapshot.generator,
            images_dir=training.images_dir,
            dataset_hash=training.dataset_hash,
            config=training.config,
            protocol=spec.protocol,
            cache_dir=training.cache_dir,
            weights_dir=training.weights_dir,
            device=training.device,
        )
    )
    facts = last(FactsTick, ticks).facts
    return {
        "seconds_trained": round(watch.trained_s, 2),
        "images_seen": snapshot.images_seen,
        **found.metrics,
        "protocol": found.protocol,
        **{name: facts[name] for name in _FACTS},
    }


def main(path: Path) -> int:
    """Be the child: do what the file says, and leave the result beside it."""
    spec = RunSpec.model_validate_json(path.read_bytes())
    bind_to_parent(spec.parent_pid)
    import torch  # noqa: PLC0415  # seconds of imports, only once bound to the parent

    if spec.threads:
        torch.set_num_threads(spec.threads)
    result = perform(spec)
    with atomic_path(path.parent / RESULT) as temporary:
        temporary.write_text(json.dumps(result))
    return 0
