"""Unpack an upload's archive into a scratch folder, trusting nothing in it.

Entries go to files that we name ourselves, so that no name in an archive ever becomes a path. A hostile archive is
refused as a whole (ArchiveRejected); what is merely no picture is found out later, file by file.
"""

from __future__ import annotations

import io
import lzma
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Literal, NoReturn, cast

from core.datasets.archive_readers import CHUNK_BYTES, CappedFile, ForwardReader, OversizedRead, decompressed
from core.datasets.scratch import disk_errors, require_space
from core.errors import ArchiveRejected
from core.schemas.datasets import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from core.settings import Settings

MAX_DEPTH = 1  # what zipping a folder makes
# Small entries may shrink well for honest reasons (a white canvas); volume is what harms.
BOMB_FLOOR_BYTES = 1024 * 1024
_DIRECTORY_BYTES_PER_ENTRY = 256
_GLOBAL_HEADERS = 64
_GLOBAL_HEADERS_LENGTH = 8 * 1024
_MAX_NAME = 4_096
_HOSTILE_NAME = re.compile(r"^/|^[A-Za-z]:|\\|\x00|(^|/)\.\.(/|$)")
_IGNORED_NAMES = {"__macosx", "thumbs.db", "desktop.ini"}
_ENCRYPTED = 0x1 | 0x40
# What the standard library's readers raise on damaged input.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,  # and NotImplementedError, RecursionError
)


@dataclass(frozen=True)
class Found:
    """A file of an upload that may be a picture.

    Attributes:
        name: relative, fit to be shown and stored.
        path: where its bytes are.
        parts: the name as it was sent, folders first; no path is made of it.
        label: the class of what it shows.
    """

    name: str
    path: Path
    parts: tuple[str, ...] = ()
    label: str | None = None

    @classmethod
    def sent(cls, name: str, path: Path) -> Found:
        """A file by the name that somebody gave it."""
        parts = tuple(part for part in name.split("/") if part not in {"", "."})
        return cls(_shown(name) or sanitised(name), path, parts)


@dataclass(frozen=True)
class Unpacked:
    found: list[Found] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


@dataclass
class Spent:
    """How much of an upload's limits was used up so far: they hold for all of its files together."""

    entries: int = 0
    unpacked_bytes: int = 0
    listed_rows: int = 0  # of tables of labels, without use
    unlisted_rows: int = 0


def kind_of(path: Path) -> Literal["zip", "tar"] | None:
    """Tell an archive by its first bytes; None for anything else.

    The end of the file does not count: a picture with a zip behind it is a picture.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")) or head[257:262] == b"ustar":
        return "tar"
    return None


def unpack(
    path: Path, *, archive: str, folder: Path, limits: Settings, spent: Spent, depth: int = MAX_DEPTH
) -> Unpacked:
    """Unpack every file that may be a picture.

    Args:
        path: a file of which `kind_of` says that it is an archive.
        archive: its name, for messages.
        folder: an empty one, for the files.
        limits: max_archive_entries, max_picture_bytes, max_unpacked_bytes, max_unpack_ratio.
        spent: what the upload's earlier files took; this archive's share is added.
        depth: so many folders may be around a file.

    Raises:
        ArchiveRejected: the archive is hostile or broken.
        StoreFull: the scratch disk is full.
    """
    unpacking = _Unpacking(archive, folder=folder, limits=limits, spent=spent, depth=depth)
    try:
        if kind_of(path) == "zip":
            unpacking.zip(path)
        else:
            unpacking.tar(path)
    except _DAMAGE as error:
        raise ArchiveRejected(
            f"{archive} is refused: it is damaged, or no archive ({sanitised(str(error))}).",
            archive=archive,
            reason="damaged",
        ) from error
    return unpacking.result


def sanitised(name: str) -> str:
    """A name fit to be shown and stored: no control characters, no lone surrogates, at most 255 characters."""
    # Cut first, with room for what composes: composing a long run of marks takes the square of its length.
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in name[-1020:]
    )
    return unicodedata.normalize("NFC", shown)[-255:]


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, archive: str, *, folder: Path, limits: Settings, spent: Spent, depth: int) -> None:
        self.result = Unpacked()
        self._archive = archive
        self._folder = folder
        self._limits = limits
        self._spent = spent
        self._depth = depth
        self._names: set[str] = set()

    def zip(self, path: Path) -> None:
        piece_bytes = max(CHUNK_BYTES, self._limits.max_archive_entries * _DIRECTORY_BYTES_PER_ENTRY)
        with CappedFile(io.FileIO(path), piece_bytes=piece_bytes) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            self._spend_entries(len(entries))
            self._spend_bytes(sum(entry.file_size for entry in entries))
            for entry in entries:
                self._check_zip_entry(entry)
            for entry in entries:
                if self._wanted(entry.filename, is_folder=entry.is_dir(), size_bytes=entry.file_size):
                    self._save_zipped(archive, entry)

    def tar(self, path: Path) -> None:
        packed_bytes = path.stat().st_size

        def on_step(size_bytes: int, position: int) -> None:
            self._spend_bytes(size_bytes)
            self._check_ratio(position, packed_bytes=packed_bytes)

        with path.open("rb") as file:
            reader = ForwardReader(decompressed(file), on_step=on_step)
            # tarfile asks for read, seek and tell only.
            with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as archive:
                while (member := archive.next()) is not None:
                    reader.begin_entry()
                    # tarfile keeps every entry, with a copy of all global headers in each.
                    archive.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it
                    _check_global_headers(archive.pax_headers)
                    self._spend_entries(1)
                    self._check_member(member)
                    if self._wanted(member.name, is_folder=member.isdir(), size_bytes=member.size):
                        self._save(
                            member.name,
                            reader.data(start=member.offset_data, size=member.size),
                            size_bytes=member.size,
                        )

    def _refuse(self, why: str, *, reason: str, entry: str | None = None) -> NoReturn:
        if entry is None:
            raise ArchiveRejected(f"{self._archive} is refused: {why}.", archive=self._archive, reason=reason)
        shown = sanitised(entry)
        raise ArchiveRejected(
            f"{self._archive} is refused: its entry {shown!r} {why}.",
            archive=self._archive,
            reason=reason,
            entry=shown,
        )

    def _spend_entries(self, count: int) -> None:
        self._spent.entries += count
        if self._spent.entries > self._limits.max_archive_entries:
            self._refuse(
                f"with it the upload has more than {self._limits.max_archive_entries} files and entries",
                reason="too_many_entries",
            )

    def _spend_bytes(self, size_bytes: int) -> None:
        self._spent.unpacked_bytes += size_bytes
        if self._spent.unpacked_bytes > self._limits.max_unpacked_bytes:
            self._refuse(
                f"with it the upload's archives are larger than {self._limits.max_unpacked_bytes} bytes, unpacked",
                reason="unpacked_too_large",
            )

    def _check_ratio(self, unpacked_bytes: int, *, packed_bytes: int, entry: str | None = None) -> None:
        ratio = self._limits.max_unpack_ratio
        if unpacked_bytes > max(BOMB_FLOOR_BYTES, ratio * packed_bytes):
            self._refuse(f"unpacks to more than {ratio} times its size", reason="ratio", entry=entry)

    def _check_zip_entry(self, entry: zipfile.ZipInfo) -> None:
        # zipfile cuts filename at a NUL; orig_filename is what the archive says.
        self._check_name(entry.orig_filename)
        if entry.flag_bits & _ENCRYPTED:
            self._refuse(
                "is encrypted: send the archive without a password", reason="encrypted", entry=entry.filename
            )
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            self._refuse("is a link or a device, not a file", reason="link", entry=entry.filename)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
            # LZMA is left out on purpose: its decoder takes as much memory as the entry asks for.
            self._refuse(
                "is packed in a way that is not taken: use deflate",
                reason="compression",
                entry=entry.filename,
            )
        self._check_ratio(entry.file_size, packed_bytes=entry.compress_size, entry=entry.filename)

    def _check_member(self, member: tarfile.TarInfo) -> None:
        self._check_name(member.name)
        if member.issparse() or not (member.isfile() or member.isdir()):
            self._refuse("is a link or a device, not a file", reason="link", entry=member.name)

    def _check_name(self, name: str) -> None:
        if len(name) > _MAX_NAME:
            self._refuse(f"has a name of more than {_MAX_NAME} characters", reason="unsafe_path", entry=name)
        if _HOSTILE_NAME.search(name):
            self._refuse("has a name that leaves the folder", reason="unsafe_path", entry=name)

    def _wanted(self, name: str, *, is_folder: bool, size_bytes: int) -> bool:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if is_folder or any(part.startswith(".") or part.lower() in _IGNORED_NAMES for part in parts):
            return False
        if len(parts) - 1 > self._depth:
            self._refuse("lies in nested folders (put all pictures in one)", reason="too_deep", entry=name)
        if name in self._names:
            self._reject(
                name, code="duplicate_name", reason="An earlier entry of the archive has the same name."
            )
            return False
        self._names.add(name)
        if size_bytes > self._limits.max_picture_bytes:
            self._reject(
                name,
                code="too_large",
                reason=f"The file has {size_bytes} bytes; a picture may have {self._limits.max_picture_bytes}.",
            )
            return False
        return True

    def _save_zipped(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        """Entries of a zip stand alone: a damaged one costs no other."""
        try:
            with archive.open(entry) as reader:
                self._save(
                    entry.filename, iter(partial(reader.read, CHUNK_BYTES), b""), size_bytes=entry.file_size
                )
        except _DAMAGE as error:
            self._reject(entry.filename, code="damaged", reason=f"The entry cannot be unpacked ({error}).")

    def _save(self, name: str, chunks: Iterator[bytes], *, size_bytes: int) -> None:
        """Write an entry to a file of its own. Both readers hand out no more than the size that was checked."""
        require_space(self._folder, size_bytes)
        path = self._folder / f"{len(self.result.found):06d}"
        with disk_errors():
            writer = path.open("wb")
        with writer:
            for chunk in chunks:
                with disk_errors():
                    writer.write(chunk)
                    writer.flush()
        self.result.found.append(Found.sent(name, path))

    def _reject(self, name: str, *, code: str, reason: str) -> None:
        self.result.rejected.append(Rejection(name=_shown(name), code=code, reason=reason))


def _check_global_headers(headers: Mapping[str, str]) -> None:
    # They count again for each entry. git writes one, the commit.
    length = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > _GLOBAL_HEADERS or length > _GLOBAL_HEADERS_LENGTH:
        raise OversizedRead("it holds more global headers than any honest archive needs")


def _shown(name: str) -> str:
    return sanitised("/".join(part for part in name.split("/") if part not in ("", ".")))
