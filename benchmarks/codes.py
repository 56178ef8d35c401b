"""What latent codes bring (family `codes`): speed, and what decoding loses. One JSON object a line.

    python -m benchmarks.codes [--sizes 256 512] [--factors 2 4 8 16] [--pictures FOLDER] [--images 1600]
        [--rounds 3] [--batch 4] [--results FILE]

Speed: seconds per 1,000 training pictures shown to the critic, of WGAN-GP on pictures against WGAN-GP on codes of a
quarter of the side, step by step in alternation in one process, on random pictures: the work is that of real ones. It
is told for two widths of the network of codes: of as many channels in its largest map as the other one, which is what
one configuration gives, and of twice as many, as in the paper's Table 2. `cpu` counts what all threads computed, which
other processes on the machine do not change. That every picture is encoded once in a training is told apart.

Reconstruction: stage one alone on real pictures of at most 128 pixels, by code size; then L1 (colours from -1 to 1),
MSE (from 0 to 1; the paper does not say of which) and LPIPS on pictures kept from it, at 128 and 256 pixels.

With --results each finished part is kept in that file, and not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import platformdirs
import torch
from PIL import Image

from benchmarks.train_step import PICTURES, random_training
from core.files import atomic_path
from core.models.autoencoder import Decoder, Encoder, PictureDiscriminator
from core.schemas.codes import CodesConfig
from core.schemas.wgan import WganGpConfig
from core.training import precision
from core.training.augment import flip
from core.training.autoencoding import Autoencoding, scaled
from core.training.data import EpochOrder, picture_paths, read_picture
from core.training.family import Setting
from core.training.perceptual import Lpips
from core.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from core.schemas.families import Config

PAPER_RATIO = {256: 30 / 8, 512: 56 / 22, 1024: 225 / 45}  # Table 3: minutes of 30,000 pictures
PAPER_MSE = {  # Table 1, by factor and side
    (2, 128): 2.7e-4,
    (2, 256): 2.0e-4,
    (4, 128): 1.3e-3,
    (4, 256): 1.0e-3,
    (8, 128): 3.4e-3,
    (8, 256): 2.8e-3,
}
CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = 16
SEEN_SIDE = 128
JUDGED_SIDES = (128, 256)
BATCH = 8
WIDTH = 16  # channels of the largest map where there are no codes
WIDER = (1, 2)


def speed(side: int, *, wider: int, rounds: int, batch: int, weights_dir: Path) -> Iterator[dict[str, Any]]:
    """Seconds per 1,000 pictures with and without codes, the two taking turns."""
    common = {"batch": batch, "discriminator_steps": 1, "resolution": side, "total_images": 10**6}
    width = WIDTH * wider
    configs: dict[str, Config] = {
        "pictures": WganGpConfig.model_validate({**common, "width": WIDTH, "generator_norm": "pixel"}),
        "codes": CodesConfig.model_validate(
            {**common, "pair_settings": {"width": width}, "autoencoder_images": 2}
        ),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in configs}
    with ExitStack() as stack:
        trainers = {}
        for name, config in configs.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            spec = random_training(config, folder=folder, weights_dir=weights_dir)
            trainers[name] = Trainer(spec, emit=lambda _tick: None, check_stop=lambda: None)
            stack.callback(trainers[name].close)
            trainers[name].iterate()  # allocates; that of codes is all of stage one
        trainers["pictures"].iterate()
        epoch = PICTURES // batch
        first = [_timed(trainers["codes"].iterate) for _ in range(epoch)]
        for _ in range(rounds):
            for name, trainer in trainers.items():
                taken[name].append(_timed(trainer.iterate))
    found: dict[str, Any] = {
        "width_pictures": WIDTH,
        "width_codes": width,
        "batch": batch,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "paper_ratio": round(PAPER_RATIO[side], 2),
    }
    for kind in ("wall", "cpu"):
        pictures_s, codes_s = (
            statistics.median(getattr(one, kind) for one in taken[name]) / batch * 1000 for name in configs
        )
        encoding_s = sum(getattr(one, kind) for one in first) / PICTURES * 1000 - codes_s
        found |= {
            f"pictures_{kind}_s_per_1000": round(pictures_s, 1),
            f"codes_{kind}_s_per_1000": round(codes_s, 1),
            f"{kind}_ratio": round(pictures_s / codes_s, 2),
            f"encoding_once_{kind}_s_per_1000": round(encoding_s, 1),
        }
    yield found


class Taken(NamedTuple):
    """Seconds of some work."""

    wall: float
    cpu: float


def _timed(work: Callable[[], None]) -> Taken:
    began, computed = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Taken(time.perf_counter() - began, time.process_time() - computed)


def reconstruction(
    factor: int, *, images_dir: Path, images: int, weights_dir: Path
) -> Iterator[dict[str, Any]]:
    """Train stage one, then judge what decoding loses; a dictionary for every side."""
    config = CodesConfig.model_validate(
        {
            "pair": "dcgan",
            "resolution": SEEN_SIDE,
            "batch": BATCH,
            "code_factor": factor,
            "total_images": 10**6,
        }
    )
    dtype = precision.resolve(config.precision, device=CPU)
    torch.manual_seed(config.seed)
    shape = {"factor": factor, "channels": config.autoencoder_channels}
    encoder, decoder = Encoder(**shape), Decoder(**shape)
    first = Autoencoding(
        config,
        encoder=encoder,
        decoder=decoder,
        discriminator=PictureDiscriminator(channels=2 * config.autoencoder_channels),
        setting=Setting(dtype=dtype, device=CPU, micro_batch=BATCH),
    )
    paths = picture_paths(images_dir)
    kept = [paths[index * len(paths) // HELD_OUT] for index in range(HELD_OUT)]
    seen_M3HW = _read([path for path in paths if path not in kept], side=SEEN_SIDE)
    began = time.perf_counter()
    _train(first, seen_M3HW, images=images)
    seconds = time.perf_counter() - began
    lpips = Lpips(weights_dir)
    for side in JUDGED_SIDES:
        real_N3HW = scaled(_read(kept, side=side))
        with torch.no_grad():
            made_N3HW = torch.cat([decoder(encoder(part)) for part in real_N3HW.split(2)])
            distance = torch.cat(
                [lpips(a, b) for a, b in zip(made_N3HW.split(2), real_N3HW.split(2), strict=True)]
            )
        yield {
            "code": f"h/{factor} x w/{factor} x 16",
            "resolution": side,
            "images": images,
            "pictures": len(seen_M3HW),
            "seconds": round(seconds, 1),
            "l1": round(float((made_N3HW - real_N3HW).abs().mean()), 5),
            "mse": round(float((made_N3HW - real_N3HW).square().mean() / 4), 6),
            "lpips": round(float(distance.mean()), 4),
            "paper_mse": PAPER_MSE.get((factor, side)),
        }


def _read(paths: list[Path], *, side: int) -> Tensor:
    resample = Image.Resampling.LANCZOS
    return torch.stack([read_picture(path, side=side, fit="crop", resample=resample) for path in paths])


def _train(first: Autoencoding, seen_M3HW: Tensor, *, images: int) -> None:
    """Stage one's two phases, each followed by its step, as the trainer takes them."""
    draws = torch.Generator().manual_seed(0)
    order = EpochOrder(len(seen_M3HW), seed=0)
    steps = {"autoencoder": first.step_autoencoder, "picture_discriminator": first.step_discriminator}
    optimisers = {name: first.optimiser(name) for name in steps}
    for position in range(0, images, BATCH):
        real_N3HW = flip(scaled(seen_M3HW[order.rows(position, batch=BATCH)]), generator=draws)
        for name, step in steps.items():
            optimisers[name].zero_grad(set_to_none=True)
            step(real_N3HW, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
            optimisers[name].step()


class Kept:
    """Finished parts by name, in a file where one is given."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[dict[str, Any]]] = {}
        if path is not None and path.is_file():
            self._known = json.loads(path.read_text())

    def tell(self, name: str, make: Callable[[], Iterator[dict[str, Any]]], **case: Any) -> None:
        """Print a part's lines, made now if they are not known, each with its case."""
        if name not in self._known:
            self._known[name] = [case | line for line in make()]
            if self._path is not None:
                with atomic_path(self._path) as temporary:
                    temporary.write_text(json.dumps(self._known, indent=1) + "\n")
        for line in self._known[name]:
            print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", choices=list(PAPER_RATIO), default=[256, 512])
    parser.add_argument("--factors", type=int, nargs="*", choices=[2, 4, 8, 16], default=[2, 4, 8, 16])
    parser.add_argument("--pictures", type=Path, default=ROOT.parent / "shared" / "data" / "cat_faces")
    parser.add_argument("--images", type=int, default=1600, help="pictures seen in each stage one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--weights", type=Path, default=platformdirs.user_cache_path("slaegan") / "weights")
    options = parser.parse_args()
    kept = Kept(options.results)
    for side in options.sizes:
        for wider in WIDER:
            measure = partial(
                speed,
                side,
                wider=wider,
                rounds=options.rounds,
                batch=options.batch,
                weights_dir=options.weights,
            )
            name = f"speed {side} {wider} {options.batch} {options.rounds}"
            kept.tell(name, measure, bench="codes-speed", resolution=side)
    if options.factors and not options.pictures.is_dir():
        print(json.dumps({"bench": "codes-reconstruction", "skipped": f"no pictures in {options.pictures}"}))
        return
    for factor in options.factors:
        learn = partial(
            reconstruction,
            factor,
            images_dir=options.pictures,
            images=options.images,
            weights_dir=options.weights,
        )
        name = f"reconstruction {options.pictures.name} {factor} {options.images}"
        kept.tell(name, learn, bench="codes-reconstruction")


if __name__ == "__main__":
    main()
