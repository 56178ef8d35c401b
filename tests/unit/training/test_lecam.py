from __future__ import annotations

import pytest
import torch

from core.training.lecam import LeCam, squared_distance

REAL = torch.tensor([[1.0, 2.0], [3.0, -2.0]])  # mean 1
FAKE = torch.tensor([[-1.0, -3.0], [0.0, 2.0]])  # mean -0.5


def test_the_distance_and_its_gradient_in_closed_form() -> None:
    logits = REAL.clone().requires_grad_()
    loss = squared_distance(logits, torch.tensor(0.5))
    assert loss.item() == pytest.approx((0.25 + 2.25 + 6.25 + 6.25) / 4)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
    torch.testing.assert_close(logits.grad, 2 * (REAL - 0.5) / 4)


def test_the_averages_in_closed_form() -> None:
    """From 0, after T steps: 0.01 * the sum of 0.99^(T - t) v_t."""
    lecam = LeCam(1.0, start=0)
    values = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for value in values:
        lecam.update(real_NK=(REAL + value).float(), fake_NK=(FAKE - 2 * value).float())
    weights = 0.01 * 0.99 ** torch.arange(29, -1, -1, dtype=torch.float64)
    assert lecam.real.item() == pytest.approx((weights * (1 + values)).sum().item(), rel=1e-5)
    assert lecam.fake.item() == pytest.approx((weights * (-0.5 - 2 * values)).sum().item(), rel=1e-5)


def test_each_side_is_held_to_the_other() -> None:
    lecam = LeCam(0.3, start=0)
    lecam.update(real_NK=REAL, fake_NK=FAKE)
    assert (lecam.real.item(), lecam.fake.item()) == (pytest.approx(0.01), pytest.approx(-0.005))
    expected_real = 0.3 * ((REAL + 0.005) ** 2).mean()
    expected_fake = 0.3 * ((FAKE - 0.01) ** 2).mean()
    torch.testing.assert_close(lecam.on_real(REAL), expected_real)
    torch.testing.assert_close(lecam.on_fake(FAKE), expected_fake)


def test_before_its_start_it_only_watches() -> None:
    lecam = LeCam(2.0, start=3)
    for _ in range(3):
        logits = REAL.clone().requires_grad_()
        loss = lecam.on_real(logits)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
        assert loss.item() == 0
        assert logits.grad is not None
        assert not logits.grad.any()
        lecam.update(real_NK=REAL, fake_NK=FAKE)
    assert lecam.real.item() == pytest.approx(1 - 0.99**3)
    torch.testing.assert_close(lecam.on_real(REAL), 2 * ((REAL + 0.5 * (1 - 0.99**3)) ** 2).mean())


def test_what_is_not_finite_shows_before_the_start_too() -> None:
    """Else the averages would take it in unseen, and keep it."""
    lecam = LeCam(1.0, start=100)
    assert not torch.isfinite(lecam.on_real(REAL * torch.inf))
    assert not torch.isfinite(lecam.on_fake(REAL * torch.inf))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_are_taken_in_float32(dtype: torch.dtype) -> None:
    lecam = LeCam(1.0, start=0)
    many = torch.full((8, 50), 1.0 + 2**-7, dtype=dtype)
    lecam.update(real_NK=many, fake_NK=many)
    assert lecam.real.item() == pytest.approx(0.01 * (1 + 2**-7), rel=1e-6)
    assert lecam.on_fake(many).dtype == torch.float32
    assert lecam.on_fake(many).item() == pytest.approx((0.99 * (1 + 2**-7)) ** 2, rel=1e-5)
