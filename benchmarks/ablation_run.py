"""One run of an ablation, in a process of its own: train, then evaluate."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from core.files import atomic_path
from core.parent import bind_to_parent
from core.schemas.sent import Frozen
from core.schemas.ticks import (
    EvaluationSpec,
    FactsTick,
    ProgressTick,
    SnapshotTick,
    Tick,
    TrainingSpec,
)
from worker.process import ALLOCATOR

T = TypeVar("T", bound=Tick)
ROOT = Path(__file__).resolve().parents[1]
RESULT = "result.json"
# Facts of the trainer that a result is told with.
_FACTS = ("commit", "parameters", "torch", "device", "instruction_set", "threads", "precision")


class RunSpec(Frozen):
    """All a run needs; a JSON file in its folder."""

    training: TrainingSpec
    protocol: dict[str, Any]
    threads: int
    parent_pid: int


def trained_s(ticks: list[Tick]) -> float:
    """Seconds of training alone, up to the last tick of progress: the trainer's rates leave out snapshots and saves."""
    told = [tick for tick in ticks if isinstance(tick, ProgressTick)]
    before = [0, *(tick.images_seen for tick in told)]
    return sum(
        (tick.images_seen - seen) / tick.images_per_s for tick, seen in zip(told, before, strict=False)
    )


def environment() -> dict[str, str]:
    """For a child that imports this copy of the code, wherever the parent was started."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return ALLOCATOR | os.environ | {"PYTHONPATH": path}


def last(kind: type[T], ticks: list[Tick]) -> T:
    """The last tick of a kind; there is one."""
    return next(tick for tick in reversed(ticks) if isinstance(tick, kind))


def perform(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate.

    Returns:
        What was measured, and on what: seconds_trained, images_seen, the metrics, the protocol, versions.

    Raises:
        JobError: as training and evaluation.
    """
    from core.training.train import train  # noqa: PLC0415  # torch: seconds of imports

    ticks: list[Tick] = []
    train(spec.training, emit=ticks.append, should_stop=lambda: False)
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
        "seconds_trained": round(trained_s(ticks), 2),
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
