"""A table of labels: labels.csv, whose rows name a picture and its class. What is wrong with a row costs that row."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from core.datasets.archives import sanitised
from core.errors import LabelsUnusable
from core.schemas.datasets import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from core.datasets.archives import Found

TABLE = "labels.csv"
MAX_TABLE_BYTES = 4 * 1024 * 1024
MAX_LISTED = 1_000
# What a path may have, and far above what a name of a file has.
_MAX_NAME = 4_096
_FILE_WORDS = {
    *(
        "file",
        "filename",
        "file name",
        "file_name",
        "name",
        "image",
        "image name",
        "image_name",
        "picture",
        "path",
    ),
}
_CLASS_WORDS = {
    *(
        "class",
        "class name",
        "class_name",
        "label",
        "labels",
        "category",
        "tag",
        "target",
        "species",
        "breed",
    ),
}
_COLUMNS = 2
_SUFFIX_PARTS = 3  # an outer folder, a class's, the file


def is_table(name: str) -> bool:
    """Whether a file is a table of labels, by its name, which may have folders before it."""
    return name.rpartition("/")[2].casefold() == TABLE


@dataclass
class Labels:
    """What a table says: the class of a file by its place in the list of files, and the rows that say nothing.

    `unlisted` counts those rows for which `rejected` had no room.
    """

    of: dict[int, str] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    unlisted: int = 0
    limit: int = MAX_LISTED

    @classmethod
    def read(
        cls, table: Found, files: Sequence[Found], *, name_of: Callable[[str], str], limit: int = MAX_LISTED
    ) -> Self:
        """Read a table.

        Its first row may be a header; columns are parted by commas, semicolons or tabs, and those after the second
        are passed over unless the header says which are meant. A file is meant by its path from the table's folder,
        or by the end of its path if no other ends so.

        Args:
            table: UTF-8 or UTF-16 with its mark, at most 4 MiB.
            files: of the same archive, without the table.
            name_of: makes a class's name of a cell; ValueError says why it is none.
            limit: of rows without use that are listed; the others are counted.

        Raises:
            LabelsUnusable: it is no table.
        """
        labels, index = cls(limit=limit), _Index(files, folder=table.parts[:-1])
        file_column, class_column = 0, 1
        for number, (line, row) in enumerate(_rows(table.path, name=table.name)):
            if number == 0 and index.find(row[0]) == [] and (columns := _header(row)):
                file_column, class_column = columns
                continue
            where = f"{table.name}, line {line}"
            if len(row) <= max(file_column, class_column):
                labels._reject(
                    where, "label_refused", "The row has fewer cells than a file and its class need."
                )
                continue
            labels._add(row[file_column], row[class_column], where=where, index=index, name_of=name_of)
        return labels

    def _add(
        self, file: str, label: str, *, where: str, index: _Index, name_of: Callable[[str], str]
    ) -> None:
        if not label.strip():
            return  # a picture without a class
        places = index.find(file)
        shown = sanitised(file) if len(self.rejected) < self.limit else ""
        if len(places) != 1:
            count = f"{len(places)} files end so" if places else "there is no such file"
            code = "label_ambiguous" if places else "label_unmatched"
            self._reject(where, code, f"The row names {shown!r}, and {count}.")
            return
        try:
            name = name_of(label)
        except ValueError as error:
            self._reject(
                where, "label_refused", f"The class of {shown!r} has no name that is taken: {error}."
            )
            return
        if self.of.setdefault(places[0], name) != name:
            reason = (
                f"{shown!r} has the class {self.of[places[0]]!r} by an earlier row, and {name!r} by this."
            )
            self._reject(where, "label_ambiguous", reason)

    def _reject(self, where: str, code: str, reason: str) -> None:
        if len(self.rejected) < self.limit:
            self.rejected.append(Rejection(name=where, code=code, reason=reason))
        else:
            self.unlisted += 1


class _Index:
    """Files by all that a table may call them."""

    def __init__(self, files: Sequence[Found], *, folder: tuple[str, ...]) -> None:
        self._whole: dict[str, int] = {}
        self._ends: dict[str, list[int]] = {}
        for place, file in enumerate(files):
            if sum(map(len, file.parts)) > _MAX_NAME:
                continue  # No cell finds it.
            for count in range(1, min(len(file.parts), _SUFFIX_PARTS) + 1):
                self._ends.setdefault(_joined(file.parts[-count:]), []).append(place)
            if file.parts[: len(folder)] == folder:
                self._whole[_joined(file.parts[len(folder) :])] = place

    def find(self, text: str) -> list[int]:
        """Places of the files that a cell may mean; none for what is longer than any name, and slow to compose."""
        if len(text) > _MAX_NAME:
            return []
        name = _joined(part for part in text.strip().replace("\\", "/").split("/") if part not in {"", "."})
        return [self._whole[name]] if name in self._whole else self._ends.get(name, [])


def _joined(parts: Sequence[str] | Iterator[str]) -> str:
    return unicodedata.normalize("NFC", "/".join(parts))


def _rows(path: Path, *, name: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line where each ends; empty ones are passed over."""
    text = _text(path, name=name)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    if delimiter not in first:
        raise LabelsUnusable(
            f'{name} has one column: a row names a picture and its class, as in "001.png,cats".'
        )
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise LabelsUnusable(
            f"{name} cannot be read in line {reader.line_num}: {error}.", line=reader.line_num
        ) from error


def _text(path: Path, *, name: str) -> str:
    if (size_bytes := path.stat().st_size) > MAX_TABLE_BYTES:
        raise LabelsUnusable(f"{name} has {size_bytes} bytes; {MAX_TABLE_BYTES} are allowed.")
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16, as it begins" if wide else "UTF-8"
        raise LabelsUnusable(
            f"{name} is no text in {encoding} (byte {error.start}): save it as CSV UTF-8."
        ) from error


def _header(row: Sequence[str]) -> tuple[int, int] | None:
    """Which columns hold files and classes, if a first row tells; None if it is no header."""
    cells = [cell.strip().casefold() for cell in row]
    files = [at for at, cell in enumerate(cells) if cell in _FILE_WORDS]
    classes = [at for at, cell in enumerate(cells) if cell in _CLASS_WORDS]
    if not (files or classes) or len(cells) < _COLUMNS:
        return None
    file = files[0] if files else next(at for at in range(len(cells)) if at != classes[0])
    others = [at for at in (*classes, *range(len(cells))) if at != file]
    return file, others[0]
