"""One generation or export: a generator's file and a request in, files and facts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import ConfigurationFailed, InvalidRequest
from core.generation.admission import require_possible
from core.schemas.gan import architecture_differences
from core.schemas.generations import ExportIn, InterpolationIn, PicturesIn, Projection, StyleMixIn
from core.schemas.ticks import RenderedTick

if TYPE_CHECKING:
    from core.generation.generators import Generators
    from core.schemas.ticks import RenderSpec


def render(spec: RenderSpec, *, generators: Generators) -> RenderedTick:
    """Make what is asked for, in `spec.work_dir`.

    Args:
        spec: of one request.
        generators: those that this process holds loaded.

    Returns:
        The files, complete, the main one first, and facts.

    Raises:
        ConfigurationFailed: the generator's file is damaged or not of this configuration, it cannot do this, or what
            it wrote is not what it computes.
        DataFailed: a picture cannot be read.
        NonFinite: the generator left the finite numbers.
        WeightsMissing: VGG-16's weights, for distances, are not there and not to be had.
    """
    _require_possible(spec, generators=generators)
    match spec.request:
        # Each kind imports its own libraries: pictures must not wait for those of exports.
        case PicturesIn() as request:
            from core.generation.pictures import render_pictures  # noqa: PLC0415

            files, facts = render_pictures(spec, request, generators=generators)
        case InterpolationIn() as request:
            from core.generation.film import render_film  # noqa: PLC0415

            files, facts = render_film(spec, request, generators=generators)
        case StyleMixIn() as request:
            from core.generation.mixing import render_mix  # noqa: PLC0415

            files, facts = render_mix(spec, request, generators=generators)
        case Projection() as request:
            from core.generation.projecting import render_projection  # noqa: PLC0415

            files, facts = render_projection(spec, request, generators=generators)
        case ExportIn() as request:
            from core.exporting.export import render_export  # noqa: PLC0415

            files, facts = render_export(spec, request, generators=generators)
    return RenderedTick(files=tuple(files), facts=facts)


def _require_possible(spec: RenderSpec, *, generators: Generators) -> None:
    """See that the file is what the request was let in for; what else a configuration says may have changed since."""
    generator = generators.of(spec.generator, device=spec.device)
    names = () if generator.classes is None else generator.classes.names
    differing = architecture_differences(generator.config, spec.config, generator_only=True)
    if differing or names != spec.classes:
        raise ConfigurationFailed(
            f"{spec.generator.name} is not the generator that this was planned with; it differs in "
            f"{', '.join(differing) or 'its classes'}.",
            differing={name: [str(value) for value in pair] for name, pair in differing.items()},
            classes=list(names),
            planned=list(spec.classes),
        )
    try:
        require_possible(spec.request, config=generator.config, classes=names)
    except InvalidRequest as error:
        raise ConfigurationFailed(error.message, **error.details) from error
