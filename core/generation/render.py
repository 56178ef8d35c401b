"""One generation or export: a generator's file and a request in, files and facts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.generation.generators import Generators
    from core.schemas.ticks import RenderedTick, RenderSpec


def render(spec: RenderSpec, *, generators: Generators) -> RenderedTick:
    """Make what is asked for, in `spec.work_dir`.

    Args:
        spec: of one request.
        generators: those that this process holds loaded.

    Returns:
        The files, complete, the main one first, and facts.

    Raises:
        ConfigurationFailed: the generator's file is damaged or not of this configuration, or it cannot do this.
        DataFailed: a picture cannot be read.
        NonFinite: the generator left the finite numbers.
        WeightsMissing: VGG-16's weights, for distances, are not there and not to be had.
    """
    raise NotImplementedError(spec, generators)
