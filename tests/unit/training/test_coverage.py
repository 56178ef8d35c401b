from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.slaegan import LATENT, Discriminator, Generator
from core.schemas.slaegan import SlaeganConfig
from core.training.coverage import choose, features, match, pull
from core.training.latents import Latents, draw_latents
from core.training.perceptual import Lpips

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = SlaeganConfig(resolution=64, width=0.125)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_features_measure_root_mean_squares() -> None:
    black, white = -torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    assert (features(white) - features(black)).norm().item() == pytest.approx(2)
    x, y = torch.rand(2, 3, 32, 32, generator=seeded())
    means = [p.unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean(dim=(2, 4)) for p in (x, y)]
    expected = (means[0] - means[1]).square().mean().sqrt()
    torch.testing.assert_close((features(x[None]) - features(y[None])).norm(), expected)


def test_each_real_picture_gets_the_nearest() -> None:
    real, pool = torch.randn(5, 7, generator=seeded()), torch.randn(40, 7, generator=seeded(1))
    nearest, found = match(real, pool, radius=0.0)
    for row, chosen in zip(real, nearest.tolist(), strict=True):
        distances = [sum((a - b) ** 2 for a, b in zip(row.tolist(), p.tolist(), strict=True)) for p in pool]
        assert chosen == distances.index(min(distances))
    assert found


def test_what_lies_closer_than_epsilon_to_any_real_picture_is_left_out() -> None:
    real = torch.tensor([[0.0], [10.0]])
    pool = torch.tensor([[0.4], [9.7], [3.0], [-2.0]])
    near, _ = match(real, pool, radius=0.1)
    assert near.tolist() == [0, 1]
    half, _ = match(real, pool, radius=0.35)  # 9.7 is within it of 10
    assert half.tolist() == [0, 2]
    far, _ = match(real, pool, radius=0.5)
    assert far.tolist() == [3, 2]
    # 3.0 is nearest to all, but lies at a third real picture: nobody gets it.
    third, _ = match(torch.cat([real, torch.tensor([[4.5]])]), pool, radius=1.9)
    assert third.tolist() == [3, 3, 3]


def test_a_pool_of_copies_is_left_out_whole() -> None:
    real = torch.randn(3, 7, generator=seeded())
    assert not match(real, real.repeat(4, 1) + 0.01, radius=0.5)[1]


@pytest.fixture(scope="module")
def perceptual(weights_dir: Path) -> Lpips:
    return Lpips(weights_dir)


@pytest.fixture
def generator() -> Generator:
    """One that has seen some batches, so that its running statistics are not its first."""
    torch.manual_seed(0)
    made = Generator(CONFIG)
    for _ in range(5):
        made(torch.randn(8, LATENT), made.draw_noises(torch.randn(8, LATENT), generator=None))
    return made


def drawn(generator: Generator) -> tuple[Latents, torch.Tensor]:
    latents = draw_latents(
        generator, metadata_MF=None, rows_N=torch.zeros(6), dropout=0, dtype=torch.float32, draws=seeded(3)
    )
    real = 3 * F.avg_pool2d(torch.rand(2, 3, 32, 32, generator=seeded(5)) * 2 - 1, 9, stride=1, padding=4)
    return latents, real


def term(
    generator: Generator, perceptual: Lpips, *, radius: float = 0.0, micro_batch: int = 4
) -> torch.Tensor:
    """The coverage term as the trainer computes it."""
    pool, real = drawn(generator)
    chosen, found = choose(generator, pool, real_N3SS=real, radius=radius, micro_batch=micro_batch)
    return found * pull(generator, pool.rows(chosen), real_N3SS=real, perceptual=perceptual)


def test_the_term_is_the_mean_distance_to_the_nearest_of_the_pool(
    generator: Generator, perceptual: Lpips
) -> None:
    pool_of, real = drawn(generator)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    loss = term(generator, perceptual)
    assert generator.training
    for name, value in generator.state_dict().items():  # no running statistic and no spectral vector moved
        assert torch.equal(value, before[name]), name

    with torch.no_grad():
        pool, _ = pool_of.pictures(generator.eval())
        pool = F.avg_pool2d(pool, 2)
        expected = []
        for picture in real:
            coarse = [F.avg_pool2d(p - picture, 2).square().mean().item() for p in pool]
            chosen = pool[coarse.index(min(coarse))]
            distance = perceptual(chosen[None], picture[None])[0]
            expected.append(distance + (chosen - picture).square().mean())
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_its_gradient_reaches_the_generator_alone(generator: Generator, perceptual: Lpips) -> None:
    discriminator = Discriminator(CONFIG)
    loss = term(generator, perceptual)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
    for name, parameter in generator.named_parameters():
        beside = name.startswith(("metadata.", "to_small."))  # the latents were made elsewhere
        assert (parameter.grad is None or not parameter.grad.any()) == beside, name
    assert all(p.grad is None for network in (discriminator, perceptual) for p in network.parameters())


def test_a_wholly_rejected_pool_pulls_at_nothing(generator: Generator, perceptual: Lpips) -> None:
    loss = term(generator, perceptual, radius=2.0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in generator.parameters())


def test_it_brings_the_nearest_closer(generator: Generator, perceptual: Lpips) -> None:
    optimiser = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = term(generator, perceptual)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
