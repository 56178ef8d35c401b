"""Seconds of an evaluation against torch-fidelity's FID, in alternation: one JSON object a line.

    python -m benchmarks.metrics [--cases 64:5000 256:1000] [--real 100 1000] [--rounds 3]

Both sides draw the same pictures from the same generator and look at them with the same extractor. Ours knows what
depends on the real pictures alone, as after the first snapshot of a job; torch-fidelity is called as it comes, and once
more with its own cache of the real pictures' features (`cached`). Each run is a process of its own, with its own peak
of memory; loading weights counts on both sides, imports on neither. `what` says what ours computes: FID alone, or
every metric. `ratio` is torch-fidelity's time for FID alone in float32 over ours.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import torch
import torch_fidelity
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.utils.data import Dataset

from benchmarks.ablation_run import environment
from core.metrics.evaluate import evaluate
from core.metrics.features import Features
from core.metrics.fid import fid
from core.metrics.generated import observe
from core.metrics.networks import VGG16_NAME, register
from core.metrics.protocol import MetricProtocol, planned_protocol
from core.metrics.real import RealPictures, load_real
from core.models.slaegan import LATENT, Generator
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import EvaluationSpec
from core.training.deployed import DeployedGenerator
from core.training.metadata import MetadataBank
from core.training.snapshot import load_generator, write_generator
from core.weights import VGG16_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

CACHED = "torch-fidelity, real features known"
SIDES = {
    "torch-fidelity": ("fidelity", "fp32"),
    CACHED: ("fidelity, cached", "fp32"),
    "fid": ("fid", "fp32"),
    "fid-bf16": ("fid", "bf16"),
    "every metric": ("every metric", "fp32"),
    "every metric-bf16": ("every metric", "bf16"),
}


class Stream(torch_fidelity.GenerativeModelBase):  # type: ignore[misc]  # torch-fidelity is untyped
    """Our generator as torch-fidelity asks for one; the pictures come in their order, whatever noise it hands over."""

    z_size, z_type, num_classes = LATENT, "normal", 0

    def __init__(self, generator: DeployedGenerator) -> None:
        super().__init__()
        self._generator, self._seen = generator, 0
        self.network: nn.Module = generator.network  # whose device it looks for

    def forward(self, noise_NZ: Tensor) -> Tensor:
        pictures = self._generator.sample(seed=0, start=self._seen, count=len(noise_NZ), latents="mix")
        self._seen += len(noise_NZ)
        return pictures


class Pictures(Dataset[Tensor]):
    """Real pictures, uint8, one by one."""

    def __init__(self, pictures_M3HW: Tensor) -> None:
        self._pictures_M3HW = pictures_M3HW

    def __len__(self) -> int:
        return len(self._pictures_M3HW)

    def __getitem__(self, index: int) -> Tensor:
        return self._pictures_M3HW[index].clone()


def specify(
    folder: Path, *, resolution: int, generated: int, real: int, precision: str, weights_dir: Path
) -> EvaluationSpec:
    """An evaluation of an untrained generator against soft random pictures, made anew where they are not there."""
    evaluation = EvaluationConfig.model_validate(
        {"extractor": "vgg16", "precision": precision, "generated": generated}
    )
    config = SlaeganConfig.model_validate({"resolution": resolution, "evaluation": evaluation})
    images_dir = folder / f"real-{resolution}-{real}"
    if not images_dir.is_dir():
        images_dir.mkdir()
        draws = torch.Generator().manual_seed(0)
        for index in range(real):
            coarse = torch.rand(1, 3, 6, 6, generator=draws)
            soft = F.interpolate(coarse, size=resolution, mode="bicubic").clamp(0, 1) * 255
            Image.fromarray(soft[0].byte().permute(1, 2, 0).numpy()).save(images_dir / f"{index:05}.png")
    path = folder / f"generator-{resolution}.safetensors"
    if not path.is_file():
        torch.manual_seed(0)
        network = Generator(config, spectral=False).eval().requires_grad_(requires_grad=False)
        bank = MetadataBank.of(torch.randn(100, 512))
        write_generator(path, DeployedGenerator(network, config=config, bank=bank), images_seen=0)
    return EvaluationSpec(
        generator=path,
        images_dir=images_dir,
        dataset_hash=images_dir.name,
        config=config,
        protocol=planned_protocol(config, image_count=real).model_dump(mode="json"),
        cache_dir=folder / "cache",
        weights_dir=weights_dir,
        device="cpu",
    )


def _fidelity(spec: EvaluationSpec, *, cached: bool) -> Callable[[], float]:
    register()
    training_M3HW, _ = load_real(spec)
    stream = Stream(load_generator(spec.generator))
    options: dict[str, Any] = {
        "input2": Pictures(training_M3HW),
        "feature_extractor": VGG16_NAME,
        "feature_extractor_weights_path": str(spec.weights_dir / VGG16_FILE),
        "fid": True,
        "cuda": False,
        "verbose": False,
    }
    if cached:
        options |= {"cache_root": str(spec.cache_dir), "input2_cache_name": spec.dataset_hash}
    return lambda: torch_fidelity.calculate_metrics(
        input1=stream, input1_model_num_samples=spec.protocol["generated"], **options
    )["frechet_inception_distance"]


def _fid(spec: EvaluationSpec) -> Callable[[], float]:
    planned = MetricProtocol.model_validate(spec.protocol)
    protocol = planned.model_copy(update={"lpips_pairs": 0, "copies": 0})

    def work() -> float:
        features = Features(protocol, weights_dir=spec.weights_dir, device=spec.device)
        training_M3HW, held_out = load_real(spec)
        real = RealPictures(
            spec, planned, features=features, training_M3HW=training_M3HW, held_out_H3HW=held_out
        )
        generator = load_generator(spec.generator)
        seen = observe(generator, protocol, features=features, copies=None)
        return fid(seen.features_NF, real.features())

    return work


def measure(what: str, spec: EvaluationSpec) -> dict[str, float]:
    """Be one side, once: seconds, FID and the peak of resident memory in MB."""
    if what.startswith("fidelity"):
        work = _fidelity(spec, cached=what == "fidelity, cached")
    elif what == "fid":
        work = _fid(spec)
    else:

        def work() -> float:
            return evaluate(spec).metrics["fid"]

    began = time.perf_counter()
    value = work()
    seconds = time.perf_counter() - began
    return {"s": seconds, "fid": value, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run(side: str, options: argparse.Namespace, case: dict[str, int], folder: Path) -> dict[str, float]:
    """One side in a process of its own."""
    what, precision = SIDES[side]
    request = {
        **case,
        "what": what,
        "precision": precision,
        "folder": str(folder),
        "weights": str(options.weights),
    }
    command = [sys.executable, "-P", "-m", "benchmarks.metrics", "--request", json.dumps(request)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment())
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(options: argparse.Namespace, case: dict[str, int], folder: Path) -> None:
    """Print a line for each of our sides, medians over the rounds."""
    for side in SIDES:  # what is computed of the real pictures alone is there from now on
        run(side, options, {**case, "generated": min(case["generated"], 400)}, folder)  # as many pairs
    rounds = [{side: run(side, options, case, folder) for side in SIDES} for _ in range(options.rounds)]

    def median(side: str, key: str) -> float:
        return statistics.median(found[side][key] for found in rounds)

    def ratio(theirs: str, ours: str) -> float:
        return round(statistics.median(found[theirs]["s"] / found[ours]["s"] for found in rounds), 3)

    theirs = median("torch-fidelity", "fid")
    for side, (what, precision) in SIDES.items():
        if what.startswith("fidelity"):
            continue
        result = {
            "bench": "metrics", **case, "extractor": "vgg16", "precision": precision, "what": what,
            "ours_s": round(median(side, "s"), 2),
            "fidelity_s": round(median("torch-fidelity", "s"), 2),
            "fidelity_cached_s": round(median(CACHED, "s"), 2),
            "ratio": ratio("torch-fidelity", side),
            "ratio_cached": ratio(CACHED, side),
            "rss_mb": round(median(side, "rss_mb")),
            "fidelity_rss_mb": round(median("torch-fidelity", "rss_mb")),
            "relative_difference": abs(median(side, "fid") - theirs) / theirs,
        }  # fmt: skip
        print(json.dumps(result), flush=True)


def main() -> None:
    """Compare every case, or be a side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=["64:5000", "256:1000"], help="resolution:generated")
    parser.add_argument("--real", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    weights = Path(platformdirs.user_cache_dir("slaegan")) / "weights"
    parser.add_argument("--weights", type=Path, default=weights)
    parser.add_argument("--request", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.request:
        request = json.loads(options.request)
        what, folder = request.pop("what"), Path(request.pop("folder"))
        spec = specify(folder, weights_dir=Path(request.pop("weights")), **request)
        print(json.dumps(measure(what, spec)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for text in options.cases:
            resolution, generated = map(int, text.split(":"))
            for real in options.real:
                case = {"resolution": resolution, "generated": generated, "real": real}
                compare(options, case, Path(folder))


if __name__ == "__main__":
    main()
