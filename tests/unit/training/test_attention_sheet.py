"""The sheet of attention maps: which map stands where, and that it is the attention of that point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.models.sagan import Generator
from core.schemas.sagan import SaganConfig
from core.training.attention_sheet import POINTS, attend, draw_sheet


def generator() -> Generator:
    torch.manual_seed(0)
    network = Generator(SaganConfig(resolution=64, width=0.125, attention_side=16)).eval()
    nn.init.constant_(network.attention.gamma, 0.5)
    return network


def test_maps_are_those_of_the_points() -> None:
    network, latent_NZ = generator(), torch.randn(2, 128)
    seen: list[Tensor] = []
    hook = network.attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pictures_N3HW, maps_NQHW = attend(network, latent_NZ)
    hook.remove()
    assert torch.equal(pictures_N3HW, network.render(latent_NZ))
    every = network.attention.maps(seen[0], torch.arange(16 * 16)).unflatten(1, (16, 16))
    # The middle is at 8, 8 of a map of 16, the others at 4 and 12.
    expected = torch.stack([every[:, y, x] for y, x in ((8, 8), (4, 4), (4, 12), (12, 4), (12, 12))], dim=1)
    torch.testing.assert_close(maps_NQHW, expected)
    torch.testing.assert_close(maps_NQHW.sum(dim=(2, 3)), torch.ones(2, 5))


def test_a_sheet_shows_each_points_map_in_its_colour() -> None:
    pictures_N3HW = torch.full((2, 3, 64, 64), 200, dtype=torch.uint8)
    maps_NQHW = torch.full((2, 5, 16, 16), 1e-6)
    for point in range(5):  # the first picture's points look at the top, the second's at the bottom
        maps_NQHW[0, point, 0, 2 * point : 2 * point + 2] = 0.25
        maps_NQHW[1, point, 15, 2 * point : 2 * point + 2] = 0.5
    sheet = draw_sheet(pictures_N3HW, maps_NQHW)
    assert sheet.size == (6 * 128, 2 * 128)
    assert sheet.getpixel((1, 1)) == (200, 200, 200)
    for point, ((row, column), colour) in enumerate(POINTS):
        assert sheet.getpixel((int(column * 128), int(row * 128))) == colour  # marked in the picture
        left = (1 + point) * 128
        assert sheet.getpixel((left + int(column * 128), int(row * 128))) == colour  # and in its own map
        assert sheet.getpixel((left + 2, 40)) == (100, 100, 100)  # where nobody looks: dimmed
        for picture, y in ((0, 0), (1, 255)):
            shown = sheet.getpixel((left + 16 * point + 8, y))
            assert isinstance(shown, tuple)
            expected = [0.2 * 100 + 0.8 * part for part in colour]
            assert all(abs(a - b) <= 1 for a, b in zip(shown, expected, strict=True)), (picture, point)
