"""Seconds from the start of a training process to its first step, everything that is cached being there: JSON.

    python -m benchmarks.first_step [--resolution 64] [--starts 5]

The process is the one that a worker starts; its first progress is told when the losses of one iteration are known.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import platformdirs

from benchmarks.ablation_run import environment
from benchmarks.train_step import random_training
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import TICK, FactsTick, ProgressTick, TrainingSpec


def start(spec: TrainingSpec) -> dict[str, float]:
    """Start a process, end it after its first step; seconds until each kind of tick first came."""
    path = spec.work_dir / "spec.json"
    path.write_text(spec.model_dump_json())
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", "worker.train_process", str(path)]
    began = time.perf_counter()
    child = subprocess.Popen(
        [*command, "--ticks-fd", str(writing), "--parent-pid", str(os.getpid())],
        pass_fds=[writing],
        env=environment(),
    )
    os.close(writing)
    seconds: dict[str, float] = {}
    with os.fdopen(reading, "rb") as pipe:
        for line in pipe:
            tick = TICK.validate_json(line)
            seconds.setdefault(type(tick).__name__, time.perf_counter() - began)
            if isinstance(tick, ProgressTick):
                child.kill()
    child.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=platformdirs.user_cache_path("slaegan") / "weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        config = SlaeganConfig.model_validate({"resolution": options.resolution})
        spec = random_training(config, folder=Path(name), weights_dir=options.weights)
        start(spec)  # fills the caches
        found = [start(spec) for _ in range(options.starts)]
    facts_s, step_s = (
        statistics.median(seconds[kind.__name__] for seconds in found) for kind in (FactsTick, ProgressTick)
    )
    print(
        json.dumps(
            {
                "bench": "first_step",
                "resolution": config.resolution,
                "starts": options.starts,
                "networks_s": round(facts_s, 2),
                "first_step_s": round(step_s, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
