from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from core.errors import NonFinite
from core.metrics.fid import fid, kid, precision_recall


def features(count: int, *, seed: int, shift: float = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 24, generator=random).relu() + shift


def test_fid_is_the_frechet_distance() -> None:
    a, b = features(80, seed=0), features(60, seed=1, shift=0.5)
    x, y = a.double().numpy(), b.double().numpy()
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert fid(a, b) == pytest.approx(expected, rel=1e-6)


def of_rank(rows: int, *, width: int, rank: int, repeats: int, seed: int) -> torch.Tensor:
    """Features in a subspace, each row so many times; of rank 0 they are all the same."""
    random = torch.Generator().manual_seed(seed)
    different = torch.randn(-(-rows // repeats), rank, generator=random) @ torch.randn(
        rank, width, generator=random
    )
    offset = torch.randn(width, generator=random)
    return different.repeat_interleave(repeats, dim=0)[:rows] + offset


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(st.integers(2, 1_300), st.integers(2, 60)),
    width=st.integers(2, 40),
    ranks=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    repeats=st.integers(1, 3),
    swapped=st.booleans(),
)
def test_fid_is_torch_fidelitys(
    sizes: tuple[int, int], width: int, ranks: tuple[int, int], repeats: int, *, swapped: bool
) -> None:
    """Of sets larger and smaller than the features are wide, of low rank, constant, or with every row repeated."""
    a, b = (
        of_rank(size, width=width, rank=min(rank, width), repeats=repeats, seed=seed)
        for seed, (size, rank) in enumerate(zip(sizes, ranks, strict=True))
    )
    if swapped:
        a, b = b, a
    first, second = fid_features_to_statistics(a.double()), fid_features_to_statistics(b.double())
    theirs = fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"]
    # Where a covariance is singular, theirs takes roots of zeros that are known to 1e-16 of the largest.
    traces = float(a.double().var(dim=0).sum() + b.double().var(dim=0).sum())
    assert fid(a, b) == pytest.approx(theirs, rel=1e-3, abs=1e-6 * traces + 1e-9)


def test_fid_of_a_set_with_itself_is_zero() -> None:
    a = features(80, seed=0)
    assert fid(a, a) == pytest.approx(0, abs=1e-6)


def test_identical_pictures_have_a_distance() -> None:
    same, real = features(1, seed=0).expand(20, -1), features(30, seed=1)
    spread = real.double().var(dim=0).sum()
    between = (same[0].double() - real.double().mean(dim=0)).square().sum()
    assert fid(same, real) == pytest.approx(float(spread + between), rel=1e-6)
    assert kid(same, real, subsets=10, subset_size=10, seed=0).mean > 0


def u_statistic(x: np.ndarray, y: np.ndarray) -> float:
    """Gretton et al. 2012, Eq. 3, with the kernel of Bińkowski et al. 2018, pair by pair."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    m, n = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(a, b) for a in x for b in y)
    return within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * across / (m * n)


def test_kid_is_the_unbiased_u_statistic() -> None:
    a, b = features(12, seed=0), features(12, seed=1, shift=0.3)
    # A subset of all rows is the set itself, in another order: no spread is left.
    found = kid(a, b, subsets=3, subset_size=12, seed=0)
    assert found.mean == pytest.approx(u_statistic(a.double().numpy(), b.double().numpy()), rel=1e-9)
    assert found.sd == pytest.approx(0, abs=1e-12)


def test_kid_is_unbiased_where_nothing_differs() -> None:
    values = [
        kid(features(40, seed=2 * k), features(40, seed=2 * k + 1), subsets=20, subset_size=20, seed=k).mean
        for k in range(40)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_kid_follows_its_seed() -> None:
    a, b = features(50, seed=0), features(50, seed=1)
    first = kid(a, b, subsets=5, subset_size=25, seed=0)
    assert first == kid(a, b, subsets=5, subset_size=25, seed=0)
    assert first != kid(a, b, subsets=5, subset_size=25, seed=1)
    assert first.sd > 0


def test_too_few_pictures_are_named() -> None:
    a = features(30, seed=0)
    with pytest.raises(ValueError, match="at least 2 generated pictures"):
        fid(a[:1], a)
    with pytest.raises(ValueError, match="at least 20 real pictures"):
        kid(a, a[:10], subsets=5, subset_size=20, seed=0)
    with pytest.raises(ValueError, match="at least 2 pictures, not 1"):
        kid(a, a, subsets=5, subset_size=1, seed=0)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(poison: float) -> None:
    good, bad = features(30, seed=0), features(30, seed=1)
    bad[3, 3] = poison
    with pytest.raises(NonFinite, match="generated"):
        fid(bad, good)
    with pytest.raises(NonFinite, match="real"):
        kid(good, bad, subsets=5, subset_size=10, seed=0)


def test_precision_and_recall_are_shares_inside_the_balls_of_third_neighbours() -> None:
    a, b = features(40, seed=0), features(25, seed=1, shift=0.3)

    def covered(points: torch.Tensor, centres: torch.Tensor) -> float:
        """By plain loops: a point counts where it lies in any centre's ball."""
        count = 0
        for point in points:
            for centre in centres:
                radius = sorted(float((centre - other).norm()) for other in centres)[3]  # the first is itself
                if float((centre - point).norm()) <= radius:
                    count += 1
                    break
        return count / len(points)

    found = precision_recall(a, b)
    assert found.precision == pytest.approx(covered(a, b))
    assert found.recall == pytest.approx(covered(b, a))
    assert 0 < found.precision < 1


def test_a_generator_of_one_picture_has_no_recall() -> None:
    real = features(25, seed=1)
    found = precision_recall(real[:1].expand(40, -1), real)
    assert found.precision == 1
    assert found.recall == pytest.approx(1 / 25)  # it covers the picture that it repeats


def test_third_neighbours_need_four_pictures() -> None:
    with pytest.raises(ValueError, match="at least 4 real pictures are needed, not 3"):
        precision_recall(features(9, seed=0), features(3, seed=1))
