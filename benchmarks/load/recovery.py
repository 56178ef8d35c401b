"""A worker's orderly end while it trains, and its sudden one: what is lost, and how soon the job is trained again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.load.figures import Row
from benchmarks.load.jobs import LONG, Training
from benchmarks.load.rig import CHEAP_TRAINER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load.rig import Rig


def recovery(rig: Rig) -> Iterator[Row]:
    """Tell a worker to end while it trains; kill the next one, with everything below it, beside an idle one."""
    (told,) = rig.start_workers(1, train_module=CHEAP_TRAINER)
    training = Training.submit(rig, "recovery")
    training.wait_for("checkpoint", attempt=1)
    rig.stop(told)
    training.wait_for("queued", attempt=1)
    saved = "select max(images_seen) from checkpoints where job_id = %s and kind = 'state'"
    lost = training.images_trained() - rig.value(saved, [training.id])
    yield Row("SIGTERM of a worker, images lost (a step has 4)", lost, LONG["batch"])

    names = rig.start_workers(2, train_module=CHEAP_TRAINER)
    training.wait_for("checkpoint", attempt=2)
    running = rig.value("select worker from jobs where id = %s", [training.id])
    victim = next(name for name in names if running.startswith(f"{name}-"))
    struck = rig.value("select clock_timestamp()")
    _kill_tree(rig, victim)
    reached = training.images_trained()
    training.wait_for("training", attempt=3)
    noticed = training.event("queued", attempt=2)["at"]
    yield Row("kill -9 of a worker to noticed, s", (noticed - struck).total_seconds(), 75)
    again = training.event("training", attempt=3)["at"]
    yield Row("kill -9 of a worker to training again, s", (again - struck).total_seconds(), 90)
    resumed: dict[str, Any] = training.event("resumed", attempt=3)["payload"]
    interval = LONG["checkpoint_every_images"]
    yield Row(f"kill -9 of a worker, images lost (of {interval} between states)",
              reached - resumed["images_seen"], interval)  # fmt: skip
    training.ask("cancel")
    training.wait_for("cancelled", attempt=3)
    rig.stop(*(name for name in names if name != victim))


def _kill_tree(rig: Rig, name: str) -> None:
    worker = psutil.Process(rig.services.processes[name].pid)
    below = worker.children(recursive=True)
    rig.services.kill(name)
    for process in below:
        with suppress(psutil.NoSuchProcess):  # It dies with its parent.
            process.kill()
