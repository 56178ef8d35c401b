from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageEnhance, ImageOps

from core.datasets.archives import Found
from core.datasets.facts import Facts
from core.datasets.lint import Looked, lint
from core.datasets.near_duplicates import WITHIN_BITS, near_duplicates
from core.datasets.pictures import Picture, normalise
from core.schemas.datasets import Rejection
from core.settings import settings
from tests.picture_files import encoded

if TYPE_CHECKING:
    from core.datasets.decoder import Decoder
    from core.schemas.datasets import Finding, Lint

SHARED = Path(__file__).parents[4] / "shared" / "data"
SETS = Path(os.environ.get("SLAEGAN_TEST_PICTURES", SHARED))


def looked(*, count: int = 60, **of_some: tuple[range, Any]) -> list[Looked]:
    """Unsuspicious pictures, some of which differ: width=(range(3), 100)."""
    pictures = []
    for at in range(count):
        values: dict[str, Any] = {"width": 300, "height": 300, "contrast": 200, "traits": (), "hash": ""}
        values |= {name: value for name, (places, value) in of_some.items() if at in places}
        facts = Facts(**{name: values.pop(name) for name in ("contrast", "traits", "hash")}, mirror="")
        pictures.append(Looked(f"{at}.png", values["width"], values["height"], facts))
    return pictures


def found(pictures: list[Looked], *rejected: Rejection) -> dict[tuple[str, str], Finding]:
    report = lint(pictures, rejected=rejected)
    assert all(finding.advice for finding in report.findings)
    return {(finding.code, finding.kind): finding for finding in report.findings}


def test_nothing_stands_out_of_an_even_set() -> None:
    report = lint(looked(), rejected=[])
    assert (report.findings, report.counts) == ([], {})


@pytest.mark.parametrize(
    ("of_some", "code", "kind", "severity", "count"),
    [
        ({"width": (range(60), 200), "height": (range(60), 200)}, "tiny", "below_256", "warning", 60),
        ({"width": (range(60), 63), "height": (range(60), 63)}, "tiny", "below_64", "problem", 60),
        ({"width": (range(2), 601)}, "odd_aspect", "shape", "warning", 2),
        ({"width": (range(3), 470)}, "odd_aspect", "shape", "warning", 3),
        (
            {"width": (range(4), 149), "height": (range(4), 149)},
            "mixed_sizes",
            "small_beside_most",
            "note",
            4,
        ),
        ({"contrast": (range(5), 8)}, "blank", "one_colour", "problem", 5),
        ({"traits": (range(50), ("grey",))}, "mixed_modes", "grey", "warning", 10),
        ({"traits": (range(6), ("transparent",))}, "mixed_modes", "transparent", "note", 6),
        ({"traits": (range(7), ("cmyk", "16_bit"))}, "mixed_modes", "16_bit", "note", 7),
    ],
)
def test_each_finding(of_some: dict[str, Any], code: str, kind: str, severity: str, count: int) -> None:
    finding = found(looked(**of_some))[code, kind]
    assert (finding.severity, finding.count) == (severity, count)
    assert len(finding.pictures) == count
    assert all(picture.name == f"{picture.position}.png" for picture in finding.pictures)


def test_a_set_that_is_all_grey_is_not_mixed() -> None:
    assert found(looked(traits=(range(60), ("grey",)))) == {}


def test_few_pictures_and_unusable_files() -> None:
    notes = Rejection(name="notes.txt", code="not_an_image", reason="no")
    findings = found(looked(count=49), notes)
    assert set(findings) == {("few_pictures", "below_50"), ("unusable", "rejected")}
    assert [(p.position, p.name) for p in findings["unusable", "rejected"].pictures] == [(None, "notes.txt")]


def test_pictures_of_which_nothing_is_known_are_judged_by_their_sizes() -> None:
    unknown = [Looked(f"{at}", 200, 200, Facts()) for at in range(50)]
    assert set(found(unknown)) == {("tiny", "below_256")}


def test_blank_pictures_are_no_duplicates_of_each_other() -> None:
    pictures = looked(hash=(range(60), "0" * 64), contrast=(range(60), 2))
    assert set(found(pictures)) == {("blank", "one_colour")}


def random_hashes(count: int, chance: random.Random) -> list[tuple[str, str]]:
    return [(chance.randbytes(32).hex(), chance.randbytes(32).hex()) for _ in range(count)]


def flipped(text: str, *bits: int) -> str:
    number = int(text, 16)
    for bit in bits:
        number ^= 1 << bit
    return f"{number:064x}"


def test_groups_hang_together_by_near_pairs_and_mirror_images() -> None:
    hashes = random_hashes(50, random.Random(1))
    own, mirror = hashes[7]
    hashes[20] = (flipped(own, *range(WITHIN_BITS)), mirror)  # near to 7
    hashes[40] = (flipped(own, *range(2 * WITHIN_BITS)), mirror)  # near to 20 alone
    hashes[41] = (flipped(own, *range(100, 100 + WITHIN_BITS + 1)), mirror)  # just too far from 7
    hashes[30] = (hashes[3][1], hashes[3][0])  # the mirror image of 3
    assert near_duplicates(hashes) == [[3, 30], [7, 20, 40]]
    assert near_duplicates([]) == []


@pytest.mark.parametrize("alike", [False, True])
def test_ten_thousand_pictures_take_seconds(alike: bool) -> None:  # noqa: FBT001
    hashes = random_hashes(10_000, random.Random(2))
    started = time.process_time()
    groups = near_duplicates(hashes[:1] * 10_000 if alike else hashes)
    assert time.process_time() - started < 10
    assert [len(group) for group in groups] == ([10_000] if alike else [])


def measured(decoder: Decoder, data: bytes) -> Facts:
    source = decoder.folder / "source"
    source.write_bytes(data)
    target = decoder.folder / "target.png"
    result = normalise(Found("x", source), target=target, decoder=decoder, limits=settings())
    assert isinstance(result, Picture), result
    return result.facts


def test_facts_tell_what_the_file_was(decoder: Decoder) -> None:
    noise = Image.effect_noise((64, 64), 80)
    colour = Image.merge("RGB", [noise, noise.rotate(90), noise.rotate(180)])
    half = colour.convert("RGBA")
    half.putpixel((3, 3), (0, 0, 0, 10))
    cases: list[tuple[Image.Image, str, tuple[str, ...]]] = [
        (colour, "PNG", ()),
        (colour.convert("RGBA"), "PNG", ()),  # opaque all over
        (half, "PNG", ("transparent",)),
        (colour.convert("L"), "PNG", ("grey",)),
        (colour.convert("L").convert("RGB"), "JPEG", ("grey",)),
        (colour.convert("CMYK"), "TIFF", ("cmyk",)),
        (noise.convert("I").convert("I;16"), "PNG", ("16_bit", "grey")),
    ]
    for image, kind, traits in cases:
        assert measured(decoder, encoded(image, kind)).traits == traits, (image.mode, kind)
    assert measured(decoder, encoded(Image.new("RGB", (64, 64), "red"), "PNG")).contrast == 0
    assert (measured(decoder, encoded(colour, "PNG")).contrast or 0) > 20


def report_of(decoder: Decoder, files: list[bytes]) -> Lint:
    facts = [measured(decoder, data) for data in files]
    return lint([Looked(f"{at}", 256, 256, one) for at, one in enumerate(facts)], rejected=[])


@pytest.mark.skipif(not SETS.is_dir(), reason=f"the picture sets are not in {SETS}")
@pytest.mark.parametrize(("name", "groups"), [("cat_faces", 0), ("emoji_faces", 5)])
def test_real_sets_have_few_groups_and_changed_copies_are_found(
    name: str, groups: int, decoder: Decoder
) -> None:
    files = [path.read_bytes() for path in sorted((SETS / name).iterdir())]
    with Image.open(min((SETS / name).iterdir())) as image:
        copies = [
            encoded(ImageOps.mirror(image), "PNG"),
            encoded(image.resize((128, 128)), "PNG"),
            encoded(image, "JPEG", quality=50),
            encoded(ImageEnhance.Brightness(image).enhance(1.05), "PNG"),
        ]
    found_groups = [
        [picture.position for picture in finding.pictures]
        for finding in report_of(decoder, files + copies).findings
        if finding.code == "near_duplicate"
    ]
    assert any({0, *range(len(files), len(files) + 4)} <= set(group) for group in found_groups)
    assert len(found_groups) <= groups + 1


def test_rows_and_folders_that_give_no_label_are_no_files() -> None:
    row = Rejection(name="labels.csv, line 2", code="label_unmatched", reason="No file.")
    file = Rejection(name="notes.txt", code="not_an_image", reason="No picture.")
    assert ("unusable", "rejected") not in found(looked(), row)
    finding = found(looked(), row, file)["unusable", "rejected"]
    assert (finding.count, [picture.name for picture in finding.pictures]) == (1, ["notes.txt"])
