from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from core.errors import DataFailed
from core.schemas.training import Fit
from core.training.data import EpochOrder, load_pictures, read_pictures, squared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LANCZOS = Image.Resampling.LANCZOS


def never() -> None:
    """Nobody asks to stop."""


def load(folder: Path, cache: Path, *, fit: Fit = "crop", **arguments: Any) -> torch.Tensor:
    given = {"check_stop": never} | arguments
    return load_pictures(folder, resolution=64, fit=fit, cache_dir=cache, dataset_hash="h", **given)


def pixels(picture: Image.Image) -> torch.Tensor:
    """HW3."""
    return torch.from_numpy(np.array(picture))


def assert_same_inside(mine_HW3: torch.Tensor, theirs_HW3: torch.Tensor) -> None:
    """But for the border, where Lanczos, three pixels wide, sees a little of what the crop cuts off.

    Pillow rounds twice, after the rows and after the columns: one level of 255 each.
    """
    torch.testing.assert_close(mine_HW3[3:-3, 3:-3], theirs_HW3[3:-3, 3:-3], atol=2, rtol=0)


def drawn(width: int, height: int) -> Image.Image:
    """Soft ground, hard edges and grain, as photographs have them."""
    random = np.random.default_rng(width)
    ground = Image.fromarray(random.integers(0, 256, size=(6, 6, 3), dtype=np.uint8))
    picture = ground.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = random.integers(0, [width, height])
        pen.ellipse((x, y, x + width // 5, y + height // 6), fill=tuple(random.integers(0, 256, size=3)))
    grain = random.normal(0, 15, size=(height, width, 3))
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def test_pictures_are_square_and_in_the_order_of_their_names(images_dir: Path, tmp_path: Path) -> None:
    pictures = load(images_dir, tmp_path)
    assert pictures.shape == (6, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    for index, path in enumerate(sorted(images_dir.iterdir())):
        with Image.open(path) as opened:
            edge = min(opened.size)
            left, top = (opened.width - edge) // 2, (opened.height - edge) // 2
            square = opened.convert("RGB").crop((left, top, left + edge, top + edge))
        assert_same_inside(pictures[index].permute(1, 2, 0), pixels(square.resize((64, 64), LANCZOS)))


def test_a_picture_is_cropped_padded_or_squashed() -> None:
    picture = drawn(120, 80)
    cropped, padded, squashed = (
        pixels(squared(picture, side=64, fit=fit, resample=LANCZOS)) for fit in get_args(Fit)
    )
    square = picture.crop((20, 0, 100, 80)).resize((64, 64), LANCZOS)
    assert_same_inside(cropped, pixels(square))
    assert torch.equal(squashed, pixels(picture.resize((64, 64), LANCZOS)))
    assert torch.equal(padded, pixels(ImageOps.pad(picture, (64, 64), LANCZOS, color="white")))
    # 80 of 120 is 43 of 64: ten rows of white above, eleven below, and the whole picture between them.
    assert padded[:10].eq(255).all()
    assert padded[53:].eq(255).all()
    assert torch.equal(padded[10:53], pixels(picture.resize((64, 43), LANCZOS)))


def test_a_sliver_is_padded_to_one_pixel() -> None:
    padded = pixels(squared(Image.new("RGB", (1, 900)), side=64, fit="pad", resample=LANCZOS))
    assert padded[:, 31].eq(0).all()
    assert padded.eq(255).all(dim=2).sum() == 63 * 64


@pytest.mark.parametrize("fit", get_args(Fit))
def test_up_to_8_times_smaller_is_lanczos_and_beyond_nearly_so(fit: Fit) -> None:
    def error(picture: Image.Image) -> float:
        ours = squared(picture, side=64, fit=fit, resample=LANCZOS)
        plain = {"crop": ImageOps.fit, "pad": ImageOps.pad}.get(fit, Image.Image.resize)
        options = {"color": "white"} if fit == "pad" else {}
        theirs = plain(picture, (64, 64), LANCZOS, **options)
        return float((pixels(ours).float() - pixels(theirs).float()).abs().mean())

    assert error(drawn(510, 510)) == 0
    assert 0 < error(drawn(640, 640)) < 1  # levels of 255
    assert 0 < error(drawn(1024, 1024)) < 1


def test_the_cache_is_a_file_of_its_own_for_each_fit_and_stands_in_for_the_folder(
    images_dir: Path, tmp_path: Path
) -> None:
    first = {fit: load(images_dir, tmp_path, fit=fit) for fit in get_args(Fit)}
    assert len(list(tmp_path.iterdir())) == 3
    for fit, pictures in first.items():
        assert torch.equal(load(tmp_path / "gone", tmp_path, fit=fit), pictures)
        assert [torch.equal(pictures, other) for other in first.values()].count(True) == 1


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda whole: whole[:100],
    "empty": lambda _: b"",
    "a byte short": lambda whole: whole[:-1],
    "a byte more": lambda whole: whole + b"0",
    "signed": lambda whole: whole.replace(b"'|u1'", b"'|i1'", 1),
    "column by column": lambda whole: whole.replace(b"False", b"True ", 1),
    "other pixels": lambda whole: whole.replace(b"(6, 3, 64, 64)", b"(6, 3, 32, 32)", 1),
    "a picture less than it says": lambda whole: whole[: -3 * 64 * 64],
    "no pictures": lambda whole: whole[:128],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_again(images_dir: Path, tmp_path: Path, damage: str) -> None:
    first = load(images_dir, tmp_path).clone()
    (cached,) = tmp_path.iterdir()
    whole = cached.read_bytes()
    assert torch.equal(torch.from_numpy(np.load(cached)), first)
    cached.write_bytes(DAMAGES[damage](whole))
    assert cached.read_bytes() != whole
    assert torch.equal(load(images_dir, tmp_path), first)
    assert cached.read_bytes() == whole


def test_what_cannot_be_read_is_named(images_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sorted(images_dir.iterdir())[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataFailed, match="holds 3 pictures"):
        load(folder, tmp_path)
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataFailed, match=r"broken\.png"):
        load(folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_progress_counts_what_is_decoded_and_nothing_else(images_dir: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    load(images_dir, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]
    load(images_dir, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 6


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_stop_leaves_no_file_and_no_thread(images_dir: Path, tmp_path: Path) -> None:
    asked = iter([None, None, KeyError("stop")])

    def stop() -> None:
        if error := next(asked):
            raise error

    with pytest.raises(KeyError, match="stop"):
        load(images_dir, tmp_path, check_stop=stop)
    assert list(tmp_path.iterdir()) == []
    assert decoders() == []


@pytest.fixture
def _four_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_four_threads")
def test_many_threads_decode_the_same_pictures_in_the_same_order(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(40):
        # The later, the smaller: the later ones are decoded sooner than those before them.
        Image.new("RGB", (800 - 18 * index, 800), (index, 0, 0)).save(folder / f"{index:02d}.png")
    pictures = load(folder, tmp_path)
    assert pictures[:, 0, 0, 0].tolist() == list(range(40))
    assert decoders() == []


def test_few_pictures_are_in_memory_at_a_time(images_dir: Path, tmp_path: Path) -> None:
    source = sorted(images_dir.iterdir())[1].read_bytes()
    paths = [tmp_path / f"{index}.png" for index in range(20)]
    for path in paths:
        path.write_bytes(source)
    reading = read_pictures(paths, side=64, fit="crop", resample=LANCZOS, check_stop=never)
    next(reading)
    for path in paths[
        2:
    ]:  # one thread: two were given to it, and the third is not before the first is done with
        path.unlink()
    next(reading)
    with pytest.raises(DataFailed, match=r"2\.png"):
        next(reading)


def test_every_epoch_shows_every_picture_once_in_a_new_order() -> None:
    order = EpochOrder(7, seed=3)
    epochs = order.rows(0, batch=21).view(3, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_the_position_is_all_the_state() -> None:
    whole = EpochOrder(5, seed=1).rows(0, batch=40)
    for position in (0, 3, 17, 32):
        assert torch.equal(EpochOrder(5, seed=1).rows(position, batch=8), whole[position : position + 8])
    assert not torch.equal(EpochOrder(5, seed=2).rows(0, batch=40), whole)
