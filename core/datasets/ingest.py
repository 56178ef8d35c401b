"""From uploaded files to normalised pictures in a scratch folder. Knows no database and no store."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from operator import itemgetter
from queue import SimpleQueue
from typing import TYPE_CHECKING

from core.datasets import labels
from core.datasets.archives import MAX_DEPTH, Found, Spent, Unpacked, kind_of, sanitised, unpack
from core.datasets.decoder import Decoder
from core.datasets.pictures import Picture, normalise
from core.datasets.scratch import require_space
from core.errors import DatasetUnusable
from core.schemas.datasets import Rejection

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path
    from uuid import UUID

    from core.schemas.datasets import LabelSource
    from core.settings import Settings

MIN_PICTURES = 4
MAX_LISTED_REJECTIONS = 1_000
# Each may cost a minute and a new process: nobody has so many by mistake.
MAX_TOO_DEMANDING = 8
# Beside the budget of all: a photograph takes less, and large uploads of such are welcome.
_BUDGET_PER_PICTURE_S = 0.5
PICTURES_PER_DECODER = 16  # below that a second process costs more than it saves


@dataclass(frozen=True)
class Upload:
    """One file as it was sent: the name that the client gave, and its bytes in the scratch folder."""

    name: str
    path: Path


@dataclass(frozen=True)
class Normalised:
    """The usable pictures of an upload, in its order, and what was not usable."""

    pictures: list[Picture]
    rejected: list[Rejection]

    @property
    def content_hash(self) -> str:
        """sha256 over the pictures' own hashes."""
        return hashlib.sha256("".join(picture.sha256 for picture in self.pictures).encode()).hexdigest()


def normalise_uploads(
    uploads: Sequence[Upload],
    *,
    folder: Path,
    limits: Settings,
    needed: int = MIN_PICTURES,
    label_source: LabelSource = "auto",
) -> Normalised:
    """Unpack, decode and convert everything that was sent.

    Args:
        uploads: pictures and archives, mixed as they like.
        folder: a scratch folder; its owner removes it.
        limits: the settings that bound hostile input.
        needed: usable pictures.
        label_source: where the pictures' classes come from.

    Raises:
        ArchiveRejected: an archive is hostile or broken.
        LabelsUnusable: a table of labels cannot be read, or labels that were asked for are not there.
        DatasetUnusable: fewer usable pictures than are needed, or many that overtax the decoder, one by one or all
            together; lists the rejections.
        StoreFull: the scratch disk is full.
        InfrastructureError: pictures cannot be decoded at all.
    """
    # The limits hold for the whole upload: a form may hold thousands of archives.
    spent = Spent()
    unpacked = _collect(uploads, folder=folder, limits=limits, label_source=label_source, spent=spent)
    labels.require_labels(unpacked.found, source=label_source)
    pictures: dict[str, Picture] = {}
    rejected = list(unpacked.rejected)
    count = 2 if len(unpacked.found) > PICTURES_PER_DECODER else 1
    decoders = [Decoder(folder, limits=limits) for _ in range(count)]
    budget_s = limits.decode_budget_s + _BUDGET_PER_PICTURE_S * len(unpacked.found)
    with closing(_decoded(unpacked.found, decoders=decoders, folder=folder, limits=limits)) as results:
        for result in results:
            _check_time(decoders, rejected, spent=spent, budget_s=budget_s)
            match result:
                case Rejection():
                    rejected.append(result)
                    _check_demands(rejected)
                case Picture() if first := pictures.get(result.sha256):
                    pictures[result.sha256], rejection = _again(first, result)
                    rejected.append(rejection)
                    result.path.unlink()
                case Picture():
                    pictures[result.sha256] = result
    files = sum(not rejection.is_of_label for rejection in rejected)
    rejected = _shortened(rejected, spent=spent)
    if len(pictures) < needed:
        told = "1 file was" if files == 1 else f"{files} files were"
        raise DatasetUnusable(
            f"The upload holds {len(pictures)} usable {'picture' if len(pictures) == 1 else 'pictures'}; "
            f"at least {needed} are needed."
            + (f" {told} rejected: see details.rejected for the reasons." if files else ""),
            usable=len(pictures),
            needed=needed,
            rejected=[rejection.model_dump() for rejection in rejected],
        )
    return Normalised(list(pictures.values()), rejected)


def _again(first: Picture, second: Picture) -> tuple[Picture, Rejection]:
    """The first of two equal pictures, with the class of the second if it has none itself; and what is told of that."""
    reason = f"The picture is the same, pixel by pixel, as {first.name!r}."
    if first.label is None and second.label is not None:
        first = replace(first, label=second.label)
        reason += f" Its class is {second.label!r} now."
    elif second.label != first.label:
        reason += f" Its class stays {first.label!r}."
    return first, Rejection(name=second.name, code="duplicate", reason=reason)


def _decoded(
    found: Sequence[Found], *, decoders: Sequence[Decoder], folder: Path, limits: Settings
) -> Generator[Picture | Rejection]:
    """Decode in a few processes of this upload's own, in order of the files."""
    target = folder / "normalised"
    target.mkdir()
    free: SimpleQueue[Decoder] = SimpleQueue()
    for decoder in decoders:
        free.put(decoder)

    def work(item: tuple[int, Found]) -> Picture | Rejection:
        position, file = item
        require_space(folder, 0)
        path = target / f"{position:06d}.png"
        decoder = free.get()
        try:
            return normalise(file, target=path, decoder=decoder, limits=limits)
        finally:
            free.put(decoder)
            file.path.unlink()

    with ExitStack() as stack:
        for decoder in decoders:
            stack.enter_context(decoder)
        # The threads end before the decoders are closed: processes die with the thread that started them.
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=len(decoders)))
        yield from pool.map(work, enumerate(found))


def _check_demands(rejected: list[Rejection]) -> None:
    demanding = [rejection for rejection in rejected if rejection.code == "too_demanding"]
    if len(demanding) >= MAX_TOO_DEMANDING:
        raise DatasetUnusable(
            f"{len(demanding)} files of the upload could not be decoded within the limits of time and memory, and "
            "the rest was not tried. Leave them out, or save them anew: see details.rejected.",
            rejected=[rejection.model_dump() for rejection in demanding],
        )


def _check_time(
    decoders: Sequence[Decoder], rejected: list[Rejection], *, spent: Spent, budget_s: float
) -> None:
    """Many pictures that each stay just within the limits may keep the decoders busy for days."""
    busy_s = sum(decoder.busy_s for decoder in decoders)
    if busy_s > budget_s:
        raise DatasetUnusable(
            f"Decoding the upload took longer than {budget_s:g} s, and the rest was not tried. Send fewer pictures, or "
            "smaller ones.",
            budget_s=budget_s,
            rejected=[rejection.model_dump() for rejection in _shortened(rejected, spent=spent)],
        )


def preview_key(dataset_id: UUID) -> str:
    return f"datasets/{dataset_id}/preview.jpg"


def _collect(
    uploads: Sequence[Upload], *, folder: Path, limits: Settings, label_source: LabelSource, spent: Spent
) -> Unpacked:
    """All files in the order in which they were sent, with their classes; the labels of an archive are its own."""
    alone = Unpacked()
    packed: dict[int, Unpacked] = {}
    pictures = [kind_of(upload.path) is None for upload in uploads]
    spent.entries += sum(pictures)
    depth = MAX_DEPTH if label_source == "none" else labels.MAX_LABELLED_DEPTH
    for number, (upload, is_picture) in enumerate(zip(uploads, pictures, strict=True)):
        name = sanitised(upload.name)
        if is_picture:
            alone.found.append(Found.sent(upload.name, upload.path))
            continue
        target = folder / f"unpacked-{number}"
        target.mkdir()
        unpacked = unpack(upload.path, archive=name, folder=target, limits=limits, spent=spent, depth=depth)
        packed[number] = labels.labelled(unpacked, archive=name, source=label_source, spent=spent)
        upload.path.unlink()
    # Those that were sent by themselves belong together, wherever they stand in the form.
    alone = labels.labelled(alone, archive=None, source=label_source, spent=spent)
    places = {upload.path: number for number, upload in enumerate(uploads)}
    ordered = [(places[found.path], [found]) for found in alone.found]
    ordered += [(number, unpacked.found) for number, unpacked in packed.items()]
    return Unpacked(
        [found for _, files in sorted(ordered, key=itemgetter(0)) for found in files],
        [rejection for unpacked in (*packed.values(), alone) for rejection in unpacked.rejected],
    )


def _shortened(rejected: list[Rejection], *, spent: Spent) -> list[Rejection]:
    """Keep the list fit for a response and a row: files first, then what cost only a label."""
    files = [rejection for rejection in rejected if not rejection.is_of_label]
    rows = [rejection for rejection in rejected if rejection.is_of_label]
    listed = files[:MAX_LISTED_REJECTIONS]
    if more := len(files) - len(listed):
        reason = f"Only the first {len(listed)} of {len(files)} rejected files are listed."
        listed.append(Rejection(name=f"{more} more", code="not_listed", reason=reason))
    room = max(0, MAX_LISTED_REJECTIONS - len(files))
    listed += rows[:room]
    if more := len(rows[room:]) + spent.unlisted_rows:
        reason = "So many more rows and folders label no picture."
        listed.append(Rejection(name=f"{more} more", code="label_not_listed", reason=reason))
    return listed
