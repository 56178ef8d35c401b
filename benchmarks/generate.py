"""How soon pictures are there: a cold process and a warm one, SLAE-GAN at width 1; prints one JSON line.

    python -m benchmarks.generate [--resolution 256] [--count 16] [--repeats 5]

The generator has random weights, which take as long as trained ones. Cold is a new process, from its start to the last
file: the interpreter, torch's import, the generator's file, the pictures. Warm is one `render`, of seeds not seen
before: pictures, PNGs, the archive and the grid. Its processor time, over all threads, tells what it takes where other
programs share the cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from core.generation.generators import Generators
from core.generation.render import render
from core.models.slaegan import METADATA
from core.schemas.generations import PicturesIn
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import RenderSpec
from core.training.deployed import DeployedGenerator
from core.training.families import family_of
from core.training.metadata import MetadataBank
from core.training.snapshot import write_generator

_PICTURES_OF_BANK = 100
_GOAL_S = 3.0


def main() -> None:
    """Measure, and print the line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--spec", type=Path, help="render this specification once, as the cold process does")
    asked = parser.parse_args()
    if asked.spec is not None:
        render(RenderSpec.model_validate_json(asked.spec.read_bytes()), generators=Generators())
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(asked, Path(folder))))


def _measure(asked: argparse.Namespace, folder: Path) -> dict[str, object]:
    config = SlaeganConfig(resolution=asked.resolution, width=1.0)
    _write_generator(folder / "generator.safetensors", config)
    generators = Generators()
    warm, processor = [], []
    for repeat in range(asked.repeats + 1):
        spec = _spec(folder, config, seed=repeat * asked.count, count=asked.count)
        begin, used = time.perf_counter(), time.process_time()
        render(spec, generators=generators)
        warm.append(time.perf_counter() - begin)
        processor.append(time.process_time() - used)
    path = folder / "spec.json"
    path.write_text(_spec(folder, config, seed=0, count=asked.count).model_dump_json())
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.generate", "--spec", str(path)], check=True)
    cold = time.perf_counter() - begin
    return {
        "benchmark": "generate",
        "resolution": asked.resolution,
        "count": asked.count,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "warm_s": [round(seconds, 3) for seconds in warm[1:]],
        "warm_median_s": round(statistics.median(warm[1:]), 3),
        "warm_processor_s": round(statistics.median(processor[1:]), 3),
        "first_s": round(warm[0], 3),
        "cold_s": round(cold, 3),
        "goal_s": _GOAL_S,
    }


def _write_generator(path: Path, config: SlaeganConfig) -> None:
    torch.manual_seed(0)
    network = family_of(config).deployable(config, classes=0, spectral=False).eval()
    bank = MetadataBank.of(torch.rand(_PICTURES_OF_BANK, METADATA))
    write_generator(path, DeployedGenerator(network, config=config, bank=bank), images_seen=0)


def _spec(folder: Path, config: SlaeganConfig, *, seed: int, count: int) -> RenderSpec:
    work_dir = Path(tempfile.mkdtemp(dir=folder))
    return RenderSpec(
        generator=folder / "generator.safetensors",
        config=config,
        request=PicturesIn(seed=seed, count=count),
        work_dir=work_dir,
        cache_dir=folder / "cache",
        weights_dir=folder / "weights",
        device="cpu",
    )


if __name__ == "__main__":
    main()
