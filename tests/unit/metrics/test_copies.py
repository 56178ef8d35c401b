from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.metrics.copies import Copies, copy_rate, copy_threshold
from core.metrics.nearest import TrainingPictures
from core.metrics.perception import apart, look
from core.training.perceptual import Lpips

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def lpips(weights_dir: Path) -> Lpips:
    return Lpips(weights_dir)


def pictures(count: int, *, seed: int = 0, side: int = 64) -> Tensor:
    """Soft blobs of colour, unlike each other."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=draws)
    return (F.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def training(lpips: Lpips) -> TrainingPictures:
    return TrainingPictures(torch.split(pictures(20), 7), count=20, lpips=lpips)


def test_distances_are_lpips_to_the_picture_or_its_mirror(training: TrainingPictures, lpips: Lpips) -> None:
    mine, theirs = pictures(3, seed=1), pictures(20)
    found = training.distances(mine)
    assert found.shape == (3, 20)
    scaled, mirrored, others = (x / 127.5 - 1 for x in (mine, mine.flip(3), theirs))
    with torch.inference_mode():
        for row in range(3):
            straight = lpips(scaled[row].expand_as(others), others)
            flipped = lpips(mirrored[row].expand_as(others), others)
            torch.testing.assert_close(found[row], torch.minimum(straight, flipped), rtol=0, atol=1e-3)


def test_larger_pictures_are_compared_at_64_pixels(training: TrainingPictures) -> None:
    large = F.interpolate(pictures(4).float(), size=128, mode="nearest").to(torch.uint8)
    assert training.nearest(large).row_N.tolist() == [0, 1, 2, 3]
    assert training.nearest(large).distance_N.max() < 0.05


def test_a_memoriser_is_caught_and_new_pictures_are_not(training: TrainingPictures) -> None:
    threshold = copy_threshold(training.distances(pictures(20)))
    shaken = pictures(20).float() + 2 * torch.randn(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    memorised = training.nearest(shaken.clamp(0, 255).to(torch.uint8).flip(3))
    assert memorised.row_N.tolist() == list(range(20))
    assert copy_rate(memorised.distance_N, threshold=threshold) == 1
    new = training.nearest(pictures(20, seed=2))
    assert copy_rate(new.distance_N, threshold=threshold) < 0.2


def test_the_threshold_by_hand() -> None:
    """Five pictures on a line at 0, 10, 30, 60, 61: the last is a second take of the one before."""
    place = torch.tensor([0.0, 10.0, 30.0, 60.0, 61.0])
    among = (place[:, None] - place).abs()
    # Nearest distances 10, 10, 20, 1, 1: below 2 is a duplicate. Without the last: 10, 10, 20, 30.
    assert copy_threshold(among) == 10.0  # the 5th percentile; half the median is 7.5
    # Nearest 1, 1, 30, 60, 60; median 30: a second take is below 6. Without it: 20, 30, 50 -> at least half of 30.
    place = torch.tensor([0.0, 1.0, 31.0, 91.0, 151.0])
    among = (place[:, None] - place).abs()
    # Without the picture at 1: 31, 31, 60, 60; 5th percentile 31.
    assert copy_threshold(among) == pytest.approx(31.0)
    uneven = torch.tensor([0.0, 7.0, 107.0, 207.0, 307.0, 407.0, 507.0, 607.0, 707.0])
    among = (uneven[:, None] - uneven).abs()
    # 7 is below a fifth of the median of 100: without it every neighbour is 100 or 107 away.
    assert copy_threshold(among) == pytest.approx(100.0)


def test_half_the_median_holds_where_a_few_lie_close() -> None:
    place = torch.tensor([0.0, 30.0, 130.0, 230.0, 330.0, 430.0, 530.0])
    among = (place[:, None] - place).abs()
    # Nearest: 30, 30, 100, 100, 100, 100, 100: the 5th percentile is 30, half the median 50.
    assert copy_threshold(among) == pytest.approx(50.0)


def test_copies_of_one_picture_leave_no_threshold(training: TrainingPictures) -> None:
    assert copy_threshold(torch.zeros(6, 6)) == 0
    copies = Copies(training, threshold=0.0, pictures=2)
    copies.add(pictures(2))
    assert set(copies.metrics()) == {"nearest_lpips"}, "no rate of 0 where nothing can be told"


def test_a_twin_of_every_picture_leaves_the_threshold_where_it_was() -> None:
    """As where a set was uploaded with its mirror images, or frames of one film."""
    place = torch.rand(50, 8, generator=torch.Generator().manual_seed(0))
    near = place + 1e-4 * torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    alone = copy_threshold(torch.cdist(place, place))
    together = torch.cat([place, near])
    assert copy_threshold(torch.cdist(together, together)) == pytest.approx(alone, rel=0.01)


def test_only_the_first_pictures_of_the_stream_are_looked_at(training: TrainingPictures) -> None:
    copies = Copies(training, threshold=0.2, pictures=10)
    stream = torch.cat([pictures(7), pictures(20, seed=2)])
    for part in torch.split(stream, 4):
        copies.add(part)
    nearest = copies.nearest()
    assert nearest.row_N[:7].tolist() == list(range(7))
    assert len(nearest.row_N) == 10
    expected = training.nearest(stream[:10])
    torch.testing.assert_close(nearest.distance_N, expected.distance_N, rtol=0, atol=1e-3)
    found = copies.metrics()
    assert found["copy_threshold"] == 0.2
    assert found["copy_rate"] == pytest.approx((expected.distance_N < 0.2).float().mean().item())
    assert found["nearest_lpips"] == pytest.approx(expected.distance_N.median().item(), abs=1e-3)


def test_depths_that_are_known_give_the_same(training: TrainingPictures, lpips: Lpips) -> None:
    stream = pictures(6, seed=3)
    plain, shared = (Copies(training, threshold=0.2, pictures=5) for _ in range(2))
    plain.add(stream)
    for part in torch.split(stream, 2):
        shared.add(part, depths=look(lpips, part))
    assert torch.equal(plain.nearest().row_N, shared.nearest().row_N)
    torch.testing.assert_close(plain.nearest().distance_N, shared.nearest().distance_N, rtol=0, atol=1e-3)


def test_diversity_within_clusters(training: TrainingPictures, lpips: Lpips) -> None:
    """Of two pictures that copy number 0 and one that copies number 1, one pair shares its neighbour."""
    first, second = pictures(20)[:2]
    shaken = first.float() + 20 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    stream = torch.stack([first, second, shaken.clamp(0, 255).to(torch.uint8)])
    copies = Copies(training, threshold=0.2, pictures=3)
    copies.add(stream)
    assert copies.nearest().row_N.tolist() == [0, 1, 0]
    expected = apart(lpips, look(lpips, stream[[0, 2]]))
    assert copies.within_clusters(lpips, pairs=10, seed=0) == pytest.approx(float(expected), abs=1e-5)
    alone = Copies(training, threshold=0.2, pictures=2)
    alone.add(stream[:2])
    assert alone.within_clusters(lpips, pairs=10, seed=0) is None
