from __future__ import annotations

import pytest
import torch

from core.errors import NonFinite
from core.metrics.inception_score import inception_score


def test_sure_and_different_answers_score_their_number() -> None:
    """All pictures of a split the same: 1. Each its own class: as many as a split has pictures."""
    sure = 500 * torch.eye(50)
    found = inception_score(sure, seed=0)
    assert found.mean == pytest.approx(5)
    assert found.sd == pytest.approx(0, abs=1e-9)


def test_identical_pictures_score_one() -> None:
    same = torch.randn(1, 1_008, generator=torch.Generator().manual_seed(0)).expand(20, -1)
    assert inception_score(same, seed=0) == pytest.approx((1, 0), abs=1e-9)


def test_the_score_follows_its_seed() -> None:
    logits = 3 * torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    first = inception_score(logits, seed=0)
    assert first == inception_score(logits, seed=0)
    assert first != inception_score(logits, seed=1)
    assert first.mean > 1
    assert first.sd > 0


def test_a_split_needs_a_picture() -> None:
    with pytest.raises(ValueError, match="at least 10 pictures are needed, one a split, not 9"):
        inception_score(torch.zeros(9, 1_008), seed=0)
    assert inception_score(torch.zeros(10, 1_008), seed=0).mean == pytest.approx(1)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(poison: float) -> None:
    logits = torch.zeros(20, 1_008)
    logits[3, 3] = poison
    with pytest.raises(NonFinite):
        inception_score(logits, seed=0)


def test_logits_too_far_apart_are_refused() -> None:
    with pytest.raises(NonFinite, match="from 0 to 1000"):
        inception_score(1_000 * torch.eye(50), seed=0)
