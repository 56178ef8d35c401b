from __future__ import annotations

import pytest
import torch

from core.training.losses import generator_loss, hinge_fake, hinge_margin, hinge_real, reconstruction

LOGITS = torch.tensor([[-2.0, 0.5, 3.0], [0.9, 1.0, 1.1]])


def test_hinge_with_margin_one_is_the_papers_equation() -> None:
    margin = hinge_margin(LOGITS, kind="one", generator=None)
    zero = torch.zeros(())
    assert hinge_real(LOGITS, margin) == -torch.minimum(zero, -1 + LOGITS).mean()
    assert hinge_fake(LOGITS, margin) == -torch.minimum(zero, -1 - LOGITS).mean()
    assert hinge_real(LOGITS, margin).item() == pytest.approx((3 + 0.5 + 0.1) / 6)
    assert hinge_fake(LOGITS, margin).item() == pytest.approx((1.5 + 4 + 1.9 + 2 + 2.1) / 6)


def test_random_margins_are_drawn_for_each_logit() -> None:
    margin = hinge_margin(torch.zeros(100, 50), kind="random", generator=torch.Generator().manual_seed(0))
    assert margin.min() >= 0.8
    assert margin.max() <= 1
    assert margin.unique().numel() > 4_000
    assert margin.mean().item() == pytest.approx(0.9, abs=0.005)


def test_no_gradient_beyond_the_margin() -> None:
    logits = LOGITS.clone().requires_grad_()
    hinge_real(logits, torch.ones_like(logits)).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.where(LOGITS < 1, -1 / 6, 0.0))


def test_generator_loss_is_minus_the_mean() -> None:
    assert generator_loss(LOGITS).item() == pytest.approx(-4.5 / 6)


@pytest.mark.parametrize("batch", [2, 8, 32])
def test_reconstruction_is_fastgans_sum_at_batch_8(batch: int) -> None:
    distances = torch.full((batch,), 0.25)
    assert reconstruction(distances).item() == 2.0


def test_losses_are_float32_from_any_logits() -> None:
    logits = LOGITS.to(torch.bfloat16)
    margin = hinge_margin(logits, kind="random", generator=None)
    for loss in (hinge_real(logits, margin), hinge_fake(logits, margin), generator_loss(logits)):
        assert loss.dtype == torch.float32
