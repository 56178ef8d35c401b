from __future__ import annotations

import pytest
import torch
from torch import nn

from core.training.ema import Ema, decay_at


def test_the_ramp() -> None:
    assert decay_at(0, kind="ramped") == 0.1
    assert decay_at(90, kind="ramped") == 0.91
    assert decay_at(100_000, kind="ramped") == 0.999
    assert decay_at(0, kind="constant") == 0.999


def test_the_constant_keeps_most_of_a_short_runs_start() -> None:
    assert decay_at(0, kind="constant") ** 500 == pytest.approx(0.61, abs=0.005)


def test_the_recurrence() -> None:
    network = nn.Linear(3, 2)
    average = Ema(network)
    expected = network.weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            network.weight.add_(torch.randn(2, 3))
        decay = decay_at(step, kind="ramped")
        average.update(decay=decay)
        expected = decay * expected + (1 - decay) * network.weight.detach()
    torch.testing.assert_close(average.average["weight"], expected)


def test_a_saved_average_comes_back() -> None:
    network = nn.Linear(3, 2)
    average = Ema(network)
    saved = {name: torch.randn_like(value) for name, value in average.average.items()}
    average.load(saved)
    assert torch.equal(average.average["bias"], saved["bias"])
