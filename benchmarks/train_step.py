"""Seconds an iteration of the trainer, float32 against bfloat16, taken in alternation: one JSON object a line.

    python -P benchmarks/train_step.py [--resolutions 64 128] [--rounds 5]

Random pictures serve as well as real ones: the work is the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import torch

from core.schemas.training import SlaeganConfig
from core.training import precision
from core.training.ema import Ema
from core.training.guard import Guard
from core.training.metadata import MetadataBank
from core.training.perceptual import Lpips
from core.training.slaegan import Slaegan, build_networks

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = 64
METADATA = 512


def prepare(config: SlaeganConfig, *, weights_dir: Path) -> Callable[[], float]:
    """Build networks and optimisers; return a function that takes one iteration and gives its seconds."""
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

    def iterate() -> float:
        started = time.perf_counter()
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
        return time.perf_counter() - started

    return iterate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=platformdirs.user_cache_path("slaegan") / "weights")
    options = parser.parse_args()
    for resolution in options.resolutions:
        kinds = ("fp32", "bf16")
        configs = {
            kind: SlaeganConfig.model_validate({"resolution": resolution, "precision": kind})
            for kind in kinds
        }
        steps = {kind: prepare(config, weights_dir=options.weights) for kind, config in configs.items()}
        for step in steps.values():
            step()  # The first iteration compiles and allocates.
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind in kinds:
                times[kind].append(steps[kind]())
        medians = {kind: statistics.median(taken) for kind, taken in times.items()}
        print(
            json.dumps(
                {
                    "bench": "train_step",
                    "resolution": resolution,
                    "width": configs["bf16"].width,
                    "batch": configs["bf16"].batch,
                    "rounds": options.rounds,
                    "threads": torch.get_num_threads(),
                    "fp32_s": round(medians["fp32"], 4),
                    "bf16_s": round(medians["bf16"], 4),
                    "ratio": round(medians["fp32"] / medians["bf16"], 2),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
