"""Seconds an iteration of the trainer against the textbook's, in alternation: one JSON object a line.

    python -m benchmarks.train_step [--cases 64:0.5 128:0.5 256:1] [--rounds 5]

Each side runs in a process of its own, so that each has its own peak of memory; they take turns, and the one that
waits sleeps. `tflop` is counted on the textbook's iteration; `peak_fraction` is what ours executes in a second, over
this machine's bf16 matrix product.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.textbook_step import TextbookStep
from core.schemas.training import SlaeganConfig
from core.training import precision
from core.training.ema import Ema
from core.training.guard import Guard
from core.training.metadata import MetadataBank
from core.training.perceptual import Lpips
from core.training.slaegan import Slaegan, build_networks
from worker.process import ALLOCATOR

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = 64
METADATA = 512
PEAK_SIDE = 4096
TERA = 1e12


def our_step(config: SlaeganConfig, *, weights_dir: Path) -> Callable[[], None]:
    """An iteration as the trainer takes it, on random pictures: the work is that of real ones."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = precision.resolve(config.precision, device=device)
    networks = build_networks(config, device=device)
    family = Slaegan(
        config,
        networks=networks,
        bank=MetadataBank.of(torch.rand(PICTURES, METADATA)),
        perceptual=Lpips(weights_dir, dtype=dtype, device=device),
        dtype=dtype,
        device=device,
    )
    optimisers = {phase.name: family.optimiser(phase) for phase in family.phases}
    scaler = precision.scaler(dtype, device=device)
    guard = Guard(networks, scaler=scaler, device=device)
    average = Ema(networks[family.averaged])
    side = config.resolution
    real = torch.randint(256, (config.batch, 3, side, side), dtype=torch.uint8, device=device)
    rows = torch.arange(config.batch, device=device)

    def backward(loss: torch.Tensor) -> None:
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's stub

    def iterate() -> None:
        guard.remember()
        family.begin(real, rows_N=rows)
        losses = {}
        for phase in family.phases:
            optimisers[phase.name].zero_grad(set_to_none=True)
            now = family.run(phase, backward=backward)
            guard.step(optimisers[phase.name], losses=now)
            losses |= now
        average.update(decay=0.999)
        guard.finish(losses)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return iterate


def serve(side: str, config: SlaeganConfig, *, weights_dir: Path) -> None:
    """Be one side: answer every line of stdin with the seconds of an iteration, then with the peak of memory."""
    step = our_step(config, weights_dir=weights_dir) if side == "ours" else TextbookStep(config)
    step()  # the first iteration allocates
    with FlopCounterMode(display=False) as counter:
        step()
    print(counter.get_total_flops(), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step()
        print(time.perf_counter() - began, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


class Side:
    """A process that takes iterations when told to."""

    def __init__(self, side: str, *, resolution: int, width: float, weights_dir: Path) -> None:
        command = [
            *(sys.executable, "-m", "benchmarks.train_step", "--side", side),
            *("--cases", f"{resolution}:{width}", "--weights", str(weights_dir)),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        self.tflop = self._number() / TERA

    def step(self) -> float:
        """Seconds of one iteration."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return self._number()

    def end(self) -> float:
        """Let it end; its peak of resident memory in MB."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = self._number()
        self._process.wait()
        return peak

    def _number(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


def _environment() -> dict[str, str]:
    import os  # noqa: PLC0415

    return ALLOCATOR | os.environ


def matrix_peak() -> float:
    """TFLOP a second of a large bf16 matrix product on this machine, the best of a few."""
    a, b = (torch.randn(PEAK_SIDE, PEAK_SIDE).to(torch.bfloat16) for _ in range(2))
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        a @ b
        taken.append(time.perf_counter() - began)
    return 2 * PEAK_SIDE**3 / min(taken) / TERA


def measure(*, resolution: int, width: float, rounds: int, weights_dir: Path) -> dict[str, Any]:
    """Take both sides in alternation."""
    sides = {
        name: Side(name, resolution=resolution, width=width, weights_dir=weights_dir)
        for name in ("plain", "ours")
    }
    peak = matrix_peak()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(side.step())
    plain_s, ours_s = (statistics.median(taken[name]) for name in sides)
    plain_mb, ours_mb = (side.end() for side in sides.values())
    return {
        "bench": "train",
        "resolution": resolution,
        "width": width,
        "batch": SlaeganConfig(resolution=resolution).batch,  # type: ignore[arg-type]  # one of the allowed
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
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["64:0.5", "128:0.5", "256:1"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=platformdirs.user_cache_path("slaegan") / "weights")
    parser.add_argument("--side", choices=["plain", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    for case in options.cases:
        resolution, width = case.split(":")
        if options.side:
            config = SlaeganConfig.model_validate({"resolution": int(resolution), "width": float(width)})
            serve(options.side, config, weights_dir=options.weights)
        else:
            found = measure(
                resolution=int(resolution),
                width=float(width),
                rounds=options.rounds,
                weights_dir=options.weights,
            )
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
