"""The nearest picture that a generator can make to a given one.

Shapes: N = 1 picture, K classes, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors.torch import save_file

from core.errors import ConfigurationFailed
from core.files import atomic_path
from core.generation import sheets
from core.generation.files import as_image, as_png, told, write
from core.metrics.backtracking import backtrack
from core.training.data import read_picture

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from core.generation.generators import Generators
    from core.metrics.backtracking import Reached
    from core.schemas.generations import Projection
    from core.schemas.ticks import RenderedFile, RenderSpec
    from core.training.deployed import DeployedGenerator
    from core.training.perceptual import Lpips

_DIGITS = 6


def render_projection(
    spec: RenderSpec, request: Projection, *, generators: Generators
) -> tuple[list[RenderedFile], dict[str, Any]]:
    """What was reached first, then it beside the target, and the latent with its noise planes.

    Its facts are `lpips` of the whole pictures; `l2`, the root of the mean square difference of pixels in [0, 1];
    `steps`; and `class_name`, where there are classes.

    Raises:
        ConfigurationFailed: there is no picture to come near.
        DataFailed: it cannot be read.
        NonFinite: the generator left the finite numbers.
        WeightsMissing: VGG-16's weights are not there and not to be had.
    """
    if spec.picture is None:
        raise ConfigurationFailed("A projection needs a picture to come near, and none is there.")
    generator = generators.of(spec.generator, device=spec.device)
    lpips = generators.lpips(spec.weights_dir, device=spec.device)
    target_N3HW = read_picture(
        spec.picture, side=spec.config.resolution, fit=spec.config.fit, resample=Image.Resampling.LANCZOS
    )[None]
    label = None
    if generator.classes is not None:
        label = _label(generator, request, target_N3HW=target_N3HW, lpips=lpips)
    reached = backtrack(
        generator,
        target_N3HW,
        lpips=lpips,
        steps=request.steps,
        seed=request.seed,
        labels_N=None if label is None else torch.tensor([label]),
    )
    difference = (reached.pictures_N3HW.double() - target_N3HW.double()) / 255
    facts: dict[str, Any] = {
        "lpips": round(float(reached.lpips_N[0]), _DIGITS),
        "l2": round(float(difference.square().mean().sqrt()), _DIGITS),
        "steps": request.steps,
    }
    if generator.classes is not None and label is not None:
        facts["class_name"] = generator.classes.names[label]
    return _written(spec.work_dir, reached, target_N3HW=target_N3HW, label=label), facts


def _label(generator: DeployedGenerator, request: Projection, *, target_N3HW: Tensor, lpips: Lpips) -> int:
    """The class that was named, else the one whose picture of the first latent is nearest."""
    assert generator.classes is not None, "it was trained by class"
    names = generator.classes.names
    if request.class_name is not None:
        return names.index(request.class_name)
    tried = [
        backtrack(
            generator, target_N3HW, lpips=lpips, steps=0, seed=request.seed, labels_N=torch.tensor([label])
        )
        for label in range(len(names))
    ]
    return int(torch.cat([one.lpips_N for one in tried]).argmin())


def _written(
    work_dir: Path, reached: Reached, *, target_N3HW: Tensor, label: int | None
) -> list[RenderedFile]:
    found, target = as_image(reached.pictures_N3HW[0]), as_image(target_N3HW[0])
    write(work_dir / "projection.png", as_png(found))
    write(work_dir / "comparison.png", as_png(sheets.strip([target, found])))
    tensors = {"latent": reached.latent_NZ[0]}
    tensors |= {f"noise.{index}": plane_N1HW[0, 0] for index, plane_N1HW in enumerate(reached.planes)}
    if label is not None:
        tensors["label"] = torch.tensor(label)
    with atomic_path(work_dir / "latent.safetensors") as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    return [
        told(work_dir / "projection.png", "main"),
        told(work_dir / "comparison.png", "preview"),
        told(work_dir / "latent.safetensors", "latent"),
    ]
