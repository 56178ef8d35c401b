from __future__ import annotations

import pytest
import torch

from core.training.adaptive import INTERVAL, AdaptiveProbability, overfitting
from core.training.augment import Augmentation, augment

SURE, FOOLED = torch.full((8, 50), 3.0), torch.full((8, 50), -0.1)


def adaptive(*, target: float = 0.6, images: int = 320, batch: int = 8) -> AdaptiveProbability:
    """With these numbers p moves by 4 * 8 / 320 = 0.1."""
    return AdaptiveProbability(target, images=images, batch=batch)


def watch(it: AdaptiveProbability, *batches: torch.Tensor) -> float:
    for logits in batches:
        it.observe(logits)
    return it.probability.item()


def test_the_heuristic_is_the_mean_sign() -> None:
    logits = torch.tensor([[5.0, 0.01, -0.2], [0.0, 0.3, -9.0]])
    assert overfitting(logits).item() == pytest.approx((1 + 1 - 1 + 0 + 1 - 1) / 6)
    assert overfitting(logits.to(torch.float16)).dtype == torch.float32


def test_p_moves_by_the_exact_step_every_fourth_iteration() -> None:
    it = adaptive()
    assert INTERVAL == 4
    assert watch(it, SURE, SURE, SURE) == 0
    assert watch(it, SURE) == pytest.approx(0.1)
    assert watch(it, SURE, SURE, SURE) == pytest.approx(0.1)
    assert watch(it, SURE) == pytest.approx(0.2)
    assert watch(it, *[FOOLED] * 4) == pytest.approx(0.1)


def test_p_follows_the_mean_of_its_four_iterations() -> None:
    up = watch(adaptive(), SURE, SURE, SURE, torch.zeros(8, 50))  # r = 0.75
    down = watch(adaptive(), *[SURE] * 4, SURE, SURE, SURE, FOOLED)  # p = 0.1, then r = 0.5
    assert (up, down) == (pytest.approx(0.1), pytest.approx(0))


def test_at_its_target_p_stays() -> None:
    it = adaptive(target=0.5)
    half = torch.tensor([[1.0, 1.0, 1.0, -1.0]])  # r = 0.5
    assert watch(it, *[SURE] * 4, *[half] * 8) == pytest.approx(0.1)


def test_p_crosses_0_to_1_in_the_stated_images_and_stays_between() -> None:
    it = adaptive(images=1600)
    iterations = 1600 // 8
    assert watch(it, *[SURE] * (iterations - 1)) < 0.99
    assert watch(it, SURE) == pytest.approx(1)
    assert watch(it, *[SURE] * 40) == 1
    assert watch(it, *[FOOLED] * (iterations + 40)) == 0


def test_a_state_between_two_moves_goes_on() -> None:
    whole, first, second = adaptive(), adaptive(), adaptive()
    watch(whole, *[SURE] * 4, SURE, SURE, FOOLED, SURE)
    watch(first, *[SURE] * 4, SURE, SURE)
    second.load_state_dict(first.state_dict())
    watch(second, FOOLED, SURE)
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("kind", ["color", "translation", "cutout"])
def test_each_kind_is_applied_to_that_share_of_the_pictures(kind: Augmentation) -> None:
    x = torch.rand(3000, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def changed(p: float) -> torch.Tensor:
        draws = torch.Generator().manual_seed(1)
        after = augment(x, kinds=(kind,), generator=draws, probability=torch.tensor(p))
        return (after != x).flatten(1).any(dim=1)

    always = changed(1).float().mean().item()  # a shift by nothing changes nothing
    assert always > 0.85
    assert not changed(0).any()
    # Five standard deviations of a share of 3,000 draws.
    assert changed(0.3).float().mean().item() == pytest.approx(0.3 * always, abs=5 * (0.21 / 3000) ** 0.5)


def test_kinds_are_drawn_apart() -> None:
    """Where one is applied says nothing of the other: colour alone changes pixels inside, cutout alone makes holes."""
    x = torch.full((4000, 3, 8, 8), 0.5)
    draws = torch.Generator().manual_seed(0)
    after = augment(x, kinds=("color", "cutout"), generator=draws, probability=torch.tensor(0.5))
    hole = (after == 0).all(dim=1).flatten(1).any(dim=1)
    colored = ((after != 0) & (after != 0.5)).flatten(1).any(dim=1)
    both = (hole & colored).float().mean().item()
    assert both == pytest.approx(0.25, abs=0.035)  # 5 standard deviations
    assert hole.float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_probability_one_is_the_plain_augmentation() -> None:
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    for kind in ("color", "translation", "cutout"):
        plain = augment(x, kinds=(kind,), generator=torch.Generator().manual_seed(2))
        sure = augment(
            x, kinds=(kind,), generator=torch.Generator().manual_seed(2), probability=torch.ones(())
        )
        assert torch.equal(plain, sure)
