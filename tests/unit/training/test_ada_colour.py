"""ADA's colours and corruptions, against scipy, numpy and explicit loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.spatial.transform import Rotation

from core.training import ada_corruption
from core.training.ada_colour import draw_colour, recolour
from core.training.ada_corruption import (
    bands,
    cut_out,
    draw_cutout,
    draw_filter,
    draw_noise,
    filtered,
    noised,
)

CPU = torch.device("cpu")
ONE = torch.ones(())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, *, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(9), dtype=torch.float64) * 2 - 1


def test_colours_are_changed_one_after_the_other() -> None:
    """Each of the five by its own definition on every pixel; the hue by scipy's rotations."""
    x = pictures(20)
    _, normals, uniform = draws = draw_colour(x, generator=seeded())
    after = recolour(x, *draws, probability=ONE).numpy()
    axis = np.ones(3) / math.sqrt(3)
    for index in range(20):
        brightness, contrast, saturation = normals[index].tolist()
        flip, hue = uniform[index].tolist()
        pixels = x[index].numpy().reshape(3, -1).T
        pixels = (pixels + 0.2 * brightness) * 2 ** (0.5 * contrast)
        if flip < 0.5:
            pixels = pixels - 2 * (pixels @ axis)[:, None] * axis
        pixels = Rotation.from_rotvec(axis * math.pi * (2 * hue - 1)).apply(pixels)
        grey = pixels.mean(axis=1, keepdims=True)
        pixels = grey + 2**saturation * (pixels - grey)
        np.testing.assert_allclose(after[index].reshape(3, -1).T, pixels, atol=1e-6)
    assert (uniform[:, 0] < 0.5).any()
    assert (uniform[:, 0] >= 0.5).any()


def test_hue_and_saturation_keep_the_mean_of_every_pixel() -> None:
    x = pictures(20)
    chances, normals, uniform = draw_colour(x, generator=seeded())
    chances = torch.ones_like(chances)
    chances[:, 3:] = 0
    after = recolour(x, chances, normals, uniform, probability=torch.tensor(0.5))
    assert (after - x).abs().max() > 0.5
    torch.testing.assert_close(after.mean(dim=1), x.mean(dim=1), rtol=0, atol=1e-6)


def test_grey_pictures_have_neither_hue_nor_saturation() -> None:
    x = pictures(20)[:, :1].expand(-1, 3, -1, -1)
    chances, normals, uniform = draw_colour(x, generator=seeded())
    chances = torch.ones_like(chances)
    chances[:, 3:] = 0
    after = recolour(x, chances, normals, uniform, probability=torch.tensor(0.5))
    torch.testing.assert_close(after, x.clone(), rtol=0, atol=1e-6)


def test_the_bands_are_octaves_that_add_up_to_everything() -> None:
    """In the middle of the matrices stand the filters; their responses are products of the half-band's."""
    matrices = bands(64, dtype=torch.float64, device=CPU).numpy()
    np.testing.assert_allclose(matrices.sum(axis=0), np.eye(64), atol=1e-12)
    angles = np.linspace(0, np.pi, 33)

    def low(step: int) -> np.ndarray:
        return np.abs(signal.freqz(ada_corruption._SYM2, worN=step * angles)[1]) ** 2 / 2

    expected = [
        low(1) * low(2) * low(4),
        low(1) * low(2) * (1 - low(4)),
        low(1) * (1 - low(2)),
        1 - low(1),
    ]
    distances = np.arange(64) - 32
    for band, response in zip(matrices, expected, strict=True):
        mine = (band[32] * np.cos(angles[:, None] * distances)).sum(axis=1)
        np.testing.assert_allclose(mine, response, atol=1e-10)
    # Of the middle of each octave, its own band lets most pass.
    responses = np.stack(expected)
    for band, angle in enumerate((1, 6, 12, 24)):  # of 32 steps to pi
        assert responses[:, angle].argmax() == band


def test_filtering_mirrors_beyond_the_border() -> None:
    x = pictures(6, side=32)
    chances, normals = draws = draw_filter(x, generator=seeded())
    assert chances.shape == normals.shape == (6, 4)
    after = filtered(x, *draws, probability=ONE)
    matrices = bands(256, dtype=torch.float64, device=CPU).numpy()  # their row 128 meets no border
    taps = matrices[:, 128, 128 - 21 : 128 + 22]
    for index in range(6):
        gain = np.ones(4)
        for band, value in enumerate(normals[index].tolist()):
            amplitudes = np.ones(4)
            amplitudes[band] = 2**value
            gain *= amplitudes / math.sqrt((np.array([10, 1, 1, 1]) / 13 * amplitudes**2).sum())
        kernel = np.outer(gain @ taps, gain @ taps)
        padded = np.pad(x[index].numpy(), [(0, 0), (21, 21), (21, 21)], mode="reflect")
        expected = [signal.convolve(channel, kernel, mode="valid") for channel in padded]
        np.testing.assert_allclose(after[index].numpy(), np.stack(expected), atol=1e-6)


def test_filtering_one_band_keeps_the_expected_power() -> None:
    for band in range(4):
        amplitude = torch.ones(1, 4)
        amplitude[0, band] = 3.0
        gain = ada_corruption._gains(amplitude)[0]
        power = torch.tensor([10.0, 1, 1, 1]) / 13
        assert float((power * gain.square()).sum()) == pytest.approx(1)
        assert float(gain[band] / gain[band - 1]) == pytest.approx(3)


def test_the_noise_has_the_deviation_that_was_drawn() -> None:
    x = torch.full((300, 3, 16, 16), 0.25)
    draws = draw_noise(x, generator=seeded())
    after = noised(x, *draws, probability=torch.tensor(0.5))
    met = draws[0].flatten() < 0.5
    deviations = (after - x).flatten(1).std(dim=1)
    assert torch.equal(deviations == 0, ~met)
    torch.testing.assert_close(
        deviations[met], 0.1 * draws[1].flatten().abs()[met], rtol=0.12, atol=0, check_dtype=False
    )
    # The mean of half a normal distribution with deviation 0.1.
    assert float(deviations[met].mean()) == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.15)
    assert float(after.mean()) == pytest.approx(0.25, abs=0.002)


def test_the_cutout_is_a_square_of_half_the_side() -> None:
    side, count = 8, 40
    x = pictures(count, side=side)
    chances, centres = draws = draw_cutout(x, generator=seeded())
    after = cut_out(x, *draws, probability=torch.tensor(0.6))
    expected = x.clone()
    for index in range(count):
        down, right = centres[index].tolist()
        for row in range(side):
            for column in range(side):
                far = max(abs((row + 0.5) / side - down), abs((column + 0.5) / side - right))
                if far < 0.25 and float(chances[index]) < 0.6:
                    expected[index, :, row, column] = 0
    assert torch.equal(after, expected)
    assert 0 < (after == 0).float().mean() < 0.25 * 0.8
