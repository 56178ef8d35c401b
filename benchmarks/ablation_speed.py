"""How many pictures fit in a time: the trainer's speed under each variant, measured once, in alternation.

Runs then end after a number of pictures, and not when a clock says so: they repeat exactly, may share the machine, and
may be interrupted.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import TYPE_CHECKING, Any

from core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from core.schemas.families import Config

ITERATIONS = 48  # lazy penalties come every 8 or 16
# What does not change how long an iteration takes.
_IRRELEVANT = {
    *("seed", "total_images", "evaluate_every_images", "checkpoint_every_images"),
    *("evaluation", "evaluation_backlog", "stopping", "alarms", "retention"),
}


def speed_key(config: Config) -> str:
    """What a speed is filed under: all of the configuration that makes a difference, so that no later default does."""
    return json.dumps(config.model_dump(mode="json", exclude=_IRRELEVANT), sort_keys=True)


class Speeds:
    """Seconds an iteration, by configuration, in a JSON file beside the results.

    Args:
        path: of the file; what is in it is not measured again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}

    def measure(self, configs: Iterable[Config], *, weights_dir: Path) -> None:
        """Measure all configurations in alternation, unless all are known; nothing else should run meanwhile."""
        wanted = {speed_key(config): config for config in configs}
        if wanted.keys() <= self._known.keys():
            return
        print(f"measuring the speed of {len(wanted)} variants", file=sys.stderr, flush=True)
        for key, measured in _alternating(wanted, weights_dir=weights_dir).items():
            self._known.setdefault(key, measured)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._path) as temporary:
            temporary.write_text(json.dumps(self._known, indent=1) + "\n")

    def of(self, config: Config) -> dict[str, Any]:
        """What was measured, such as iteration_s, tflop and peak_mb; empty where nothing was."""
        return self._known.get(speed_key(config), {})

    def images(self, config: Config, *, seconds: float) -> int:
        """Pictures that a time holds, of whole iterations. Raises KeyError where the speed is not known."""
        iteration_s: float = self._known[speed_key(config)]["iteration_s"]
        return max(1, round(seconds / iteration_s)) * config.shown


def _alternating(configs: dict[str, Config], *, weights_dir: Path) -> dict[str, dict[str, Any]]:
    """The cost of an iteration of each, measured one at a time in turn, each in a process of its own."""
    from benchmarks.train_step import Side  # noqa: PLC0415  # torch: seconds of imports

    sides = {key: Side("ours", config, weights_dir=weights_dir) for key, config in configs.items()}
    times: dict[str, list[float]] = {key: [] for key in sides}
    for _ in range(ITERATIONS):
        for key, side in sides.items():
            times[key].append(side.step())
    found = {}
    for key, side in sides.items():
        peak_mb, _ = side.end()
        # The mean: some families have steps that come only every so many iterations.
        found[key] = {
            "iteration_s": statistics.fmean(times[key]),
            "of": ITERATIONS,
            "tflop": side.tflop,
            "peak_mb": round(peak_mb),
        }
    return found
