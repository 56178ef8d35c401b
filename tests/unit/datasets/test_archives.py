from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import time
import tracemalloc
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from core.datasets.archives import Spent, Unpacked, kind_of, sanitised, unpack
from core.errors import ArchiveRejected
from tests.picture_files import png, pngs, tarred, zipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core.settings import Settings

Run = "Callable[..., Unpacked]"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


@pytest.fixture
def run(tmp_path: Path, limits: Callable[..., Settings]) -> Callable[..., Unpacked]:
    def unpack_bytes(data: bytes, **values: Any) -> Unpacked:
        path, folder = tmp_path / "archive", tmp_path / "unpacked"
        path.write_bytes(data)
        folder.mkdir(exist_ok=True)
        before = sorted(tmp_path.rglob("*"))
        try:
            return unpack(path, archive="faces", folder=folder, limits=limits(**values), spent=Spent())
        finally:
            outside = [p for p in sorted(tmp_path.rglob("*")) if p not in before and folder not in p.parents]
            assert not outside, "something was written outside the folder"

    return unpack_bytes


@pytest.fixture
def refused(run: Callable[..., Unpacked]) -> Callable[..., dict[str, Any]]:
    def details(data: bytes, **values: Any) -> dict[str, Any]:
        with pytest.raises(ArchiveRejected) as raised:
            run(data, **values)
        assert raised.value.message.startswith("faces is refused: ")
        return raised.value.details

    return details


def zip_entry(name: str, data: bytes = b"x", *, mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    info = zipfile.ZipInfo("placeholder")
    info.filename = name  # ZipInfo would cut a NUL and everything behind it.
    info.external_attr = mode << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, data)
    return buffer.getvalue()


@pytest.mark.parametrize("packing", ["zip", *PACKERS])
def test_files_come_out_as_they_went_in(packing: str, run: Callable[..., Unpacked]) -> None:
    files = {f"faces/{name}": data for name, data in pngs(5).items()} | {"readme.txt": b"hello"}
    data = zipped(files) if packing == "zip" else PACKERS[packing](tarred(files))
    result = run(data)
    assert {found.name: found.path.read_bytes() for found in result.found} == files
    assert result.rejected == []


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_what_systems_leave_in_archives_is_passed_over(
    pack: Callable[[dict[str, bytes]], bytes], run: Callable[..., Unpacked]
) -> None:
    files = {
        "a.png": png(),
        "./b/c.png": png("blue"),
        "__MACOSX/x/y/z/._a.png": b"x",
        ".DS_Store": b"x",
        "b/Thumbs.db": b"x",
        ".git/config": b"x",
        "desktop.ini": b"x",
    }
    assert [found.name for found in run(pack(files)).found] == ["a.png", "b/c.png"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "..",
        "/etc/evil.png",
        "C:evil.png",
        "c:/evil.png",
        "a\\evil.png",
        "a\0.png",
    ],
)
def test_names_that_leave_the_folder_are_hostile(name: str, refused: Callable[..., dict[str, Any]]) -> None:
    assert refused(zip_entry(name))["reason"] == "unsafe_path"
    member = tarfile.TarInfo("placeholder")
    member.pax_headers = {"path": name}
    if (
        "\0" not in name
    ):  # A tar's reader ends names at a NUL, as the format says: nothing is hidden behind it.
        details = refused(tarred({"ok.png": png()}, member))
        assert (details["reason"], details["entry"]) == ("unsafe_path", name)


def test_dots_inside_names_are_harmless(run: Callable[..., Unpacked]) -> None:
    assert [found.name for found in run(zipped({"a..b/c...png": b"x"})).found] == ["a..b/c...png"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_hostile(kind: bytes, refused: Callable[..., dict[str, Any]]) -> None:
    member = tarfile.TarInfo("link.png")
    member.type, member.linkname = kind, "/etc/passwd"
    details = refused(tarred({"ok.png": png()}, member))
    assert (details["reason"], details["entry"]) == ("link", "link.png")


def test_symlinks_in_a_zip_are_hostile(refused: Callable[..., dict[str, Any]]) -> None:
    details = refused(zip_entry("link.png", b"/etc/passwd", mode=stat.S_IFLNK | 0o777))
    assert (details["reason"], details["entry"]) == ("link", "link.png")


def test_encrypted_entries_are_refused(refused: Callable[..., dict[str, Any]]) -> None:
    data = bytearray(zip_entry("a.png"))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert refused(bytes(data))["reason"] == "encrypted"


def test_deep_folders_are_refused(
    run: Callable[..., Unpacked], refused: Callable[..., dict[str, Any]]
) -> None:
    assert len(run(zipped({"a/x.png": b"x"})).found) == 1
    details = refused(zipped({"a/b/x.png": b"x"}))
    assert (details["reason"], details["entry"]) == ("too_deep", "a/b/x.png")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_entries_are_counted(
    pack: Callable[[dict[str, bytes]], bytes],
    run: Callable[..., Unpacked],
    refused: Callable[..., dict[str, Any]],
) -> None:
    data = pack(pngs(6))
    assert len(run(data, max_archive_entries=6).found) == 6
    assert refused(data, max_archive_entries=5)["reason"] == "too_many_entries"


def test_a_directory_larger_than_its_entries_may_be_is_not_read(
    refused: Callable[..., dict[str, Any]],
) -> None:
    # 40,000 empty entries: their directory alone would become some 20 MB of objects.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(40_000):
            archive.writestr(zipfile.ZipInfo(f"{i}"), b"")
    assert refused(buffer.getvalue(), max_archive_entries=100)["reason"] == "damaged"


@pytest.mark.parametrize("packing", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_is_refused_by_its_ratio(packing: str, refused: Callable[..., dict[str, Any]]) -> None:
    files = {"bomb.bmp": bytes(8_000_000)}
    data = zipped(files) if packing == "zip" else PACKERS[packing](tarred(files))
    assert len(data) < 40_000
    assert refused(data)["reason"] == "ratio"


@pytest.mark.parametrize("packing", ["zip", *PACKERS])
def test_unpacked_bytes_are_limited(packing: str, refused: Callable[..., dict[str, Any]]) -> None:
    noise = {f"{i}.bin": bytes([i]) * 100_000 for i in range(12)}
    data = zipped(noise) if packing == "zip" else PACKERS[packing](tarred(noise))
    assert refused(data, max_unpacked_bytes=1_000_000)["reason"] == "unpacked_too_large"


def test_a_zip_cannot_unpack_to_more_than_it_declares(run: Callable[..., Unpacked]) -> None:
    data = bytearray(zipped({"a.bin": bytes(500_000)}))
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1_000)
    result = run(bytes(data))
    assert result.found == []
    assert [rejection.code for rejection in result.rejected] == ["damaged"]


def test_a_tar_header_cannot_claim_memory(refused: Callable[..., dict[str, Any]]) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1_000_000_000
    data = member.tobuf(tarfile.USTAR_FORMAT) + bytes(2048)
    assert refused(data)["reason"] == "damaged"


def pax_record(key: str, value: str) -> bytes:
    """A record of an extended header, which begins with its own length."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def pax(kind: bytes, *, keys: int, value: str = "") -> bytes:
    """An extended header, of one entry or of all that follow, with so many keys."""
    data = b"".join(pax_record(f"{i:04d}", value) for i in range(keys))
    header = tarfile.TarInfo("headers")
    header.type, header.size = kind, len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def empty_members(count: int) -> list[bytes]:
    return [tarfile.TarInfo(f"{i}.png").tobuf(tarfile.USTAR_FORMAT) for i in range(count)]


TAR_END = bytes(2 * tarfile.BLOCKSIZE)


@contextmanager
def memory_peak_below(size_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < size_bytes


@pytest.mark.parametrize(
    "header",
    [
        pax(tarfile.XGLTYPE, keys=40_000),  # 400 KB; each of 150 entries would hold a copy: 139 MB
        pax(tarfile.XGLTYPE, keys=5_000),
        pax(tarfile.XGLTYPE, keys=65),
        pax(tarfile.XGLTYPE, keys=1, value="x" * 10_000),
        pax(tarfile.XGLTYPE, keys=60) * 200,  # one after the other, before any entry
    ],
    ids=["400 KB", "50 KB", "many", "long", "a chain"],
)
def test_global_headers_of_a_tar_cannot_take_memory(
    header: bytes, refused: Callable[..., dict[str, Any]]
) -> None:
    data = gzip.compress(header + b"".join(empty_members(150)) + TAR_END)
    with memory_peak_below(8_000_000):
        assert refused(data)["reason"] == "damaged"


def test_global_headers_that_add_up_are_refused(refused: Callable[..., dict[str, Any]]) -> None:
    members = empty_members(40)
    data = b"".join(
        pax(tarfile.XGLTYPE, keys=1, value=str(i)).replace(b"0000=", f"{i:04d}=".encode()) + member
        for i, member in enumerate(members * 2)
    )
    assert refused(data + TAR_END)["reason"] == "damaged"


def test_headers_of_single_entries_do_not_stay_in_memory(run: Callable[..., Unpacked]) -> None:
    header = pax(tarfile.XHDTYPE, keys=4_000)
    data = gzip.compress(b"".join(header + member for member in empty_members(40)) + TAR_END)
    # One such header is half a megabyte of objects; forty would be twenty.
    with memory_peak_below(8_000_000):
        result = run(data)
    assert len(result.found) == 40


def test_a_tar_of_git_is_taken(run: Callable[..., Unpacked]) -> None:
    commit = pax_record("comment", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    header = tarfile.TarInfo("pax_global_header")
    header.type, header.size = tarfile.XGLTYPE, len(commit)
    data = header.tobuf(tarfile.USTAR_FORMAT) + commit.ljust(tarfile.BLOCKSIZE, b"\0") + tarred(pngs(5))
    assert [found.name for found in run(data).found] == [*pngs(5)]


def test_an_xz_cannot_claim_memory(refused: Callable[..., dict[str, Any]]) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * 1024 * 1024}]
    data = lzma.compress(tarred({"a.png": png()}), filters=filters)
    assert refused(data)["reason"] == "damaged"


def test_a_large_file_is_left_out_alone(run: Callable[..., Unpacked]) -> None:
    for pack in (zipped, tarred):
        result = run(pack({"big.png": bytes(3_000), "a.png": png()}), max_picture_bytes=2_000)
        assert [found.name for found in result.found] == ["a.png"]
        assert [(rejection.name, rejection.code) for rejection in result.rejected] == [
            ("big.png", "too_large")
        ]


def test_a_name_counts_once(run: Callable[..., Unpacked]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", png())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", png("blue"))
    result = run(buffer.getvalue())
    assert [found.path.read_bytes() for found in result.found] == [png()]
    assert [rejection.code for rejection in result.rejected] == ["duplicate_name"]


def test_a_damaged_entry_is_left_out_alone(run: Callable[..., Unpacked]) -> None:
    data = bytearray(zipped({"a.png": png(), "b.png": png("blue")}))
    data[data.index(b"IDAT") if b"IDAT" in data else 45] ^= 0xFF
    result = run(bytes(data))
    assert [found.name for found in result.found] == ["b.png"]
    assert [(rejection.name, rejection.code) for rejection in result.rejected] == [("a.png", "damaged")]


def test_broken_archives_are_refused(refused: Callable[..., dict[str, Any]]) -> None:
    archive = zipped(pngs(5))
    assert refused(archive[: len(archive) // 2])["reason"] == "damaged"
    assert refused(b"PK\x03\x04" + bytes(200))["reason"] == "damaged"
    for pack in PACKERS.values():
        packed = pack(tarred({"noise.bin": bytes(range(256)) * 40}))
        assert refused(packed[: len(packed) // 2])["reason"] == "damaged"
    assert refused(gzip.compress(b"no tar at all"))["reason"] == "damaged"


def test_kinds_are_told_by_the_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data, kind in [
        (zipped({}), "zip"),
        (tarred({"a": b""}), "tar"),
        (gzip.compress(b""), "tar"),
        (png() + zipped({"a": b"x"}), None),
        (b"", None),
    ]:
        path.write_bytes(data)
        assert kind_of(path) == kind


def test_names_are_made_fit_to_store() -> None:
    assert sanitised("a\x00b\x1b[31m\udcff.png") == "a�b�[31m�.png"
    assert len(sanitised("x" * 1000 + ".png")) == 255
    assert sanitised("é.png") == "é.png"


def test_endless_names_are_refused_before_they_are_composed(refused: Callable[..., dict[str, Any]]) -> None:
    name = "a" + "\u0301\u0323" * 5_000
    details = refused(zip_entry(name))
    assert (details["reason"], len(details["entry"])) == ("unsafe_path", 255)


def test_a_name_is_cut_before_it_is_composed() -> None:
    assert sanitised("x" + "e\u0301" * 1_000) == "é" * 255
    begun = time.process_time()
    assert len(sanitised("\u0301\u0323" * 100_000)) == 255
    assert time.process_time() - begun < 1
