"""Readers between an archive and the standard library's parsers, which trust the sizes that an archive claims."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 1024 * 1024
# `xz -9` needs 65 MiB; a hostile header may ask for 4 GiB.
XZ_MEMORY_BYTES = 128 * 1024 * 1024
# What describes one entry of a tar: its own block, long names, extended headers. Honest ones take a few KiB.
TAR_HEADER_BYTES = 64 * 1024


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class OversizedRead(ValueError):
    """An archive made its parser ask for more in one piece than any honest archive needs."""


class CappedFile(io.BufferedReader):
    """A zip file that is never read in large pieces.

    zipfile reads the central directory in one piece of whatever size the archive claims, and makes objects of ten
    times that size: a gigabyte of empty entries would take all memory before anyone could count them.
    """

    def __init__(self, raw: io.FileIO, *, piece_bytes: int) -> None:
        super().__init__(raw)
        self._piece_bytes = piece_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(
            self._piece_bytes + 1 if size is None or size < 0 else min(size, self._piece_bytes + 1)
        )
        if len(data) > self._piece_bytes:
            raise OversizedRead(f"its directory takes more than {self._piece_bytes} bytes")
        return data


class ForwardReader:
    """An unpacked tar, read forwards only, whose owner is told of every step (its bytes, the new position).

    tarfile skips files by seeking: here skipping is reading, so that what is unpacked is counted. It makes objects of
    headers, many times their size, and follows any number of them before it hands out an entry: what it may read
    between two entries is limited. The entries' own bytes do not pass through it (`data`).
    """

    def __init__(self, source: Source, *, on_step: Callable[[int, int], None]) -> None:
        self._source = source
        self._on_step = on_step
        self._position = 0
        self._header_bytes = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        """Read headers; for tarfile."""
        self._header_bytes += size
        if size < 0 or self._header_bytes > TAR_HEADER_BYTES:
            raise OversizedRead(f"the headers of one entry claim more than {TAR_HEADER_BYTES} bytes")
        return self._step(size)

    def seek(self, position: int) -> int:
        if position < self._position:
            raise ValueError(f"a header of it points backwards, from {self._position} to {position}")
        while self._position < position and self._step(min(CHUNK_BYTES, position - self._position)):
            pass
        return self._position

    def begin_entry(self) -> None:
        """The headers read so far led to an entry: the next one may have as many."""
        self._header_bytes = 0

    def data(self, *, start: int, size: int) -> Iterator[bytes]:
        """The bytes of an entry, in small pieces.

        Raises:
            EOFError: the tar ends before them.
        """
        self.seek(start)
        while size > 0:
            chunk = self._step(min(CHUNK_BYTES, size))
            if not chunk:
                raise EOFError("it ends in the middle")
            size -= len(chunk)
            yield chunk

    def _step(self, size: int) -> bytes:
        data = self._source.read(size)
        self._position += len(data)
        self._on_step(len(data), self._position)
        return data


class XzReader:
    """lzma.LZMAFile with a limit on memory, for one stream."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)

    def read(self, size: int, /) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and not self._decoder.eof:
            packed = self._file.read(io.DEFAULT_BUFFER_SIZE) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not packed:
                raise EOFError("it ends in the middle")
            pieces.append(self._decoder.decompress(packed, size))
            size -= len(pieces[-1])
        return b"".join(pieces)


def decompressed(file: io.BufferedReader) -> Source:
    """The tar inside a file, by the file's first bytes: gzip, bzip2, xz, or as it is."""
    head = file.peek(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if head.startswith(b"\xfd7zXZ\x00"):
        return XzReader(file)
    return file
