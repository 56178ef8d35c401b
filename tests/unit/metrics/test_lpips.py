from __future__ import annotations

from typing import TYPE_CHECKING

import lpips
import pytest
import torch

from core.metrics.lpips import Clusters, Diversity
from core.models.vgg import vgg16_features
from core.training.perceptual import Lpips

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def pictures(count: int, *, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=random, dtype=torch.uint8)


def brightness_apart(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).mean(dim=(1, 2, 3)).abs()


def test_mean_over_the_chosen_neighbours() -> None:
    stream = pictures(20)
    diversity = Diversity(brightness_apart, pictures=20, pairs=19, seed=0)
    for part in stream.split(7):
        diversity.add(part)
    scaled = stream / 127.5 - 1
    assert diversity.mean() == pytest.approx(
        float(brightness_apart(scaled[:-1], scaled[1:]).mean()), rel=1e-5
    )


@pytest.mark.parametrize("batch", [1, 3, 16, 64])
def test_batches_change_nothing(batch: int) -> None:
    def measured(size: int) -> float:
        diversity = Diversity(brightness_apart, pictures=50, pairs=11, seed=3)
        for part in pictures(50).split(size):
            diversity.add(part)
        return diversity.mean()

    assert measured(batch) == pytest.approx(measured(50), rel=1e-6)


def test_identical_pictures_have_no_diversity() -> None:
    diversity = Diversity(brightness_apart, pictures=9, pairs=5, seed=0)
    diversity.add(pictures(1).expand(9, -1, -1, -1))
    assert diversity.mean() == 0


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="4 pictures have 3 pairs of neighbours, not 4"):
        Diversity(brightness_apart, pictures=4, pairs=4, seed=0)
    diversity = Diversity(brightness_apart, pictures=4, pairs=2, seed=0)
    diversity.add(pictures(3))
    with pytest.raises(ValueError, match="4 pictures were announced, 3 came"):
        diversity.mean()


def test_the_distance_is_that_of_the_lpips_package(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trunk:
        """Stands for torchvision's vgg16, which would download its weights."""

        def __init__(self, **_: object) -> None:
            self.features = vgg16_features(weights_dir)

    monkeypatch.setattr("lpips.pretrained_networks.tv.vgg16", Trunk)
    theirs = lpips.LPIPS(net="vgg", verbose=False)
    a, b = pictures(4, seed=1) / 127.5 - 1, pictures(4, seed=2) / 127.5 - 1
    with torch.inference_mode():
        expected = theirs(a, b).flatten()
        diversity = Diversity(Lpips(weights_dir), pictures=5, pairs=4, seed=0)
        found = Lpips(weights_dir)(a, b)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    stream = torch.cat([pictures(4, seed=1), pictures(1, seed=2)])
    diversity.add(stream)
    scaled = stream / 127.5 - 1
    with torch.inference_mode():
        mean = theirs(scaled[:-1], scaled[1:]).mean()
    assert diversity.mean() == pytest.approx(float(mean), rel=1e-4)


def test_pairs_share_their_cluster_and_clusters_count_evenly() -> None:
    rows = torch.tensor([3, 1, 3, 7, 1, 3, 1, 1, 9])
    clusters = Clusters(rows, pairs=100, seed=0)
    pairs = set(zip(clusters.first.tolist(), clusters.second.tolist(), strict=True))
    assert {tuple(sorted(pair)) for pair in pairs} == {
        *((0, 2), (0, 5), (2, 5)),
        *((1, 4), (1, 6), (1, 7), (4, 6), (4, 7), (6, 7)),
    }
    distance = torch.tensor([1.0 if rows[first] == 3 else 4.0 for first in clusters.first.tolist()])
    assert clusters.mean(distance) == pytest.approx(2.5)  # not the mean over pairs, which is 3
    few = Clusters(rows, pairs=4, seed=0)
    assert [int(rows[first]) for first in few.first.tolist()] == [1, 1, 3, 3]
    assert torch.equal(rows[few.first], rows[few.second])
    assert torch.equal(few.first, Clusters(rows, pairs=4, seed=0).first)


def test_without_a_cluster_of_two_there_is_no_number() -> None:
    clusters = Clusters(torch.arange(5), pairs=10, seed=0)
    assert len(clusters.first) == len(clusters.second) == 0
    assert clusters.mean(torch.zeros(0)) is None


def test_a_collapse_into_one_large_cluster_is_sampled() -> None:
    clusters = Clusters(torch.zeros(50_000, dtype=torch.int64), pairs=200, seed=0)
    assert len(clusters.first) == len(clusters.second) == 200
    assert not (clusters.first == clusters.second).any()
    assert clusters.first.max() > 10_000
