from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.training.augment import Augmentation, augment, flip

KINDS: tuple[Augmentation, ...] = ("color", "translation", "cutout")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, *, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(9), dtype=torch.float32) * 2 - 1


def test_color_is_brightness_saturation_contrast() -> None:
    """Against plain numbers, pixel by pixel: each step needs the whole picture before it."""
    x = pictures(3, side=6).double()
    brightness, saturation, contrast = torch.rand(3, 3, generator=seeded(), dtype=torch.float64).tolist()
    expected = torch.zeros_like(x)
    places = [(row, column) for row in range(6) for column in range(6)]
    for index, picture in enumerate(x.tolist()):
        saturated = {}
        for row, column in places:
            bright = [picture[channel][row][column] + brightness[index] - 0.5 for channel in range(3)]
            grey = sum(bright) / 3
            saturated[row, column] = [grey + (value - grey) * 2 * saturation[index] for value in bright]
        mean = sum(value for values in saturated.values() for value in values) / (3 * 36)
        for (row, column), values in saturated.items():
            for channel, value in enumerate(values):
                expected[index, channel, row, column] = mean + (value - mean) * (contrast[index] + 0.5)
    torch.testing.assert_close(augment(x, kinds=("color",), generator=seeded()), expected)


def test_translation_moves_by_whole_pixels_and_fills_with_zeros() -> None:
    x = pictures(40)
    down, right = torch.randint(-2, 3, (2, 40), generator=seeded())
    expected = torch.zeros_like(x)
    for index in range(40):
        for row in range(16):
            for column in range(16):
                source = row - int(down[index]), column - int(right[index])
                if all(0 <= place < 16 for place in source):
                    expected[index, :, row, column] = x[index, :, source[0], source[1]]
    assert torch.equal(augment(x, kinds=("translation",), generator=seeded()), expected)
    assert {int(shift) for shift in down} == {-2, -1, 0, 1, 2}  # an eighth of 16, both ways


@pytest.mark.parametrize("side", [16, 6])
def test_cutout_zeroes_the_pixels_around_its_centre(side: int) -> None:
    """Pixel by pixel: zero where a pixel lies less than a quarter of the side before, or beyond, the centre."""
    x = pictures(40, side=side)
    size = int(side * 0.5 + 0.5)
    odd = size % 2  # an even square has its centre between two pixels, of which there is one more
    down, right = torch.randint(0, side + 1 - odd, (2, 40), generator=seeded()).tolist()
    expected = x.clone()
    for index in range(40):
        for row in range(side):
            for column in range(side):
                offsets = row - down[index], column - right[index]
                if all(-(size // 2) <= offset < size // 2 + odd for offset in offsets):
                    expected[index, :, row, column] = 0
    assert torch.equal(augment(x, kinds=("cutout",), generator=seeded()), expected)


def test_cutout_zeroes_a_square_of_half_the_side() -> None:
    x = torch.ones(200, 3, 16, 16)
    holes = (augment(x, kinds=("cutout",), generator=seeded()) == 0).all(dim=1).sum(dim=(1, 2))
    assert holes.max() == 64
    assert holes.min() == 16  # a quarter of it, where the centre lies in a corner
    assert 35 < holes.float().mean() < 64


@pytest.mark.parametrize("kinds", [("color",), ("translation",), ("cutout",), KINDS])
def test_gradients_are_exact(kinds: tuple[Augmentation, ...]) -> None:
    x = pictures(2, side=8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, kinds=kinds, generator=seeded(3)), [x])


def test_draws_repeat_by_seed_and_differ_between_pictures() -> None:
    x = pictures(1).expand(4, -1, -1, -1)
    first = augment(x, kinds=KINDS, generator=seeded())
    assert torch.equal(first, augment(x, kinds=KINDS, generator=seeded()))
    assert not torch.equal(first[0], first[1])


def test_no_kind_changes_nothing() -> None:
    x = pictures(2)
    assert torch.equal(augment(x, kinds=(), generator=seeded()), x)


def test_flips_mirror_half_of_the_pictures() -> None:
    x = pictures(400, side=4)
    flipped = flip(x, generator=seeded())
    mirrored = [torch.equal(after, before.flip(2)) for after, before in zip(flipped, x, strict=True)]
    kept = [torch.equal(after, before) for after, before in zip(flipped, x, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 160 < sum(mirrored) < 240
