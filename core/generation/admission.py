"""What a generator cannot do, told before anybody waits for it. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import InvalidRequest
from core.schemas.generations import InterpolationIn, PicturesIn, Projection, StyleMixIn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.schemas.families import Config
    from core.schemas.generations import Rendering

# What others wait for at most, in pictures of 256 x 256.
MAX_PICTURE_WORK, MAX_FILM_WORK = 4_000, 1_200
_USUAL_SIDE = 256


def require_possible(request: Rendering, *, config: Config, classes: Sequence[str] = ()) -> None:
    """See that a generator can do what is asked of it.

    Args:
        request: of one generation or export.
        config: of the generator's training.
        classes: their names in the order of their labels, where the training was by class.

    Raises:
        InvalidRequest: its family cannot mix styles, or not from that side on; a class that it does not know; more
            pixels than are made at once.
    """
    match request:
        case PicturesIn():
            _require_classes(request.classes or (), config=config, classes=classes)
            _require_bearable(request.count, most=MAX_PICTURE_WORK, side=config.resolution, what="pictures")
        case InterpolationIn():
            _require_classes(_one(request.class_name), config=config, classes=classes)
            _require_bearable(request.total_frames, most=MAX_FILM_WORK, side=config.resolution, what="frames")
        case StyleMixIn():
            _require_classes(_one(request.class_name), config=config, classes=classes)
            _require_mixing(request, config=config)
        case Projection():
            _require_classes(_one(request.class_name), config=config, classes=classes)


def _one(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _require_classes(asked: Sequence[str], *, config: Config, classes: Sequence[str]) -> None:
    if asked and not config.needs_labels:
        raise InvalidRequest(
            f"This generator of {config.family!r} was not trained by class, so it cannot draw {asked[0]!r}: leave the "
            "class out.",
            asked=list(asked),
        )
    known = set(classes)
    if unknown := [name for name in asked if name not in known]:
        raise InvalidRequest(
            f"This generator knows no class {unknown[0]!r}; it was trained with {', '.join(map(repr, classes))}.",
            unknown=unknown,
            classes=list(classes),
        )


def _require_bearable(count: int, *, most: int, side: int, what: str) -> None:
    most_here = most * _USUAL_SIDE**2 // side**2
    if count > most_here:
        raise InvalidRequest(
            f"{count} {what} of {side}x{side} pixels are more than are made at once, since others wait meanwhile: ask "
            f"for {most_here} at most.",
            asked=count,
            most=most_here,
        )


def _require_mixing(request: StyleMixIn, *, config: Config) -> None:
    sides = config.mixing_sides
    if not sides:
        raise InvalidRequest(
            f"This generator of {config.family!r} cannot mix styles: it has neither styles (stylegan2) nor skip-layer "
            "excitation (slaegan), through which another picture could act on its feature maps.",
            family=config.family,
        )
    if request.from_side is not None and request.from_side not in sides:
        raise InvalidRequest(
            f"from_side {request.from_side}: this generator of {config.family!r} mixes from sides "
            f"{', '.join(map(str, sides))} on.",
            from_side=request.from_side,
            sides=list(sides),
        )
