"""ADA's pipeline as a whole: chances, draws, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.training.ada import AdaKind, apply, draw

KINDS: tuple[AdaKind, ...] = ("blit", "geometry", "color", "filter", "noise", "cutout")
BGC: tuple[AdaKind, ...] = ("blit", "geometry", "color")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, *, side: int = 16, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, side, side, generator=seeded(9)) * 2 - 1


def changed(after: Tensor, before: Tensor) -> float:
    """The share of pictures that are not the same to the bit."""
    return (after != before).flatten(1).any(dim=1).float().mean().item()


@pytest.mark.parametrize("kind", KINDS)
def test_at_zero_every_picture_stays_to_the_bit(kind: AdaKind) -> None:
    x = pictures(8)
    assert torch.equal(apply(x, draw(x, kinds=(kind,), generator=seeded()), probability=torch.zeros(())), x)


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        # With p = 0.5. A flip does nothing in one of two cases, a quarter turn in one of four, and a whole
        # translation by at most 1 of 8 pixels both ways in (1 / 4 + 1 / 2 + 1 / 4)'s middle squared.
        ("blit", 1 - 0.75 * 0.625 * (0.5 + 0.5 * 0.25)),
        ("geometry", 1 - 0.5**4),  # the two rotations together come with p
        ("color", 1 - 0.5**4 * 0.75),  # a luma flip does nothing in one of two cases
        ("filter", 1 - 0.5**4),
        ("noise", 0.5),
        ("cutout", 0.5),
    ],
)
def test_each_transformation_comes_with_p(kind: AdaKind, shares: float) -> None:
    x = pictures(3000, side=8)
    after = apply(x, draw(x, kinds=(kind,), generator=seeded()), probability=torch.tensor(0.5))
    assert changed(after, x) == pytest.approx(shares, abs=0.03)


def test_without_a_probability_everything_meets_every_picture() -> None:
    x = pictures(50)
    draws = draw(x, kinds=KINDS, generator=seeded())
    always = apply(x, draws)
    assert changed(always, x) == 1
    assert torch.equal(always, apply(x, draws, probability=torch.ones(())))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_first_and_second_order_are_exact(kind: AdaKind) -> None:
    x = pictures(2, side=6).double().requires_grad_()
    draws = draw(x, kinds=(kind,), generator=seeded(3))
    assert torch.autograd.gradcheck(lambda x: apply(x, draws), [x])
    assert torch.autograd.gradgradcheck(lambda x: apply(x, draws).square(), [x])


def test_a_gradient_penalty_through_the_pipeline_reaches_d_and_pictures() -> None:
    """R1's double backward, in the type and at the size that it has in training."""
    x = pictures(2, side=16).requires_grad_()
    conv = torch.nn.Conv2d(3, 4, 3)
    logits = conv(apply(x, draw(x, kinds=KINDS, generator=seeded()), probability=torch.tensor(0.9))).relu()
    (gradient,) = torch.autograd.grad(logits.square().sum(), x, create_graph=True)
    gradient.square().sum().backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert conv.weight.grad is not None
    assert conv.weight.grad.abs().sum() > 0
    assert x.grad is not None
    assert x.grad.flatten(1).abs().sum(dim=1).min() > 0


def test_draws_repeat_by_seed_and_differ_between_pictures() -> None:
    x = pictures(1).expand(4, -1, -1, -1)
    first, second = (apply(x, draw(x, kinds=KINDS, generator=seeded())) for _ in range(2))
    assert torch.equal(first, second)
    assert all(not torch.equal(first[0], other) for other in first[1:])


def test_rows_are_augmented_as_in_the_whole_batch() -> None:
    x, p = pictures(6), torch.tensor(0.7)
    draws = draw(x, kinds=KINDS, generator=seeded())
    whole = apply(x, draws, probability=p)
    for rows in (slice(0, 4), slice(4, 6)):
        part = {kind: tuple(values[rows] for values in all_) for kind, all_ in draws.items()}
        torch.testing.assert_close(apply(x[rows], part, probability=p), whole[rows], rtol=0, atol=1e-6)


def test_codes_of_sixteen_channels_are_moved_and_keep_their_values() -> None:
    x = pictures(4, channels=16)
    draws = draw(x, kinds=BGC, generator=seeded())
    assert set(draws) == {"blit", "geometry"}
    after = apply(x, draws)
    assert after.shape == x.shape
    # Each channel is treated alike.
    shared = x[:, :1].expand(-1, 16, -1, -1)
    same = apply(shared, draws)
    torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=0, atol=1e-6)


def test_no_tensor_is_made_on_a_device_of_its_own() -> None:
    x = torch.zeros(2, 3, 64, 64, device="meta")
    after = apply(x, draw(x, kinds=KINDS, generator=None), probability=torch.zeros((), device="meta"))
    assert after.is_meta
    assert after.shape == x.shape
