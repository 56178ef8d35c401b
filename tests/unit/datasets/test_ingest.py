from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from PIL import Image
from pydantic import ValidationError

from core.datasets.ingest import Normalised, Upload, normalise_uploads
from core.datasets.scratch import clear_abandoned, require_space, scratch_folder
from core.errors import ArchiveRejected, DatasetUnusable, StoreFull, StoreUnavailable
from core.settings import settings
from tests.picture_files import encoded, png, pngs, tarred, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.settings import Settings

ID = UUID(int=1)


def normalised(files: dict[str, bytes], *, folder: Path, limits: Settings | None = None) -> Normalised:
    uploads: list[Upload] = []
    for name, data in files.items():
        path = folder / f"{len(uploads)}.upload"
        path.write_bytes(data)
        uploads.append(Upload(name, path))
    return normalise_uploads(uploads, folder=folder, limits=limits or settings())


def test_pictures_and_archives_mix_and_keep_their_order(tmp_path: Path) -> None:
    files = {"first.png": png("red"), "b.zip": zipped(pngs(5)), "last.png": png("blue")}
    result = normalised(files, folder=tmp_path)
    assert [p.name for p in result.pictures] == ["first.png", *pngs(5), "last.png"]
    assert not list(tmp_path.rglob("*.upload")), "what was read should have made room"


def test_each_rejected_file_is_named_with_its_reason(tmp_path: Path) -> None:
    photo = encoded(Image.effect_noise((99, 99), 80).convert("RGB"), "JPEG")
    files = pngs(4) | {
        "same.png": pngs(1)["0000.png"],
        "notes.txt": b"hello",
        "cut.jpg": photo[:2000],
        "tiny.png": png(size=(8, 8)),
        "inner.zip": zipped(pngs(4)),
    }
    result = normalised({"all.zip": zipped(files)}, folder=tmp_path)
    assert len(result.pictures) == 4
    assert {rejection.name: rejection.code for rejection in result.rejected} == {
        "same.png": "duplicate",
        "notes.txt": "not_an_image",
        "cut.jpg": "truncated",
        "tiny.png": "too_small",
        "inner.zip": "not_an_image",
    }


def test_limits_hold_for_the_archives_of_an_upload_together(
    tmp_path: Path, limits: Callable[..., Settings]
) -> None:
    packed = {"a.zip": zipped(pngs(4)), "b.tar": tarred(pngs(4))}

    def run(name: str, files: dict[str, bytes], **values: int) -> Normalised:
        (tmp_path / name).mkdir()
        return normalised(files, folder=tmp_path / name, limits=limits(**values))

    def refusal(name: str, files: dict[str, bytes], **values: int) -> tuple[str, str]:
        with pytest.raises(ArchiveRejected) as raised:
            run(name, files, **values)
        return raised.value.details["archive"], raised.value.details["reason"]

    # Four entries each, and a picture beside them.
    files = packed | {"c.png": png("blue")}
    assert len(run("enough", files, max_archive_entries=9).pictures) == 5
    assert refusal("many", files, max_archive_entries=8) == ("b.tar", "too_many_entries")
    # A tar's blocks count: four headers, four pictures of one block, and the block that ends it.
    tar_bytes = 9 * 512
    assert len(run("alone", {"b.tar": packed["b.tar"]}, max_unpacked_bytes=tar_bytes).pictures) == 4
    assert refusal("large", packed, max_unpacked_bytes=tar_bytes) == ("b.tar", "unpacked_too_large")


def test_a_limit_that_five_digits_cannot_name_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAEGAN_MAX_ARCHIVE_ENTRIES", "100000")
    settings.cache_clear()
    with pytest.raises(ValidationError, match="99999"):
        settings()


def test_duplicates_are_found_across_formats(tmp_path: Path) -> None:
    twin = encoded(Image.new("RGB", (40, 36), (0, 0, 7)), "BMP")
    result = normalised(pngs(4) | {"twin.bmp": twin}, folder=tmp_path)
    assert [(r.name, r.code) for r in result.rejected] == [("twin.bmp", "duplicate")]
    assert "'0000.png'" in result.rejected[0].reason


def test_fewer_than_four_pictures_are_not_enough(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable) as raised:
        normalised(pngs(3) | {"a.txt": b"x"}, folder=tmp_path)
    assert (raised.value.details["usable"], raised.value.details["needed"]) == (3, 4)
    assert [rejection["name"] for rejection in raised.value.details["rejected"]] == ["a.txt"]


def test_content_hash_depends_on_pictures_alone(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one = normalised({"x.zip": zipped(pngs(5))}, folder=folders[0])
    two = normalised({f"other-{name}": data for name, data in pngs(5).items()}, folder=folders[1])
    three = normalised(pngs(6), folder=folders[2])
    assert one.content_hash == two.content_hash != three.content_hash


def test_the_list_of_rejections_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.datasets.ingest.MAX_LISTED_REJECTIONS", 3)
    result = normalised(pngs(4) | {f"{i}.txt": b"x" for i in range(9)}, folder=tmp_path)
    assert [rejection.name for rejection in result.rejected] == ["0.txt", "1.txt", "2.txt", "6 more"]


def _fail_in(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    raise ZeroDivisionError


def test_scratch_folders_go_away_and_abandoned_ones_are_cleared(tmp_path: Path) -> None:
    home = tmp_path / "data" / "uploads"
    with pytest.raises(ZeroDivisionError), scratch_folder() as folder:
        _fail_in(folder)
    assert list(home.iterdir()) == []
    abandoned = home / "upload-of-a-killed-process"
    abandoned.mkdir()
    (abandoned / "file").write_bytes(b"x")
    with scratch_folder() as folder:
        clear_abandoned()
        assert list(home.iterdir()) == [folder]


def test_the_reserve_of_the_scratch_disk_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_space(tmp_path, 1_000)
    monkeypatch.setenv("SLAEGAN_STORE_RESERVE_BYTES", str(2**60))
    settings.cache_clear()
    with pytest.raises(StoreFull, match="scratch disk"):
        require_space(tmp_path, 1_000)


def test_an_unusable_data_folder_is_a_fault_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"a file where a folder should be")
    with pytest.raises(StoreUnavailable), scratch_folder():
        pytest.fail("the block must not run")
