"""What in a dataset deserves a look before hours of training: a report, which refuses nothing."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from core.datasets.near_duplicates import near_duplicates
from core.schemas.datasets import Finding, FoundPicture, Lint, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core.datasets.facts import Facts, Trait
    from core.schemas.datasets import Rejection

FEW_PICTURES = 50
DEFAULT_RESOLUTION, LEAST_RESOLUTION = 256, 64
WIDEST_ASPECT = 2.0
ASPECT_FROM_MEDIAN = 1.5
BLANK_CONTRAST = 8  # levels of 256, in a thumbnail
SMALL_BESIDE_MEDIAN = 0.5
LISTED_PICTURES = 1_000
LISTED_GROUPS = 200
FEW_OF_A_CLASS = 5
NAMED_CLASSES = 20

_TRAITS: dict[Trait, tuple[Severity, str]] = {
    "grey": (
        "warning",
        "Grey and colour are mixed, and the generator learns both: leave the fewer ones out.",
    ),
    "transparent": (
        "note",
        "What was transparent is white now: check that white is the background you want.",
    ),
    "cmyk": ("note", "CMYK was converted without a colour profile: compare the colours with the originals."),
    "16_bit": ("note", "16 and 32 bits a channel became 8: check that the brightness is right."),
}


@dataclass(frozen=True)
class Looked:
    """A picture of a dataset, as far as the lint knows it. Sides are pixels."""

    name: str
    width: int
    height: int
    facts: Facts
    label: str | None = None

    @property
    def shorter_side(self) -> int:
        return min(self.width, self.height)

    @property
    def aspect(self) -> float:
        return self.width / self.height


def lint(pictures: Sequence[Looked], *, rejected: Iterable[Rejection]) -> Lint:
    """Judge the pictures of a dataset, which is not empty.

    Args:
        pictures: in the dataset's order; what their facts do not tell is not judged.
        rejected: what of the upload did not become a picture.
    """
    rejections = list(rejected)
    findings = [
        *_unusable(rejections),
        *_few(pictures),
        *_blank(pictures),
        *_duplicates(pictures),
        *_tiny(pictures),
        *_mixed_sizes(pictures),
        *_odd_aspect(pictures),
        *_mixed_modes(pictures),
        *_small_classes(pictures),
        *_unlabelled(pictures),
    ]
    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.code] += finding.count
    return Lint(findings=findings, counts=dict(counts))


def _unusable(rejected: list[Rejection]) -> Iterator[Finding]:
    files = [rejection for rejection in rejected if not rejection.is_of_label]
    if files:
        listed = [FoundPicture(position=None, name=rejection.name) for rejection in files]
        yield Finding(
            code="unusable",
            kind="rejected",
            severity="warning",
            advice="These files were left out: `rejected` of the dataset says why, one by one.",
            count=len(files),
            pictures=listed[:LISTED_PICTURES],
        )


def _few(pictures: Sequence[Looked]) -> Iterator[Finding]:
    if len(pictures) < FEW_PICTURES:
        yield Finding(
            code="few_pictures",
            kind=f"below_{FEW_PICTURES}",
            severity="warning",
            advice=f"{len(pictures)} pictures are few: the generator may learn them by heart. Add more of the same "
            "kind, or begin from a trained generator (init_from).",
            count=len(pictures),
            pictures=[],
        )


def _blank(pictures: Sequence[Looked]) -> Iterator[Finding]:
    blank = [position for position, picture in enumerate(pictures) if _is_blank(picture)]
    advice = "These are nearly of one colour: leave them out, unless they belong there."
    yield from _finding("blank", "one_colour", "problem", advice, at=blank, of=pictures)


def _is_blank(picture: Looked) -> bool:
    return picture.facts.contrast is not None and picture.facts.contrast <= BLANK_CONTRAST


def _duplicates(pictures: Sequence[Looked]) -> Iterator[Finding]:
    # Blank pictures have no edges, so their hashes are alike whatever their colours.
    known = [at for at, picture in enumerate(pictures) if picture.facts.hash and not _is_blank(picture)]
    groups = near_duplicates([(pictures[at].facts.hash, pictures[at].facts.mirror) for at in known])
    advice = (
        "These look nearly the same, perhaps as mirror images: keep one of them, or the generator favours it."
    )
    for group in groups[:LISTED_GROUPS]:
        places = [known[member] for member in group]
        yield from _finding("near_duplicate", "group", "warning", advice, at=places, of=pictures)


def _tiny(pictures: Sequence[Looked]) -> Iterator[Finding]:
    below: tuple[tuple[int, int, Severity], ...] = (
        (0, LEAST_RESOLUTION, "problem"),
        (LEAST_RESOLUTION, DEFAULT_RESOLUTION, "warning"),
    )
    for low, high, severity in below:
        tiny = [at for at, picture in enumerate(pictures) if low <= picture.shorter_side < high]
        advice = (
            f"Their shorter side has fewer than {high} pixels: training above that learns their blur. Find larger "
            "ones, or train at a lower resolution."
        )
        yield from _finding("tiny", f"below_{high}", severity, advice, at=tiny, of=pictures)


def _mixed_sizes(pictures: Sequence[Looked]) -> Iterator[Finding]:
    middle = median(picture.shorter_side for picture in pictures)
    small = [at for at, picture in enumerate(pictures) if picture.shorter_side < middle * SMALL_BESIDE_MEDIAN]
    advice = (
        f"They are less than half as large as most (shorter side {middle:g}): enlarged, they will look softer than "
        "the rest."
    )
    yield from _finding("mixed_sizes", "small_beside_most", "note", advice, at=small, of=pictures)


def _odd_aspect(pictures: Sequence[Looked]) -> Iterator[Finding]:
    middle = median(picture.aspect for picture in pictures)
    odd = [
        at
        for at, picture in enumerate(pictures)
        if _times(picture.aspect, 1) > WIDEST_ASPECT or _times(picture.aspect, middle) > ASPECT_FROM_MEDIAN
    ]
    advice = (
        "Their shape is far from square, or from the others': a square crop loses much. Crop them yourself, or train "
        'with fit "pad".'
    )
    yield from _finding("odd_aspect", "shape", "warning", advice, at=odd, of=pictures)


def _times(aspect: float, other: float) -> float:
    return math.exp(abs(math.log(aspect / other)))


def _mixed_modes(pictures: Sequence[Looked]) -> Iterator[Finding]:
    for trait, (severity, advice) in _TRAITS.items():
        having = [at for at, picture in enumerate(pictures) if trait in picture.facts.traits]
        if trait == "grey":  # a set that is all grey is none to warn of
            others = [at for at, picture in enumerate(pictures) if trait not in picture.facts.traits]
            having = min(having, others, key=len)
        yield from _finding("mixed_modes", trait, severity, advice, at=having, of=pictures)


def _small_classes(pictures: Sequence[Looked]) -> Iterator[Finding]:
    counts = Counter(picture.label for picture in pictures if picture.label is not None)
    small = {name: count for name, count in sorted(counts.items()) if count < FEW_OF_A_CLASS}
    named = [f"{name!r} ({count})" for name, count in small.items()]
    more = [f"{len(named) - NAMED_CLASSES} more"] if len(named) > NAMED_CLASSES else []
    advice = (
        f"Classes of fewer than {FEW_OF_A_CLASS} pictures: {', '.join([*named[:NAMED_CLASSES], *more])}. A conditional "
        "generator learns those by heart: add pictures, or put classes together."
    )
    having = [at for at, picture in enumerate(pictures) if picture.label in small]
    yield from _finding("small_class", f"below_{FEW_OF_A_CLASS}", "warning", advice, at=having, of=pictures)


def _unlabelled(pictures: Sequence[Looked]) -> Iterator[Finding]:
    without = [at for at, picture in enumerate(pictures) if picture.label is None]
    if len(without) < len(pictures):  # a set without classes lacks none
        advice = "The others have a class: label these too, or no conditional training can take the set."
        yield from _finding("unlabelled", "no_class", "warning", advice, at=without, of=pictures)


def _finding(
    code: str, kind: str, severity: Severity, advice: str, *, at: Sequence[int], of: Sequence[Looked]
) -> Iterator[Finding]:
    if at:
        listed = [FoundPicture(position=place, name=of[place].name) for place in at[:LISTED_PICTURES]]
        yield Finding(code=code, kind=kind, severity=severity, advice=advice, count=len(at), pictures=listed)
