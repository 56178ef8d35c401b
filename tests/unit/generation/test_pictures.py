from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import ConfigurationFailed, NonFinite
from core.files import sha256_of
from core.generation.drawing import picture_of
from core.schemas.families import FAMILIES
from core.schemas.generations import PicturesIn, StyleMixIn
from tests.unit.generation.deployed_files import CLASSES, Rendered, richest

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.ticks import RenderedTick


def png_of(folder: Path, seed: int) -> bytes:
    return (folder / f"seed-{seed}.png").read_bytes()


def by_role(tick: RenderedTick, role: str) -> list[str]:
    return [file.name for file in tick.files if file.role == role]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seeds_picture_is_the_same_bytes_wherever_it_is_made(family: str, tmp_path: Path) -> None:
    rendered = Rendered(tmp_path, richest(family))
    tick, many = rendered(PicturesIn(seed=5, count=4))
    _, alone = rendered(PicturesIn(seed=7, count=1, form="zip"))
    assert by_role(tick, "main") == ["pictures.zip"]
    assert png_of(many, 7) == png_of(alone, 7)
    pixels = np.asarray(Image.open(io.BytesIO(png_of(many, 7))))
    assert pixels.shape == (64, 64, 3)
    assert pixels.std() > 1, "it is no plain ground, of which two are always alike"
    assert len({png_of(many, seed) for seed in range(5, 9)}) == 4


def test_it_is_the_same_with_several_threads(slaegan: Rendered) -> None:
    _, one = slaegan(PicturesIn(seed=1, count=3))
    torch.set_num_threads(3)
    try:
        _, three = slaegan(PicturesIn(seed=1, count=3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    assert (one / "pictures.zip").read_bytes() == (three / "pictures.zip").read_bytes()


def test_it_is_the_same_in_another_process(slaegan: Rendered, tmp_path: Path) -> None:
    _, here = slaegan(PicturesIn(seed=2**63 - 1, count=1))
    program = (
        "import sys; from pathlib import Path; from core.generation.drawing import picture_of, studio;"
        "from core.generation.files import as_image, as_png; from core.training.snapshot import load_generator;"
        "g = load_generator(Path(sys.argv[1])); s = studio('cpu'); s.__enter__();"
        "Path(sys.argv[2]).write_bytes(as_png(as_image(picture_of(g, 2**63 - 1, label=None, truncation=1.0))))"
    )
    out = tmp_path / "there.png"
    subprocess.run([sys.executable, "-c", program, str(slaegan.file), str(out)], check=True)
    assert out.read_bytes() == png_of(here, 2**63 - 1)


def test_archives_are_the_same_bytes_and_tell_no_time(slaegan: Rendered) -> None:
    (_, first), (_, second) = (slaegan(PicturesIn(seed=1, count=2)) for _ in range(2))
    assert (first / "pictures.zip").read_bytes() == (second / "pictures.zip").read_bytes()
    with zipfile.ZipFile(first / "pictures.zip") as archive:
        assert archive.namelist() == ["seed-1.png", "seed-2.png"]
        assert archive.testzip() is None
        assert archive.read("seed-2.png") == png_of(first, 2)
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_what_is_told_of_files_is_true(slaegan: Rendered) -> None:
    tick, folder = slaegan(PicturesIn(seed=0, count=3))
    assert [file.role for file in tick.files] == ["main", "preview", *["picture"] * 3]
    for file in tick.files:
        assert (folder / file.name).stat().st_size == file.size_bytes
        assert sha256_of(folder / file.name) == file.sha256
    assert {path.name for path in folder.iterdir()} == {file.name for file in tick.files}
    with Image.open(folder / "grid.png") as grid:
        assert grid.size == (128, 128)
        assert grid.crop((0, 64, 64, 128)).tobytes() == Image.open(folder / "seed-2.png").tobytes()


def test_beyond_64_pictures_lie_in_the_archive_alone(slaegan: Rendered) -> None:
    tick, folder = slaegan(PicturesIn(seed=0, count=66))
    assert len(by_role(tick, "picture")) == 64
    with zipfile.ZipFile(folder / "pictures.zip") as archive:
        assert len(archive.namelist()) == 66
    with Image.open(folder / "grid.png") as grid:
        assert grid.size == (8 * 64, 8 * 64)


def test_a_grid_alone(slaegan: Rendered) -> None:
    tick, folder = slaegan(PicturesIn(seed=0, count=2, form="grid"))
    assert by_role(tick, "main") == ["grid.png"]
    assert not (folder / "pictures.zip").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_truncation_brings_pictures_together(family: str, tmp_path: Path) -> None:
    rendered = Rendered(tmp_path, richest(family))
    spreads = []
    for truncation in (1.0, 0.2):
        pictures = torch.stack(
            [
                picture_of(
                    rendered.generators.of(rendered.file, device="cpu"),
                    seed,
                    label=None,
                    truncation=truncation,
                ).float()
                for seed in range(6)
            ]
        )
        spreads.append(float(pictures.std(dim=0).mean()))
    assert spreads[1] < spreads[0]


def test_classes_take_turns_by_the_seed(stylegan2: Rendered) -> None:
    _, turns = stylegan2(PicturesIn(seed=4, count=2, classes=("cat", "owl")))
    _, cats = stylegan2(PicturesIn(seed=4, count=2, classes=("cat",)))
    _, owls = stylegan2(PicturesIn(seed=4, count=2, classes=("owl",)))
    assert png_of(turns, 4) == png_of(cats, 4) != png_of(owls, 4)
    assert png_of(turns, 5) == png_of(owls, 5) != png_of(cats, 5)


def test_without_classes_each_seed_draws_its_own(stylegan2: Rendered) -> None:
    _, drawn = stylegan2(PicturesIn(seed=0, count=6))
    of_class = [stylegan2(PicturesIn(seed=0, count=6, classes=(name,)))[1] for name in CLASSES]
    for seed in range(6):
        assert sum(png_of(drawn, seed) == png_of(folder, seed) for folder in of_class) == 1


def test_what_the_generator_cannot_do_is_said(slaegan: Rendered) -> None:
    with pytest.raises(ConfigurationFailed, match="not trained by class"):
        slaegan(PicturesIn(classes=("cat",)))
    with pytest.raises(ConfigurationFailed, match="from sides 16, 32, 64"):
        slaegan(StyleMixIn(rows=(1,), columns=(2,), from_side=8))


def test_a_generator_of_other_networks_is_refused(slaegan: Rendered) -> None:
    other = slaegan.config.model_copy(update={"width": 0.25})
    with pytest.raises(ConfigurationFailed, match="differs in width"):
        slaegan(PicturesIn(count=1), config=other)
    longer = slaegan.config.model_copy(update={"total_images": 10_000})
    slaegan(PicturesIn(count=1), config=longer)


def test_a_missing_and_a_damaged_file_are_told(slaegan: Rendered, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFailed, match="No such file"):
        slaegan(PicturesIn(count=1), generator=tmp_path / "gone.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(slaegan.file.read_bytes()[:1_000])
    with pytest.raises(ConfigurationFailed, match="cannot be read as a generator"):
        slaegan(PicturesIn(count=1), generator=tmp_path / "cut.safetensors")


def test_numbers_that_are_not_finite_are_no_picture(tmp_path: Path) -> None:
    rendered = Rendered(tmp_path, richest("dcgan"))
    generator = rendered.generators.of(rendered.file, device="cpu")
    generator.network.to_picture.bias.fill_(torch.nan)  # type: ignore[operator, union-attr]  # a parameter
    with pytest.raises(NonFinite, match="not finite"):
        rendered(PicturesIn(count=2))
    assert not (rendered.folder / "work-1" / "pictures.zip").exists()
