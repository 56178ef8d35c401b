"""Seconds an iteration of the trainer against the textbook's, in alternation: one JSON object a line.

    python -m benchmarks.train_step [--cases 64:0.5 128:0.5 256:1] [--rounds 5]

Each side runs in a process of its own, so that each has its own peak of memory; they take turns, and the one that
waits sleeps. `tflop` is counted on the textbook's iteration; `peak_fraction` is what ours executes in a second, over
this machine's bf16 matrix product.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ablation_run import environment
from benchmarks.textbook_step import TextbookStep
from core.schemas.families import parse_config
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import TrainingSpec
from core.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.schemas.families import Config

PICTURES = 64
COUNTED = 16  # iterations whose operations are counted: lazy penalties come every 8 or 16
PEAK_SIDE = 4096
TERA = 1e12


def random_pictures(folder: Path, *, side: int) -> Path:
    """A new folder of pictures in a folder."""
    random = np.random.default_rng(0)
    images_dir = folder / "pictures"
    images_dir.mkdir()
    for index in range(PICTURES):
        pixels = random.integers(256, size=(side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images_dir / f"{index}.png")
    return images_dir


def random_training(config: Config, *, folder: Path, weights_dir: Path) -> TrainingSpec:
    """A training on random pictures: the work is that of real ones."""
    return TrainingSpec(
        config=config,
        images_dir=random_pictures(folder, side=config.resolution),
        dataset_hash="random",
        work_dir=folder,
        cache_dir=folder / "cache",
        weights_dir=weights_dir,
        device="cuda:0" if torch.cuda.is_available() else "cpu",
    )


class _NoModules(nullcontext[None]):
    """In place of torch's tracker of modules, whose hooks refuse the second derivatives of penalties."""

    parents = frozenset({"Global"})


def settling(config: Config) -> int:
    """Iterations before those that are measured: in the first one memory is allocated.

    A training on codes encodes each picture when it is first shown to the codes' discriminator. Two passes over the
    pictures hold one that is whole after the end of stage one, wherever in a pass that comes.
    """
    first = math.ceil(config.stage_one / config.shown) if config.family == "codes" else 0
    if config.family != "codes" or first > PICTURES:  # stage one itself is measured
        return 1
    return first + 2 * math.ceil(PICTURES / config.shown)


def serve(side: str, config: Config, *, weights_dir: Path) -> None:
    """Be one side: answer every line of stdin with the seconds of an iteration, then with the peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, save = None, None
        if side == "ours":
            spec = random_training(config, folder=Path(folder), weights_dir=weights_dir)
            trainer = Trainer(spec, emit=lambda _tick: None, check_stop=lambda: None)
            step, save = trainer.iterate, trainer.save
        else:
            assert isinstance(config, SlaeganConfig)
            step = TextbookStep(config)
        for _ in range(settling(config)):
            step()
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _NoModules()  # type: ignore[assignment]
        with counter:
            for _ in range(COUNTED):
                step()
        print(counter.get_total_flops() / COUNTED, flush=True)
        for _ in sys.stdin:
            print(_seconds(step), flush=True)
        # A save's stall, while no other save is in flight, comes after the peak of the steps.
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
        print(_seconds(save) if save else 0, flush=True)
        if trainer is not None:
            trainer.close()


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


class Side:
    """A process that takes iterations when told to; those by which it settles are behind it."""

    def __init__(self, side: str, config: Config, *, weights_dir: Path) -> None:
        command = [
            *(sys.executable, "-P", "-m", "benchmarks.train_step", "--side", side),
            *("--config", config.model_dump_json(), "--weights", str(weights_dir)),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        self.tflop = self._number() / TERA

    def step(self) -> float:
        """Seconds of one iteration."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return self._number()

    def end(self) -> tuple[float, float]:
        """Let it end; its peak of resident memory in MB, and how long a save held it up in seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        found = self._number(), self._number()
        self._process.stdout.close()
        self._process.wait()
        return found

    def _number(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


def matrix_peak() -> float:
    """TFLOP a second of a large bf16 matrix product on this machine, the best of a few."""
    a, b = (torch.randn(PEAK_SIDE, PEAK_SIDE).to(torch.bfloat16) for _ in range(2))
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        a @ b
        taken.append(time.perf_counter() - began)
    return 2 * PEAK_SIDE**3 / min(taken) / TERA


def measure(config: SlaeganConfig, *, rounds: int, weights_dir: Path) -> dict[str, Any]:
    """Take both sides in alternation."""
    sides = {name: Side(name, config, weights_dir=weights_dir) for name in ("plain", "ours")}
    peak = matrix_peak()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(side.step())
    plain_s, ours_s = (statistics.median(taken[name]) for name in sides)
    (plain_mb, _), (ours_mb, stall_s) = (side.end() for side in sides.values())
    return {
        "bench": "train",
        "resolution": config.resolution,
        "width": config.width,
        "batch": config.batch,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "plain_s": round(plain_s, 4),
        "ours_s": round(ours_s, 4),
        "ratio": round(plain_s / ours_s, 2),
        "tflop": round(sides["plain"].tflop, 4),
        "ours_tflop": round(sides["ours"].tflop, 4),
        "bf16_peak_tflops": round(peak, 3),
        "peak_fraction": round(sides["ours"].tflop / ours_s / peak, 3),
        "plain_rss_mb": round(plain_mb),
        "ours_rss_mb": round(ours_mb),
        "save_stall_s": round(stall_s, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["64:0.5", "128:0.5", "256:1"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=platformdirs.user_cache_path("slaegan") / "weights")
    parser.add_argument("--side", choices=["plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--config", type=lambda text: parse_config(json.loads(text)), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.config, weights_dir=options.weights)
        return
    for case in options.cases:
        resolution, width = case.split(":")
        config = SlaeganConfig.model_validate({"resolution": int(resolution), "width": float(width)})
        print(json.dumps(measure(config, rounds=options.rounds, weights_dir=options.weights)), flush=True)


if __name__ == "__main__":
    main()
