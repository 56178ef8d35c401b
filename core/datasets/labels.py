"""Which class each picture of an upload is of: by the folders of an archive, or by a table beside the pictures.

A name of a class is text, and never becomes a path. docs/adr/0011 says when folders are classes.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from core.datasets.archives import MAX_DEPTH, Found, Unpacked, sanitised
from core.datasets.label_table import MAX_LISTED, TABLE, Labels, is_table
from core.errors import ArchiveRejected, LabelsUnusable
from core.schemas.datasets import PICTURE_SUFFIXES, Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core.datasets.archives import Spent
    from core.schemas.datasets import LabelSource

MAX_CLASSES = 1_000
MAX_CLASS_NAME = 200
# An outer folder around those of the classes, as zipping a folder of folders makes.
MAX_LABELLED_DEPTH = MAX_DEPTH + 1
# Parts of a collection, which nobody means as classes.
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
# What joins the parts of an emoji, and letters in Persian and Indian names.
_JOINERS = str.maketrans("", "", "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")


def class_name(text: str) -> str:
    """A class's name as it is kept: composed (NFC), with single spaces and none at its ends.

    Raises:
        ValueError: it is no name; says why, as the end of a sentence.
    """
    # Composing takes time that grows with the square of a run of marks, and holds up the whole process.
    if len(text) > 4 * MAX_CLASS_NAME:
        raise ValueError("it is too long")
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name:
        raise ValueError("it is empty")
    if len(name) > MAX_CLASS_NAME:
        raise ValueError(f"it has {len(name)} characters, and {MAX_CLASS_NAME} are allowed")
    if name in {".", ".."} or "/" in name or "\\" in name:
        raise ValueError("it is a path")
    shown = name.translate(_JOINERS)
    if not shown.strip():
        raise ValueError("it shows nothing")
    if not shown.isprintable():
        raise ValueError("it holds characters that cannot be shown")
    return name


def labelled(unpacked: Unpacked, *, archive: str | None, source: LabelSource, spent: Spent) -> Unpacked:
    """Give the files of an archive, or those that were sent by themselves, their classes.

    Args:
        unpacked: the files; a table of labels among them is used up.
        archive: its name, for messages; None for files that were sent by themselves.
        source: where labels come from; `auto`: a labels.csv if there is one, else folders where they look like classes.
        spent: how many rows without a picture the upload's earlier tables had; this one's are added.

    Raises:
        LabelsUnusable: the table cannot be read, or there are several; or an archive has none where one was asked for.
        ArchiveRejected: pictures lie in nested folders that are no classes, or a table is beside several such trees.
    """
    tables = [found for found in unpacked.found if is_table(found.name)] if source in {"auto", "csv"} else []
    if len(tables) > 1:
        listed = ", ".join(repr(table.name) for table in tables[:5])
        raise LabelsUnusable(
            f"{archive or 'The upload'} holds {len(tables)} files {TABLE} ({listed}): put all labels into one.",
            files=[table.name for table in tables[:5]],
        )
    if tables:
        if archive is not None:
            _refuse_mixed(unpacked.found, archive=archive)
        return _by_table(unpacked, tables[0], spent=spent)
    depth = _class_depth(unpacked.found, source=source)
    if archive is not None:
        if source == "csv":
            raise _no_table(archive)
        _refuse_deep(unpacked.found, allowed=max(depth, MAX_DEPTH), archive=archive)
    return _by_folders(unpacked, depth=depth) if depth else unpacked


def require_labels(found: Sequence[Found], *, source: LabelSource) -> None:
    """See that an upload holds the labels that were asked for, and not too many classes.

    Raises:
        LabelsUnusable: it does not.
    """
    classes = {file.label for file in found if file.label is not None}
    require_few(classes)
    if classes or not found:
        return
    if source == "csv":
        raise _no_table("the upload")
    if source == "folders":
        raise LabelsUnusable(
            "No picture of the upload has a label: the pictures of each class have to lie in a folder of its own, in "
            "an archive."
        )


def _no_table(where: str) -> LabelsUnusable:
    return LabelsUnusable(
        f"No picture of {where} has a label: a file {TABLE} beside the pictures, or in an archive with them, has to "
        'name pictures and their classes, as in "001.png,cats".'
    )


def require_few(classes: Iterable[str]) -> None:
    """A dataset's classes are not too many.

    Raises:
        LabelsUnusable: they are.
    """
    if (count := len(set(classes))) > MAX_CLASSES:
        raise LabelsUnusable(
            f"The pictures have {count} classes; {MAX_CLASSES} are allowed. If the names are no classes, send "
            'labels "none".',
            classes=count,
        )


def counted(labels: Iterable[str | None]) -> list[dict[str, Any]] | None:
    """How many pictures each class has, in the order of the names, as a dataset's row keeps it; None without any."""
    counts = Counter(label for label in labels if label is not None)
    return [{"name": name, "images": counts[name]} for name in sorted(counts)] or None


def _by_table(unpacked: Unpacked, table: Found, *, spent: Spent) -> Unpacked:
    files = [found for found in unpacked.found if found is not table]
    labels = Labels.read(table, files, name_of=class_name, limit=MAX_LISTED - spent.listed_rows)
    spent.listed_rows += len(labels.rejected)
    spent.unlisted_rows += labels.unlisted
    table.path.unlink()
    named = [replace(found, label=labels.of.get(at)) for at, found in enumerate(files)]
    return Unpacked(named, [*unpacked.rejected, *labels.rejected])


def _class_depth(found: Sequence[Found], *, source: LabelSource) -> int:
    """How many folders deep pictures lie in those of their classes; 0 where folders are no classes."""
    if source not in {"auto", "folders"}:
        return 0
    pictures = [
        file for file in found if PurePosixPath(file.name).suffix.lower() in PICTURE_SUFFIXES
    ] or found
    places = {file.parts[:-1] for file in pictures}
    deepest = max((len(place) for place in places), default=0)
    lowest = {place for place in places if len(place) == deepest}
    # Folders of one name in several outer folders would be mixed, and they are mostly parts of a collection.
    if not 0 < deepest <= MAX_LABELLED_DEPTH or len({place[:-1] for place in lowest}) > 1:
        return 0
    names = {place[-1] for place in lowest}
    if source == "folders" or (len(names) > 1 and lowest == places and not _are_splits(names)):
        return deepest
    return 0


def _are_splits(names: Iterable[str]) -> bool:
    return {name.casefold() for name in names} <= _SPLITS


def _refuse_deep(found: Sequence[Found], *, allowed: int, archive: str) -> None:
    for file in found:
        if len(file.parts) - 1 > allowed:
            raise ArchiveRejected(
                f"{archive} is refused: its entry {file.name!r} lies in nested folders (put all pictures in one, or "
                "those of each class in one of its own).",
                archive=archive,
                reason="too_deep",
                entry=file.name,
            )


def _refuse_mixed(found: Sequence[Found], *, archive: str) -> None:
    """A table says what pictures show, and not that folders such as train/cats and test/cats may be mixed."""
    outer: str | None = None
    for file in found:
        if len(file.parts) - 1 <= MAX_DEPTH:
            continue
        if outer not in {None, file.parts[0]}:
            raise ArchiveRejected(
                f"{archive} is refused: its entry {file.name!r} lies in nested folders, and others lie in those of "
                "another outer folder (put all into one outer folder).",
                archive=archive,
                reason="too_deep",
                entry=file.name,
            )
        outer = file.parts[0]


def _by_folders(unpacked: Unpacked, *, depth: int) -> Unpacked:
    names: dict[str, str | None] = {}
    rejected = list(unpacked.rejected)
    for folder in {file.parts[depth - 1]: None for file in unpacked.found if len(file.parts) > depth}:
        try:
            names[folder] = class_name(folder)
        except ValueError as error:
            names[folder] = None
            reason = f"The folder's name is no name of a class: {error}. Its pictures have none."
            rejected.append(Rejection(name=sanitised(folder), code="label_refused", reason=reason))
    found = [
        replace(file, label=names[file.parts[depth - 1]]) if len(file.parts) > depth else file
        for file in unpacked.found
    ]
    return Unpacked(found, rejected)
