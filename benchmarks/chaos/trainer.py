"""The training child of chaos runs: a cheap training by default, the real SLAE-GAN where the job's seed asks for it.

    python -P -m benchmarks.chaos.trainer SPEC.json --ticks-fd N --parent-pid P [--threads T]

It speaks as worker.train_process does: bound to its parent, ticks on a pipe, SIGTERM saves and ends.
"""

from __future__ import annotations

import signal
import sys
import time
from threading import Event
from typing import TYPE_CHECKING

from benchmarks.chaos.walk import Walk, picture, write_durably
from core.parent import bind_to_parent
from core.schemas.ticks import (
    FactsTick,
    FinishedTick,
    ProgressTick,
    SnapshotTick,
    StateTick,
    StoppedTick,
    Tick,
    TrainingSpec,
)
from worker.child import emitter, parse_arguments, run_guarded

if TYPE_CHECKING:
    from collections.abc import Callable

# Seeds below it are of trainings by the real child.
CHEAP_FROM = 1_000_000
STEP_S = 0.04


def train(
    spec: TrainingSpec,
    *,
    emit: Callable[[Tick], None],
    should_stop: Callable[[], bool],
    step_s: float = STEP_S,
) -> None:
    """Train to the end, or until asked to stop; as core.training.train, snapshots come before states.

    Args:
        spec: configuration, work folder, and a state to go on from.
        emit: takes each tick; a file named in a tick is complete.
        should_stop: asked once an iteration; when true the state is saved and the training ends.
        step_s: how long an iteration seems to take.
    """
    walk = Walk.resumed(spec.config, spec.resume.read_bytes()) if spec.resume else Walk(spec.config)
    emit(FactsTick(facts={"device": "cpu", "trainer": "chaos"}))

    def save() -> None:
        walk.state_at = walk.images_seen
        name = f"state-{walk.images_seen:09d}.json"
        write_durably(spec.work_dir / name, walk.state())
        emit(StateTick(images_seen=walk.images_seen, state=name))

    def snapshot() -> None:
        walk.snapshot_at = walk.images_seen
        stem = f"snapshot-{walk.images_seen:09d}"
        write_durably(spec.work_dir / f"{stem}.safetensors", walk.generator())
        write_durably(spec.work_dir / f"{stem}.png", picture(walk.images_seen))
        emit(SnapshotTick(images_seen=walk.images_seen, generator=f"{stem}.safetensors", grid=f"{stem}.png"))

    while True:
        if walk.snapshot_is_due():
            snapshot()
        if walk.state_is_due():
            save()
        if walk.finished:
            break
        if should_stop():
            if walk.state_at != walk.images_seen:
                save()
            emit(StoppedTick(images_seen=walk.images_seen))
            return
        losses = walk.step()
        rate = spec.config.batch / step_s if step_s else 0.0
        emit(ProgressTick(images_seen=walk.images_seen, images_per_s=rate, losses=losses))
        sys.stdout.write(f"iteration at {walk.images_seen} images\n")
        sys.stdout.flush()
        time.sleep(step_s)
    emit(FinishedTick(images_seen=walk.images_seen))


def main() -> int:
    """Run one training; the exit code is 0 when it finished or was stopped, else 1."""
    arguments = parse_arguments()
    bind_to_parent(arguments.parent_pid)
    spec = TrainingSpec.model_validate_json(arguments.spec.read_bytes())
    if spec.config.seed < CHEAP_FROM:
        from worker.train_process import main as train_slaegan  # noqa: PLC0415  # only where it is wanted

        return train_slaegan()
    stop = Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    emit = emitter(arguments.ticks_fd)
    return run_guarded(lambda: train(spec, emit=emit, should_stop=stop.is_set), emit=emit)


if __name__ == "__main__":
    sys.exit(main())
