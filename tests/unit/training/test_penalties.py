from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from core.models.dcgan import Discriminator
from core.schemas.wgan import WganGpConfig
from core.training.penalties import between, gradient_norms, gradient_penalty

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def linear(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda pictures_NCHW: (pictures_NCHW * weight).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 3.0])
def test_of_a_linear_critic_it_is_lambda_times_the_lengths_distance_from_one(length: float) -> None:
    weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(2))
    weight *= length / weight.norm()
    penalty = gradient_penalty(
        linear(weight), real_NCHW=PICTURES, fake_NCHW=-PICTURES, weight=10.0, generator=None
    )
    assert penalty.item() == pytest.approx(10 * (length - 1) ** 2, abs=1e-5)


def test_its_gradient_is_that_of_the_closed_form() -> None:
    """d/dw of lambda (|w| - 1)^2 is 2 lambda (|w| - 1) w / |w|."""
    weight = torch.full((3, 8, 8), 0.2, requires_grad=True)
    gradient_penalty(
        linear(weight), real_NCHW=PICTURES, fake_NCHW=PICTURES, weight=10.0, generator=None
    ).backward()
    length = weight.detach().norm()
    torch.testing.assert_close(weight.grad, 20 * (length - 1) * weight.detach() / length)


def test_points_lie_between_a_real_and_a_generated_picture() -> None:
    real, fake = torch.ones(64, 3, 4, 4), torch.full((64, 3, 4, 4), -1.0)
    points = between(real, fake, generator=torch.Generator().manual_seed(0))
    share_N = (points[:, 0, 0, 0] + 1) / 2
    torch.testing.assert_close(
        points, (2 * share_N - 1)[:, None, None, None].expand_as(points)
    )  # one share a picture
    assert share_N.min() >= 0
    assert share_N.max() < 1
    assert share_N.std() > 0.2
    again = between(real, fake, generator=torch.Generator().manual_seed(0))
    assert torch.equal(points, again)


def test_norms_are_each_pictures_own() -> None:
    """D(x) = |x|^2 / 2 has x itself for its gradient."""
    norms_N = gradient_norms(lambda x: x.square().flatten(1).sum(1, keepdim=True) / 2, PICTURES)
    torch.testing.assert_close(norms_N, PICTURES.flatten(1).norm(dim=1))


def test_it_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(144, 1))
    exact = gradient_norms(critic, PICTURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert critic(PICTURES).dtype == torch.bfloat16
        assert torch.equal(gradient_norms(critic, PICTURES.clone()), exact)
    assert exact.dtype == torch.float32


@pytest.mark.parametrize("norm", ["layer", "instance", "pixel", "none"])
def test_the_critic_is_twice_differentiable(norm: str) -> None:
    """By finite differences, in float64; softplus in the leaky units' place, whose kinks would disturb them."""
    torch.manual_seed(0)
    config = WganGpConfig(width=4, discriminator_norm=norm).model_copy(update={"resolution": 16, "width": 1})  # type: ignore[arg-type]
    critic = Discriminator(config, channels=1).double()
    for block in critic.blocks:
        assert isinstance(block, nn.Sequential)
        block[-1] = nn.Softplus()
    for parameter in critic.parameters():
        nn.init.normal_(parameter, 0.2, 0.3)
    pictures = torch.randn(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: critic(x).logits_NK, (pictures,), fast_mode=True)


def test_a_step_on_it_moves_the_critic_towards_length_one() -> None:
    torch.manual_seed(0)
    critic = Discriminator(WganGpConfig(width=4))
    real, fake = torch.rand(2, 4, 3, 64, 64) * 2 - 1
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-3)
    penalties = []
    for _ in range(15):
        optimiser.zero_grad()
        penalty = gradient_penalty(
            lambda x: critic(x).logits_NK, real_NCHW=real, fake_NCHW=fake, weight=10.0, generator=None
        )
        penalty.backward()
        optimiser.step()
        penalties.append(penalty.item())
    assert penalties[-1] < penalties[0] / 2
