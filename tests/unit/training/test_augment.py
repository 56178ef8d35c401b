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
    x = pictures(3)
    brightness, saturation, contrast = torch.rand(3, 3, generator=seeded())
    expected = []
    for index, picture in enumerate(x):
        bright = picture + (brightness[index] - 0.5)
        grey = bright.mean(0)
        saturated = (bright - grey) * (2 * saturation[index]) + grey
        expected.append((saturated - saturated.mean()) * (contrast[index] + 0.5) + saturated.mean())
    torch.testing.assert_close(augment(x, kinds=("color",), generator=seeded()), torch.stack(expected))


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
