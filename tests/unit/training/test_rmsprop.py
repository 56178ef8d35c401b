from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from core.training.rmsprop import RMSprop


def pair() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    mine, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def grad(network: nn.Linear, *, step: int, value: float | None = None) -> None:
    draws = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draws)
        if value is not None:
            parameter.grad.view(-1)[0] = value


def test_without_bad_steps_it_is_torchs() -> None:
    mine, theirs = pair()
    first, second = RMSprop(mine.parameters(), lr=0.1), torch.optim.RMSprop(theirs.parameters(), lr=0.1)
    for step in range(5):
        grad(mine, step=step)
        grad(theirs, step=step)
        first.found_inf = torch.zeros(())
        first.step()
        second.step()
    assert torch.equal(mine.weight, theirs.weight)
    assert torch.equal(mine.bias, theirs.bias)


@pytest.mark.parametrize("bad_at", [0, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_step_leaves_no_trace(bad_at: int, value: float) -> None:
    mine, theirs = pair()
    first, second = RMSprop(mine.parameters(), lr=0.1), torch.optim.RMSprop(theirs.parameters(), lr=0.1)
    for step in range(4):
        if step == bad_at:
            grad(mine, step=99, value=value)
            first.found_inf = torch.ones(())
            first.step()
        grad(mine, step=step)
        grad(theirs, step=step)
        first.found_inf = torch.zeros(())
        first.step()
        second.step()
    assert torch.equal(mine.weight, theirs.weight)
    for parameter, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(first.state[parameter]["square_avg"], second.state[other]["square_avg"])


def test_a_resumed_one_goes_on_as_it_was() -> None:
    mine, theirs = pair()
    first = RMSprop(mine.parameters(), lr=0.1)
    grad(mine, step=0)
    first.step()
    theirs.load_state_dict(mine.state_dict())
    second = RMSprop(theirs.parameters(), lr=0.1)
    second.load_state_dict(deepcopy(first.state_dict()))  # torch would share the averages
    for network, optimiser in ((mine, first), (theirs, second)):
        grad(network, step=1)
        optimiser.found_inf = torch.zeros(())
        optimiser.step()
    assert torch.equal(mine.weight, theirs.weight)


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="closure"):
        RMSprop(nn.Linear(2, 2).parameters()).step(lambda: 0.0)
