"""Pictures by their seeds: an archive, a grid, or both."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from core.generation import sheets
from core.generation.drawing import picture_of, studio
from core.generation.files import as_image, as_png, told, write, write_zip
from core.schemas.generations import MAX_GRID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from PIL import Image

    from core.generation.generators import Generators
    from core.generation.nearest import Neighbours
    from core.schemas.generations import PicturesIn
    from core.schemas.ticks import RenderedFile, RenderSpec
    from core.training.deployed import DeployedGenerator


class _Made(NamedTuple):
    name: str
    image: Image.Image
    png: bytes
    nearest: list[dict[str, Any]] | None  # training pictures, where they are asked for


def render_pictures(
    spec: RenderSpec, request: PicturesIn, *, generators: Generators
) -> tuple[list[RenderedFile], dict[str, Any]]:
    """The pictures of consecutive seeds.

    Returns:
        The archive or the grid first, then a file for each of the first 64 pictures; and facts: `nearest` by the
        pictures' names where it was asked for.
    """
    generator = generators.of(spec.generator, device=spec.device)
    neighbours = generators.neighbours(spec) if request.nearest else None
    make = partial(_make, generator=generator, request=request, classes=spec.classes, neighbours=neighbours)
    seeds = range(request.seed, request.seed + request.count)
    kept: list[_Made] = []
    nearest: dict[str, Any] = {}

    def follow(made: Iterable[_Made]) -> Iterator[tuple[str, bytes]]:
        for one in made:
            if len(kept) < MAX_GRID:
                kept.append(one)
            if one.nearest is not None:
                nearest[one.name] = one.nearest
            yield one.name, one.png

    files: list[RenderedFile] = []
    with studio(spec.device) as pool:
        members = follow(pool.each(make, seeds))
        if request.form == "grid":
            for _ in members:  # all of them are kept
                pass
        else:
            write_zip(spec.work_dir / "pictures.zip", members)
            files.append(told(spec.work_dir / "pictures.zip", "main"))
    if request.form != "zip":
        write(spec.work_dir / "grid.png", as_png(sheets.grid([one.image for one in kept])))
        files.append(told(spec.work_dir / "grid.png", "preview" if files else "main"))
    for one in kept:
        write(spec.work_dir / one.name, one.png)
        files.append(told(spec.work_dir / one.name, "picture"))
    return files, {"nearest": nearest} if request.nearest else {}


def _make(
    seed: int,
    *,
    generator: DeployedGenerator,
    request: PicturesIn,
    classes: tuple[str, ...],
    neighbours: Neighbours | None,
) -> _Made:
    label = None
    if request.classes is not None:
        label = classes.index(request.classes[seed % len(request.classes)])
    picture_3HW = picture_of(generator, seed, label=label, truncation=request.truncation)
    image = as_image(picture_3HW)
    found = None if neighbours is None else neighbours.of(picture_3HW)
    return _Made(f"seed-{seed}.png", image, as_png(image), found)
