from __future__ import annotations

import pytest
import torch

from core.metrics.clusters import Clusters


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
