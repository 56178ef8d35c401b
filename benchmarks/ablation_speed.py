"""How many pictures fit in a time: the trainer's speed under each variant, measured once, in alternation.

Runs then end after a number of pictures, and not when a clock says so: they repeat exactly, may share the machine, and
may be interrupted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablation_run import environment
from core.files import atomic_path
from core.schemas.training import SlaeganConfig
from worker.child import bind_to_parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROUNDS = 3
WARM_UP, ITERATIONS = 4, 16
# What does not change how long an iteration takes.
_IRRELEVANT = {
    *("seed", "total_images", "evaluate_every_images", "checkpoint_every_images"),
    *("evaluation", "stopping", "retention"),
}


def speed_key(config: SlaeganConfig) -> str:
    """What a speed is filed under: the configuration's keys that differ from the default and make a difference."""
    return json.dumps(
        config.model_dump(mode="json", exclude=_IRRELEVANT, exclude_defaults=True), sort_keys=True
    )


class Speeds:
    """Seconds an iteration, by configuration, in a JSON file beside the results.

    Args:
        path: of the file; what is in it is not measured again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    def measure(self, configs: Iterable[SlaeganConfig], *, weights_dir: Path) -> None:
        """Measure all configurations in alternation, unless all are known; nothing else should run meanwhile."""
        wanted = {speed_key(config): config for config in configs}
        if wanted.keys() <= self._known.keys():
            return
        times: dict[str, list[float]] = {key: [] for key in wanted}
        for number in range(1, ROUNDS + 1):
            for key, config in wanted.items():
                print(f"speed, round {number} of {ROUNDS}: {key}", file=sys.stderr, flush=True)
                times[key] += _measured(config, weights_dir=weights_dir)
        for key, seconds in times.items():
            self._known.setdefault(key, {"iteration_s": statistics.median(seconds), "of": len(seconds)})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._path) as temporary:
            temporary.write_text(json.dumps(self._known, indent=1) + "\n")

    def images(self, config: SlaeganConfig, *, seconds: float) -> int:
        """Pictures that a time holds, a multiple of the batch. Raises KeyError where the speed is not known."""
        iteration_s: float = self._known[speed_key(config)]["iteration_s"]
        return max(1, round(seconds / iteration_s)) * config.batch


def _measured(config: SlaeganConfig, *, weights_dir: Path) -> list[float]:
    """Seconds of some iterations in a process of its own."""
    command = [sys.executable, "-P", "-m", "benchmarks.ablation_speed"]
    done = subprocess.run(
        [*command, config.model_dump_json(), str(weights_dir), str(os.getpid())],
        env=environment(),
        stdout=subprocess.PIPE,
        check=True,
    )
    times: list[float] = json.loads(done.stdout)
    return times


def main(arguments: Sequence[str]) -> None:
    """Be the child: CONFIG WEIGHTS PARENT; prints the seconds of each iteration as JSON."""
    bind_to_parent(int(arguments[2]))
    from benchmarks.train_step import our_trainer  # noqa: PLC0415  # torch: seconds of imports

    with tempfile.TemporaryDirectory() as folder:
        config = SlaeganConfig.model_validate_json(arguments[0])
        trainer = our_trainer(config, folder=Path(folder), weights_dir=Path(arguments[1]))
        times = []
        for _ in range(WARM_UP + ITERATIONS):
            began = time.perf_counter()
            trainer.iterate()
            times.append(time.perf_counter() - began)
        trainer.close()
    print(json.dumps(times[WARM_UP:]))


if __name__ == "__main__":
    main(sys.argv[1:])
