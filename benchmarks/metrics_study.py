"""What the metrics say of generators that are known: one JSON object a line, for docs/metrics.md.

    python -m benchmarks.metrics_study --pictures cats=FOLDER [name=FOLDER ...] [--generators cats=FILE ...]

Of each dataset come the floors; a memoriser, which replays training pictures with noise; and of each of its generators
(safetensors of this service, one a training seed) three draws: the spread over draws is that of the metric, the spread
over trainings that of the method.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import torch

from benchmarks.ablation import Dataset, read_dataset
from core.jobs.alarms import alarms
from core.metrics.features import Features
from core.metrics.measure import measure
from core.metrics.protocol import MetricProtocol, planned_protocol, resolve
from core.metrics.real import RealPictures, load_real
from core.schemas.judging import AlarmConfig, EvaluationConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import EvaluationSpec
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

DRAWS = 3
NOISES = (0, 8, 24)


@dataclass(frozen=True)
class Memoriser:
    """Stands where a generator would: picture i of a seed is some training picture, or its mirror image, with noise."""

    pictures_M3HW: Tensor
    noise: float
    """Standard deviation, of 255."""

    def sample(self, *, seed: int, start: int, count: int, latents: str, label: int | None = None) -> Tensor:
        """As DeployedGenerator.sample; there are neither latents nor classes."""
        del latents, label
        return torch.cat([self._one(seed, index) for index in range(start, start + count)])

    def _one(self, seed: int, index: int) -> Tensor:
        random = np.random.Generator(np.random.Philox(key=[seed, index]))
        picture_3HW = self.pictures_M3HW[int(random.integers(len(self.pictures_M3HW)))].float()
        picture_3HW = picture_3HW.flip(2) if random.random() < 0.5 else picture_3HW
        noise_3HW = torch.from_numpy(random.standard_normal(picture_3HW.shape, dtype=np.float32))
        return (picture_3HW + self.noise * noise_3HW).round().clamp(0, 255).to(torch.uint8)[None]

    def bank_rows(self, indices: Sequence[int], *, seed: int, latents: str) -> None:
        """No metadata has a part in it."""


def study(dataset: Dataset, files: list[Path], options: argparse.Namespace) -> None:
    """Print the lines of one dataset."""
    asked = EvaluationConfig(extractor="vgg16", precision=options.precision, generated=options.generated)
    evaluation = resolve(asked, weights_dir=options.weights)
    config = SlaeganConfig(resolution=options.resolution, evaluation=evaluation)
    protocol = planned_protocol(config, image_count=dataset.pictures)
    spec = EvaluationSpec(
        generator=Path("none"),
        images_dir=dataset.folder,
        dataset_hash=dataset.hash,
        config=config,
        protocol=protocol.model_dump(mode="json"),
        cache_dir=options.cache,
        weights_dir=options.weights,
        device="cpu",
    )
    features = Features(protocol, weights_dir=options.weights, device="cpu")
    training_M3HW, _ = load_real(spec)
    real = RealPictures(spec, protocol, features=features, training_M3HW=training_M3HW, held_out_H3HW=None)
    head = {"dataset": dataset.name, "pictures": dataset.pictures}
    print(json.dumps({**head, "floors": real.floors()}), flush=True)
    for noise in NOISES:
        found, _ = measure(Memoriser(training_M3HW, noise), protocol, features=features, real=real)
        raised = alarms([found], rules=AlarmConfig())
        told = {**head, "protocol": protocol.hash()[:12], "memoriser": noise, **found, "alarms": raised}
        print(json.dumps(told), flush=True)
    for path in files:
        for draw in range(DRAWS):
            found = _draw(path, protocol.model_copy(update={"seed": draw}), features=features, real=real)
            raised = alarms([found], rules=AlarmConfig())
            print(
                json.dumps({**head, "generator": path.name, "draw": draw, **found, "alarms": raised}),
                flush=True,
            )


def _draw(
    path: Path, protocol: MetricProtocol, *, features: Features, real: RealPictures
) -> dict[str, object]:
    generator = load_generator(path)
    if generator.config.resolution != protocol.resolution:
        raise ValueError(f"{path} draws pictures of {generator.config.resolution} pixels: give --resolution")
    used = protocol.model_copy(update={"latents": "mix" if generator.config.metadata else "plain"})
    found, _ = measure(generator, used, features=features, real=real)
    facts = {"training_seed": generator.config.seed, "images_seen": generator.images_seen}
    return {"protocol": used.hash()[:12], **facts, **found}


def main() -> None:
    """Study every dataset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", nargs="+", required=True, metavar="name=FOLDER")
    parser.add_argument("--generators", nargs="*", default=[], metavar="name=FILE", help="of that dataset")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--generated", type=int, default=1000)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    cache = platformdirs.user_cache_path("slaegan")
    parser.add_argument("--weights", type=Path, default=cache / "weights")
    parser.add_argument("--cache", type=Path, default=cache / "study")
    options = parser.parse_args()
    for text in options.pictures:
        dataset = read_dataset(text)
        files = [
            Path(file)
            for name, _, file in (g.partition("=") for g in options.generators)
            if name == dataset.name
        ]
        study(dataset, files, options)


if __name__ == "__main__":
    main()
