"""A deployed generator as one file, told as done only after it made the same pictures in its own runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import ConfigurationFailed, SlaeganError
from core.exporting.formats import FORMATS, OPSET
from core.generation.files import told

if TYPE_CHECKING:
    from core.generation.generators import Generators
    from core.schemas.generations import ExportIn
    from core.schemas.ticks import RenderedFile, RenderSpec

TOLERANCE = 1e-4  # of pictures in [-1, 1], a seventy-eighth of a step of 8 bits
_CHECKED = range(8)


def render_export(
    spec: RenderSpec, request: ExportIn, *, generators: Generators
) -> tuple[list[RenderedFile], dict[str, Any]]:
    """Write a generator's file, load it anew, and compare what it makes of eight latents.

    Its facts are `format`; `largest_difference` from the original, of pictures in [-1, 1]; `tolerance`; `checked`, how
    many pictures; and `opset`, of ONNX.

    Raises:
        ConfigurationFailed: the format cannot hold this generator, or the file makes other pictures.
    """
    # On the CPU wherever pictures are made: a file holds no device.
    generator = generators.of(spec.generator, device="cpu")
    chosen = FORMATS[request.format]
    path = spec.work_dir / f"generator.{chosen.suffix}"
    try:
        chosen.write(path, generator)
        found_N3HW = chosen.load(path, generator)(_CHECKED)
    except (SlaeganError, OSError):
        raise
    except Exception as error:  # exporters raise classes of their own, for every kind of failure
        raise ConfigurationFailed(
            f"This generator of {spec.config.family!r} cannot be exported to {request.format}: {_cause(error)}",
            format=request.format,
            family=spec.config.family,
        ) from error
    difference = float((found_N3HW - generator.render_seeds(_CHECKED)).abs().max())
    if not difference <= TOLERANCE:  # also where it is not a number
        raise ConfigurationFailed(
            f"The exported generator makes pictures that differ by {difference:.2g} from the original's; "
            f"{TOLERANCE} is allowed. Take another format.",
            format=request.format,
            largest_difference=str(difference),
        )
    facts: dict[str, Any] = {
        "format": request.format,
        "largest_difference": difference,
        "tolerance": TOLERANCE,
        "checked": len(_CHECKED),
    }
    return [told(path, "main")], facts | ({"opset": OPSET} if request.format == "onnx" else {})


def _cause(error: BaseException) -> str:
    """The innermost cause, in a line: the outer ones tell how to report to the exporter's authors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0]
