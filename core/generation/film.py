"""A film on the way from seed to seed, as GIF, WebP or MP4."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from core.files import atomic_path
from core.generation import sheets
from core.generation.drawing import drawn_of, picture_of, pixels, studio
from core.generation.files import as_image, as_png, told, write
from core.models.contract import spherical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from PIL import Image
    from torch import Tensor

    from core.generation.drawing import Studio
    from core.generation.generators import Generators
    from core.schemas.generations import AnimationForm, InterpolationIn
    from core.schemas.ticks import RenderedFile, RenderSpec
    from core.training.deployed import DeployedGenerator, Drawn

_WEBP_QUALITY = 90
_MP4_QUALITY = 8  # of 10; imageio-ffmpeg turns it into x264's
_MP4_OPTIONS = (
    *("-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1"),
    *("-movflags", "+faststart", "-f", "mp4"),
)
_EVEN = 2  # the chroma of yuv420p has half the side
_SECOND_MS = 1_000
_GIF_STEP_MS = 10  # GIF tells durations in hundredths of a second


class _Frame(NamedTuple):
    start: Drawn
    end: Drawn
    share: float


def render_film(
    spec: RenderSpec, request: InterpolationIn, *, generators: Generators
) -> tuple[list[RenderedFile], dict[str, Any]]:
    """The film first, then a PNG of its seeds' pictures beside each other; and facts: frames, seconds, side."""
    generator = generators.of(spec.generator, device=spec.device)
    label = label_of(generator, request.class_name, seed=request.seeds[0])
    film = spec.work_dir / f"interpolation.{request.form}"
    with studio(spec.device) as pool, atomic_path(film) as temporary:
        frames = frames_of(generator, request, label=label, pool=pool)
        _WRITERS[request.form](temporary, frames, request=request)
    at_seeds = [
        as_image(picture_of(generator, seed, label=label, truncation=request.truncation))
        for seed in request.seeds
    ]
    write(spec.work_dir / "seeds.png", as_png(sheets.strip(at_seeds)))
    facts = {
        "frames": request.total_frames,
        "seconds": round(request.total_frames / request.fps, 3),
        "side": spec.config.resolution,
    }
    return [told(film, "main"), told(spec.work_dir / "seeds.png", "preview")], facts


def label_of(generator: DeployedGenerator, class_name: str | None, *, seed: int) -> int | None:
    """The class of pictures that are all of one: as named, else the one that a seed draws; None without classes."""
    if generator.classes is None:
        return None
    if class_name is not None:
        return generator.classes.names.index(class_name)
    labels_N = drawn_of(generator, seed, label=None).labels_N
    assert labels_N is not None, "it has classes"
    return int(labels_N[0])


def frames_of(
    generator: DeployedGenerator, request: InterpolationIn, *, label: int | None, pool: Studio
) -> Iterator[Image.Image]:
    """The frames of a film in their order; each seed's own is the very picture of that seed.

    Args:
        generator: to make them with.
        request: names the seeds.
        label: of all frames, for a generator trained by class.
        pool: makes them beside each other.
    """
    keys = [drawn_of(generator, seed, label=label) for seed in request.seeds]
    make = partial(_made, generator=generator, truncation=request.truncation)
    return pool.each(make, _frames(keys, request))


def _frames(keys: list[Drawn], request: InterpolationIn) -> Iterator[_Frame]:
    ends = [*keys[1:], keys[0]] if request.closed else keys[1:]
    for start, end in zip(keys, ends, strict=False):
        for step in range(request.frames):
            yield _Frame(start, end, step / request.frames)
    if not request.closed:
        yield _Frame(keys[-2], keys[-1], 1.0)


@torch.inference_mode()
def _made(frame: _Frame, *, generator: DeployedGenerator, truncation: float) -> Image.Image:
    """One frame. The noise planes go the same way as the latents, so that each seed's own picture is met."""
    start, end, share = frame
    planes: list[Tensor] = [
        spherical(one, other, share=share) for one, other in zip(start.planes, end.planes, strict=True)
    ]
    made_13HW = generator.network.between(
        (start.latent_NZ, end.latent_NZ), planes, share=share, labels_N=start.labels_N, truncation=truncation
    )
    return as_image(pixels(made_13HW))


def durations_ms(request: InterpolationIn, *, step: int) -> list[int]:
    """How long each frame is shown, in whole steps of so many milliseconds that do not add up to a drift."""
    ends = [
        round(frame * _SECOND_MS / request.fps / step) * step for frame in range(request.total_frames + 1)
    ]
    return [end - start for start, end in pairwise(ends)]


def _write_gif(path: Path, frames: Iterator[Image.Image], *, request: InterpolationIn) -> None:
    first, durations = next(frames), durations_ms(request, step=_GIF_STEP_MS)
    first.save(path, format="GIF", save_all=True, append_images=frames, loop=0, duration=durations)


def _write_webp(path: Path, frames: Iterator[Image.Image], *, request: InterpolationIn) -> None:
    first, durations = next(frames), durations_ms(request, step=1)
    first.save(
        path,
        format="WEBP",
        save_all=True,
        append_images=frames,
        loop=0,
        duration=durations,
        quality=_WEBP_QUALITY,
    )


def _write_mp4(path: Path, frames: Iterator[Image.Image], *, request: InterpolationIn) -> None:
    """H.264 by the encoder in imageio-ffmpeg's wheel, with nothing in it of the machine or the time."""
    import imageio_ffmpeg  # noqa: PLC0415 - it looks for its program on import

    first = next(frames)
    writer = imageio_ffmpeg.write_frames(
        path,
        first.size,
        fps=request.fps,
        codec="libx264",
        quality=_MP4_QUALITY,
        macro_block_size=_EVEN,
        output_params=list(_MP4_OPTIONS),
    )
    try:
        writer.send(None)
        writer.send(first.tobytes())
        for frame in frames:
            writer.send(frame.tobytes())
    finally:
        writer.close()


_WRITERS: dict[AnimationForm, Callable[..., None]] = {
    "gif": _write_gif,
    "webp": _write_webp,
    "mp4": _write_mp4,
}
