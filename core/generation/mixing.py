"""A table of pictures with their layout from some seeds and their style from others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from core.generation import sheets
from core.generation.drawing import drawn_of, picture_of, pixels, studio
from core.generation.files import as_image, as_png, told, write
from core.generation.film import label_of

if TYPE_CHECKING:
    from PIL import Image

    from core.generation.generators import Generators
    from core.schemas.generations import StyleMixIn
    from core.schemas.ticks import RenderedFile, RenderSpec
    from core.training.deployed import DeployedGenerator


def render_mix(
    spec: RenderSpec, request: StyleMixIn, *, generators: Generators
) -> tuple[list[RenderedFile], dict[str, Any]]:
    """The table with the seeds' own pictures at its heads first, then its cells; and facts: `from_side`."""
    generator = generators.of(spec.generator, device=spec.device)
    label = label_of(generator, request.class_name, seed=request.rows[0])
    from_side = request.from_side or spec.config.mixing_sides[0]
    one = partial(_head, generator=generator, label=label, truncation=request.truncation)
    cell = partial(
        _cell, generator=generator, label=label, from_side=from_side, truncation=request.truncation
    )
    pairs = [(row, column) for row in request.rows for column in request.columns]
    with studio(spec.device) as pool:
        rows, columns = (list(pool.each(one, seeds)) for seeds in (request.rows, request.columns))
        cells = list(pool.each(cell, pairs))
    across = len(request.columns)
    lines = [cells[start : start + across] for start in range(0, len(cells), across)]
    write(spec.work_dir / "mix.png", as_png(sheets.table(rows, columns, lines)))
    files = [told(spec.work_dir / "mix.png", "main")]
    for (row, column), image in zip(pairs, cells, strict=True):
        path = spec.work_dir / f"seed-{row}-style-{column}.png"
        write(path, as_png(image))
        files.append(told(path, "picture"))
    return files, {"from_side": from_side}


def _head(seed: int, *, generator: DeployedGenerator, label: int | None, truncation: float) -> Image.Image:
    return as_image(picture_of(generator, seed, label=label, truncation=truncation))


@torch.inference_mode()
def _cell(
    pair: tuple[int, int],
    *,
    generator: DeployedGenerator,
    label: int | None,
    from_side: int,
    truncation: float,
) -> Image.Image:
    layout, style = (drawn_of(generator, seed, label=label) for seed in pair)
    made_13HW = generator.network.mix(
        layout.latent_NZ,
        style.latent_NZ,
        layout.planes,
        from_side=from_side,
        labels_N=layout.labels_N,
        truncation=truncation,
    )
    return as_image(pixels(made_13HW))
