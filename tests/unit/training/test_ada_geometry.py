"""ADA's blits and geometric transformations, against scipy and pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from torch import Tensor

from core.training import ada_geometry
from core.training.ada_geometry import doubled, draw_blit, draw_geometry, halved, transform

SIDE = 16
ONE = torch.ones(())
STILL = 0.5  # a U[0, 1) number of no angle
GEOMETRY: dict[str, tuple[list[float], list[float]]] = {
    # N(0, 1) numbers of scale, stretch, right and down; U[0, 1) numbers of the rotations before and after
    "scale": ([2.0, 0, 0, 0], [STILL, STILL]),
    "shrink": ([-2.0, 0, 0, 0], [STILL, STILL]),
    "rotation": ([0, 0, 0, 0], [0.6, STILL]),
    "stretch": ([0, 1.5, 0, 0], [STILL, STILL]),
    "translation": ([0, 0, 0.7, -0.3], [STILL, STILL]),
    "all": ([1.0, -1.5, 0.4, 0.9], [0.3, 0.85]),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, *, side: int) -> Tensor:
    """Pictures without high frequencies, which every good interpolation resamples alike."""
    noise = np.random.default_rng(0).normal(size=(count, 3, side, side))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 2.5, 2.5), mode="mirror") * 8)


def always(normals: list[float], uniform: list[float]) -> tuple[Tensor, ...]:
    """The draws of one picture that every general transformation meets."""
    return torch.zeros(1, 5), torch.tensor([normals]), torch.tensor([uniform])


def test_the_wavelet_is_sym6() -> None:
    """Orthonormal to its even shifts, six vanishing moments: no other 12 taps but its relatives have both."""
    taps = np.array(ada_geometry._SYM6)
    for shift in range(6):
        product = (taps[: 12 - 2 * shift] * taps[2 * shift :]).sum()
        assert product == pytest.approx(1.0 if shift == 0 else 0.0, abs=1e-10)
    signs = (-1.0) ** np.arange(12)
    moments = [(signs * taps * np.arange(-6.0, 6.0) ** power).sum() for power in range(6)]
    assert moments == pytest.approx([0.0] * 6, abs=1e-6)
    # Of those it is the least asymmetric: its mass lies in the middle, not at one end.
    assert (taps**2 * np.arange(12)).sum() == pytest.approx(5.5, abs=0.7)


def test_doubling_is_zeros_between_the_pixels_and_the_wavelet() -> None:
    x = torch.rand(1, 2, SIDE, SIDE, generator=seeded(), dtype=torch.float64)
    taps = np.array(ada_geometry._SYM6) * math.sqrt(2)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (3, 3), (3, 3)], mode="reflect")
    for axis in (2, 3):
        padded = signal.upfirdn(taps, padded, up=2, axis=axis)
    expected = padded[:, :, 11 : 11 + 2 * SIDE, 11 : 11 + 2 * SIDE]
    np.testing.assert_allclose(doubled(x).numpy(), expected, atol=1e-12)


def test_halving_is_the_inverse_of_doubling() -> None:
    x = torch.rand(2, 3, SIDE, SIDE, generator=seeded(), dtype=torch.float64)
    back = halved(torch.nn.functional.pad(doubled(x), (5,) * 4))
    inner = slice(3, SIDE - 3)
    torch.testing.assert_close(back[..., inner, inner], x[..., inner, inner], rtol=0, atol=1e-10)


def test_blits_copy_pixels() -> None:
    """Flip, quarter turn and translation by loops; each source is a pixel of the picture, mirrored beyond it."""
    x = torch.rand(60, 3, SIDE, SIDE, generator=seeded(1))
    _, uniform = draws = draw_blit(x, generator=seeded(2))
    after = transform(x, blit=draws, geometry=None, probability=ONE)
    for index in range(60):
        flip, turn, right, down = uniform[index].tolist()
        source = x[index].numpy()
        source = source[:, :, ::-1] if flip < 0.5 else source
        source = np.rot90(source, -int(4 * turn), axes=(1, 2))
        shift = [round((2 * value - 1) * SIDE / 8) for value in (down, right)]
        padded = np.pad(source, [(0, 0), (2, 2), (2, 2)], mode="reflect")
        expected = padded[:, 2 - shift[0] : 18 - shift[0], 2 - shift[1] : 18 - shift[1]]
        assert np.array_equal(after[index].numpy(), expected), index
    assert {round((2 * float(value) - 1) * 2) for value in uniform[:, 2]} == {-2, -1, 0, 1, 2}
    assert {int(4 * value) for value in uniform[:, 1]} == {0, 1, 2, 3}


@pytest.mark.parametrize("case", GEOMETRY)
def test_geometry_agrees_with_scipy(case: str) -> None:
    """The matrices are made anew here, in rows and columns; scipy interpolates by cubic splines."""
    normals, uniform = GEOMETRY[case]
    side = 32
    x = smooth(1, side=side)
    scale, stretch = 2 ** (0.2 * normals[0]), 2 ** (0.2 * normals[1])
    before, after = (math.pi * (2 * value - 1) for value in uniform)

    def turned(angle: float) -> np.ndarray:  # clockwise on the screen, (row, column)
        return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    forward = turned(after) @ np.diag([1 / stretch, stretch]) @ turned(before) * scale
    back = np.linalg.inv(forward)
    centre = np.full(2, (side - 1) / 2)
    shift = np.array([normals[3], normals[2]]) * 0.125 * side
    offset = centre - back @ (centre + shift)
    expected = [
        ndimage.affine_transform(channel.numpy(), back, offset, order=3, mode="mirror") for channel in x[0]
    ]
    mine = transform(x, blit=None, geometry=always(normals, uniform), probability=ONE)[0].numpy()
    assert np.abs(mine - np.stack(expected)).max() < 0.03 * float(x.std())


def test_blit_and_geometry_are_one_map() -> None:
    """A picture that both meet is blitted first; its far mirror images are those of the whole plane."""
    x = smooth(1, side=32)
    blit = torch.zeros(1, 3), torch.tensor([[0.2, 0.3, 0.9, 0.1]])
    geometry = always(*GEOMETRY["all"])
    both = transform(x, blit=blit, geometry=geometry, probability=ONE)
    blitted = transform(x, blit=blit, geometry=None, probability=ONE)
    twice = transform(blitted, blit=None, geometry=geometry, probability=ONE)
    inner = slice(8, 24)
    torch.testing.assert_close(
        both[..., inner, inner], twice[..., inner, inner], rtol=0, atol=0.02 * float(x.std())
    )


def test_shrinking_hardly_aliases() -> None:
    """Stripes that are too fine for the shrunken picture all but vanish; without filters they come back coarser."""
    side, scale = 48, 2**-0.6
    stripes = torch.cos(0.85 * math.pi * torch.arange(side, dtype=torch.float64)).expand(1, 1, side, -1)
    centre = np.full(2, (side - 1) / 2)
    naive = ndimage.affine_transform(
        stripes[0, 0].numpy(), np.eye(2) / scale, centre - centre / scale, order=1
    )
    shrunken = always([-3.0, 0, 0, 0], [STILL, STILL])
    after = transform(stripes, blit=None, geometry=shrunken, probability=ONE)[0, 0].numpy()
    inner = slice(12, 36)
    assert naive[inner, inner].std() > 0.4
    assert after[inner, inner].std() < 0.15


def test_a_flat_picture_stays_flat() -> None:
    x = torch.full((20, 3, SIDE, SIDE), 0.3)
    draws = draw_geometry(x, generator=seeded())
    torch.testing.assert_close(transform(x, blit=None, geometry=draws, probability=ONE), x, rtol=0, atol=1e-5)


def test_either_rotation_comes_with_p_together() -> None:
    x = torch.rand(4000, 1, 8, 8, generator=seeded())
    chances, normals, uniform = draw_geometry(x, generator=seeded(1))
    rotations_alone = torch.ones_like(chances)
    rotations_alone[:, [1, 3]] = chances[:, [1, 3]]
    after = transform(
        x, blit=None, geometry=(rotations_alone, normals, uniform), probability=torch.tensor(0.4)
    )
    assert (after != x).flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.4, abs=0.03)


def test_the_draws_have_the_papers_distributions() -> None:
    x = torch.zeros(20_000, 1, 4, 4)
    for chances, *others in (draw_blit(x, generator=seeded()), draw_geometry(x, generator=seeded())):
        for uniform in (chances, others[-1]):
            assert uniform.mean(dim=0).tolist() == pytest.approx([0.5] * uniform.shape[1], abs=0.01)
            assert uniform.min() >= 0
            assert uniform.max() < 1
    normals = draw_geometry(x, generator=seeded())[1]
    assert normals.mean(dim=0).tolist() == pytest.approx([0.0] * 4, abs=0.03)
    assert normals.std(dim=0).tolist() == pytest.approx([1.0] * 4, abs=0.03)
