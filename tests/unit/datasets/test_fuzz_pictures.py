"""Mutated pictures through the real decoding process: the service lives, and every file gets its answer.

500 mutants; `make fuzz` has 10,000 (SLAEGAN_FUZZ_MUTANTS), from a seed of its own (SLAEGAN_FUZZ_SEED).
"""

from __future__ import annotations

import os
import random
import resource
import struct
import sys
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from core.datasets.archives import Found
from core.datasets.decoding import FORMATS
from core.datasets.ingest import Upload, normalise_uploads
from core.datasets.pictures import Picture, normalise
from core.schemas.datasets import Rejection
from core.settings import settings as service_settings
from tests.picture_files import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.datasets.decoder import Decoder

MUTANTS = int(os.environ.get("SLAEGAN_FUZZ_MUTANTS", "500"))
SEED = int(os.environ.get("SLAEGAN_FUZZ_SEED", "20"))
KNOWN = {
    "not_an_image", "empty", "truncated", "broken", "too_many_pixels", "too_small", "too_large", "too_demanding",
}  # fmt: skip
EMOJI = Path(__file__).parents[3] / "examples" / "emoji-faces.zip"
PARENT_MAY_GROW_MIB = 100
# The largest numbers that two and four bytes hold, and those at which signs and sums turn over.
NASTY = [
    b"\0",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0",
    b"\x80\0\0\0",
]


@cache
def whole_files() -> dict[str, bytes]:
    """Pictures of every format and many modes, made here, and a few real ones."""
    files = {}
    noise = Image.effect_noise((48, 40), 60)
    colour = Image.merge("RGB", [noise.rotate(90 * turn).resize((48, 40)) for turn in range(3)])
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    for kind in FORMATS:
        for mode in ("RGB", "L", "P", "1", "RGBA", "CMYK", "I;16", "F"):
            for options in ({}, {"exif": exif, "icc_profile": bytes(300)}):
                try:
                    image = noise.convert("I").convert(mode) if mode == "I;16" else colour.convert(mode)
                    files[f"{kind} {mode} {len(options)}"] = encoded(image, kind, **options)
                except (OSError, ValueError):
                    continue  # the format has no such mode
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        files[f"{kind} frames"] = encoded(colour, kind, save_all=True, append_images=[colour.rotate(90)] * 3)
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"TIFF {packing}"] = encoded(colour, "TIFF", compression=packing)
    files["JPEG progressive"] = encoded(colour, "JPEG", progressive=True)
    with zipfile.ZipFile(EMOJI) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        files |= {name: archive.read(name) for name in names[:4]}
    return files


def mutants(count: int, *, chance: random.Random) -> Iterator[bytes]:
    """Whole files with bytes changed, cut out, doubled and exchanged, mostly near their beginning."""
    files = [whole_files()[name] for name in sorted(whole_files())]
    for _ in range(count):
        data = bytearray(chance.choice(files))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            at = int(len(data) * chance.random() ** chance.choice((1, 3)))
            length = chance.choice((1, 2, 4, 16, 200))
            match chance.randrange(6):
                case 0:
                    data[at : at + 1] = chance.randbytes(1)
                case 1:
                    nasty = chance.choice(NASTY)
                    data[at : at + len(nasty)] = nasty
                case 2:
                    del data[at : at + length]
                case 3:
                    data[at:at] = data[at : at + length]
                case 4:
                    other = chance.choice(files)
                    data[at : at + length] = other[at : at + length]
                case 5 if chance.random() < 0.2:
                    del data[max(1, at) :]
        yield bytes(data) or b"\0"


def judge(data: bytes, decoder: Decoder) -> Rejection | Picture:
    """Have a file decoded, and check the answer."""
    source, target = decoder.folder / "source", decoder.folder / "target.png"
    source.write_bytes(data)
    result = normalise(Found("x", source), target=target, decoder=decoder, limits=service_settings())
    if isinstance(result, Picture):
        with Image.open(result.path) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert image.size == (result.width, result.height)
            assert not image.info, "metadata was kept"
    else:
        assert result.code in KNOWN
        assert result.reason
    target.unlink(missing_ok=True)
    source.unlink()
    assert not list(decoder.folder.iterdir()), "a temporary file was left"
    return result


def children() -> set[str]:
    """Processes that this one started and that still are."""
    return {
        pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    }


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.timeout(max(300, MUTANTS))
def test_mutants_are_answered_one_by_one_and_leave_nothing(decoder: Decoder) -> None:
    before = children() - {str(decoder.pid)}
    whole = whole_files().values()
    grown_from = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = [judge(data, decoder) for data in mutants(MUTANTS, chance=random.Random(SEED))]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_from) / 1024
    assert len(whole) > 50, "the formats' modes are not all there"
    assert grown < PARENT_MAY_GROW_MIB
    taken = sum(isinstance(result, Picture) for result in results)
    assert 0.1 * MUTANTS < taken < 0.9 * MUTANTS, (
        "the mutations are too mild, or too strong, to show anything"
    )
    decoder.close()
    assert children() <= before


def test_files_cut_off_at_every_byte_of_their_headers(decoder: Decoder) -> None:
    for kind in FORMATS:
        data = whole_files()[f"{kind} RGB 0"]
        for end in {1, 2, 4, 8, 12, *range(16, min(len(data), 512), 23), len(data) - 1}:
            result = judge(data[:end], decoder)
            assert isinstance(result, Picture) or result.code in {"not_an_image", "truncated", "broken"}, (
                kind,
                end,
            )


def sized(kind: str, width: int, height: int) -> bytes:
    """A file whose header claims a size, over the pixels of a small picture."""
    data = bytearray(whole_files()[f"{kind} RGB 0"])
    match kind:
        case "PNG":
            data[16:24] = struct.pack(">2I", width, height)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        case "BMP":
            data[18:26] = struct.pack("<2i", width, height)
        case "GIF":
            data[6:10] = struct.pack("<2H", width, height)
        case "JPEG":
            at = data.index(b"\xff\xc0") + 5
            data[at : at + 4] = struct.pack(">2H", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        ("PNG", 2**31 - 1, 2**31 - 1), ("PNG", 2**31 - 1, 1), ("PNG", 0, 40), ("PNG", 60_000, 1_000),
        ("BMP", 2**31 - 1, 2**31 - 1), ("BMP", -(2**31), 40), ("BMP", 60_000, -1_000),
        ("GIF", 65_535, 65_535), ("JPEG", 65_535, 65_535), ("JPEG", 65_500, 900),
    ],
)  # fmt: skip
def test_headers_that_claim_much(kind: str, width: int, height: int, decoder: Decoder) -> None:
    result = judge(sized(kind, width, height), decoder)
    if width * height > service_settings().max_picture_pixels:
        assert isinstance(result, Rejection)
        assert result.code in {"too_many_pixels", "broken", "not_an_image"}


def test_a_gif_frame_outside_its_canvas(decoder: Decoder) -> None:
    data = bytearray(whole_files()["GIF RGB 0"])
    at = data.index(b"," + struct.pack("<4H", 0, 0, 48, 40))  # the frame's left, top, width, height
    data[at + 1 : at + 9] = struct.pack("<4H", 60_000, 60_000, 5_000, 5_000)
    result = judge(bytes(data), decoder)
    assert isinstance(result, Rejection)
    assert result.code in {"too_many_pixels", "broken", "truncated"}


# The autouse fixture of this folder sets the environment once for all examples, which is what they need.
@seed(SEED)
@settings(
    max_examples=MUTANTS // 5, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    file=st.sampled_from(sorted(whole_files())),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(NASTY)), min_size=1, max_size=8
    ),
    keep=st.one_of(st.just(1.0), st.floats(0.1, 1)),
)
def test_hypothesis_finds_no_file_without_an_answer(
    file: str, changes: list[tuple[float, bytes]], keep: float, decoder: Decoder
) -> None:
    data = bytearray(whole_files()[file])
    for place, value in changes:
        at = int(place * len(data))
        data[at : at + len(value)] = value
    judge(bytes(data[: max(1, int(keep * len(data)))]), decoder)


def test_an_upload_of_mutants_leaves_pictures_and_rejections_alone(tmp_path: Path) -> None:
    uploads = []
    for position, data in enumerate(mutants(60, chance=random.Random(SEED + 1))):
        path = tmp_path / f"{position}.upload"
        path.write_bytes(data)
        uploads.append(Upload(f"{position}", path))
    before = children()
    result = normalise_uploads(uploads, folder=tmp_path, limits=service_settings())
    assert len(result.pictures) + len(result.rejected) == 60
    kept = {picture.path for picture in result.pictures}
    assert {path for path in tmp_path.rglob("*") if path.is_file() and "store" not in path.parts} == kept
    assert children() <= before
