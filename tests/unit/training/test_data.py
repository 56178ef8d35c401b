from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from core.errors import DataFailed
from core.training.data import EpochOrder, load_pictures

if TYPE_CHECKING:
    from pathlib import Path


def load(folder: Path, cache: Path) -> torch.Tensor:
    return load_pictures(folder, resolution=64, cache_dir=cache, dataset_hash="h", check_stop=lambda: None)


def test_pictures_are_square_and_in_the_order_of_their_names(images_dir: Path, tmp_path: Path) -> None:
    pictures = load(images_dir, tmp_path)
    assert pictures.shape == (6, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    path = sorted(images_dir.iterdir())[3]
    with Image.open(path) as opened:
        edge = min(opened.size)
        left, top = (opened.width - edge) // 2, (opened.height - edge) // 2
        square = opened.convert("RGB").crop((left, top, left + edge, top + edge))
    expected = square.resize((64, 64), Image.Resampling.LANCZOS)
    assert pictures[3].permute(1, 2, 0).numpy().tobytes() == expected.tobytes()


def test_the_cache_stands_in_for_the_folder_and_is_remade_when_damaged(
    images_dir: Path, tmp_path: Path
) -> None:
    first = load(images_dir, tmp_path)
    assert torch.equal(load(tmp_path / "gone", tmp_path), first)
    (cached,) = tmp_path.iterdir()
    cached.write_bytes(b"torn")
    assert torch.equal(load(images_dir, tmp_path), first)


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
    assert not list(tmp_path.glob("*.safetensors"))


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
