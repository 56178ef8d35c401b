from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.errors import NonFinite
from core.models.layers import SpectralConv2d, batch_norm
from core.training.guard import Guard
from core.training.precision import scaler

CPU = torch.device("cpu")


class Bench:
    """A small network, its optimiser and its guard; each iteration's loss is multiplied by a factor."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        conv = SpectralConv2d(3, 4, 3, padding=1, spectral=True)
        self.network = nn.Sequential(conv, batch_norm(4))
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-2, fused=True)
        self.guard = Guard({"it": self.network}, scaler=scaler(torch.float32, device=CPU), device=CPU)

    def iterate(self, factor: float) -> float:
        self.guard.remember()
        self.optimiser.zero_grad()
        loss = (self.network(torch.randn(2, 3, 4, 4)) ** 2).mean() * factor
        loss.backward()
        self.guard.step(self.optimiser, losses={"loss": loss.detach()})
        self.guard.finish({"loss": loss.detach()})
        return float(loss.detach())

    def everything(self) -> list[Tensor]:
        moments = [value for state in self.optimiser.state.values() for value in state.values()]
        floats = [value for value in self.network.state_dict().values() if value.is_floating_point()]
        return [value.detach().clone() for value in floats + moments]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_bad_iteration_leaves_no_trace(factor: float) -> None:
    bench = Bench()
    bench.iterate(1.0)
    before = bench.everything()
    bench.iterate(factor)
    for after, kept in zip(bench.everything(), before, strict=True):
        assert torch.equal(after, kept)
    bench.iterate(1.0)
    assert not torch.equal(bench.everything()[0], before[0])


def test_a_bad_gradient_under_a_finite_loss_is_seen() -> None:
    bench = Bench()
    bench.iterate(1.0)
    before = bench.everything()
    bench.guard.remember()
    parameter = bench.optimiser.param_groups[0]["params"][0]
    parameter.grad = torch.full_like(parameter, float("inf"))
    bench.guard.step(bench.optimiser, losses={"loss": torch.zeros(())})
    bench.guard.finish({"loss": torch.zeros(())})
    for after, kept in zip(bench.everything(), before, strict=True):
        assert torch.equal(after, kept)


def test_means_are_over_good_iterations() -> None:
    bench = Bench()
    good = [bench.iterate(1.0), bench.iterate(2.0)]
    bench.iterate(float("nan"))
    assert bench.guard.means()["loss"] == pytest.approx(sum(good) / 2)
    bench.iterate(float("nan"))
    assert bench.guard.means() == {}


def test_a_loss_of_some_iterations_is_a_mean_over_those() -> None:
    guard = Bench().guard
    for iteration in range(4):
        guard.remember()
        lazy = {"lazy": torch.tensor(8.0)} if iteration % 2 == 0 else {}
        guard.finish({"loss": torch.tensor(float(iteration))} | lazy)
    assert guard.means() == {"loss": 1.5, "lazy": 8.0}


def test_twenty_in_a_row_end_the_training() -> None:
    bench = Bench()
    for _ in range(19):
        bench.iterate(float("nan"))
    bench.guard.means()
    bench.iterate(float("nan"))
    with pytest.raises(NonFinite, match="20 iterations in a row"):
        bench.guard.means()


def test_a_good_iteration_ends_the_count() -> None:
    bench = Bench()
    for factor in [float("nan")] * 19 + [1.0] + [float("nan")] * 19:
        bench.iterate(factor)
    assert set(bench.guard.means()) == {"loss"}


def test_counts_and_sums_outlive_a_checkpoint() -> None:
    bench, other = Bench(), Bench()
    losses = [bench.iterate(1.0) for _ in range(3)]
    other.guard.load(bench.guard.state())
    assert other.guard.means()["loss"] == pytest.approx(sum(losses) / 3)


@pytest.mark.parametrize("bad", [None, 0, 1])
def test_scaled_gradients_may_step_an_optimiser_twice_an_iteration(bad: int | None) -> None:
    """As float16 has them on CUDA, where a discriminator steps several times to one of the generator."""
    weight = nn.Parameter(torch.ones(3))
    optimiser = torch.optim.Adam([weight], lr=0.1, fused=True)
    scaling = scaler(torch.float16, device=CPU)
    guard = Guard({}, scaler=scaling, device=CPU)
    first = scaling.get_scale()
    guard.remember()
    for step in range(2):
        optimiser.zero_grad()
        loss = (weight * torch.arange(1.0, 4.0)).sum() * (float("inf") if step == bad else 1.0)
        scaling.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's stub
        guard.step(optimiser, losses={"loss": torch.zeros(())})
    guard.finish({"loss": torch.zeros(())})
    steps_taken = {None: 2, 0: 0, 1: 1}[bad]
    torch.testing.assert_close(weight.detach(), torch.full((3,), 1 - 0.1 * steps_taken), atol=1e-4, rtol=0)
    assert guard.healthy() == (bad is None)
    assert (scaling.get_scale() < first) == (bad is not None)
