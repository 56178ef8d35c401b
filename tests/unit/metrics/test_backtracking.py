from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from core.errors import NonFinite
from core.metrics.backtracking import backtrack
from core.training.perceptual import Lpips
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.ticks import EvaluationSpec
    from core.training.deployed import DeployedGenerator


@pytest.fixture(scope="module")
def lpips(weights_dir: Path) -> Lpips:
    return Lpips(weights_dir)


@pytest.fixture
def generator(evaluation_spec: EvaluationSpec) -> DeployedGenerator:
    return load_generator(evaluation_spec.generator)


def test_its_own_pictures_are_come_nearer_to(generator: DeployedGenerator, lpips: Lpips) -> None:
    targets = generator.sample(seed=5, start=0, count=2)
    start, end = (backtrack(generator, targets, lpips=lpips, steps=steps, seed=0) for steps in (0, 12))
    assert (end.lpips_N < start.lpips_N).all()
    assert end.pictures_N3HW.shape == targets.shape
    with torch.inference_mode():
        again = lpips(end.pictures_N3HW / 127.5 - 1, targets / 127.5 - 1)
    torch.testing.assert_close(end.lpips_N, again, rtol=0, atol=1e-5)


def test_a_picture_alone_gives_what_it_gives_among_others(generator: DeployedGenerator, lpips: Lpips) -> None:
    targets = generator.sample(seed=5, start=0, count=9)
    together = backtrack(generator, targets, lpips=lpips, steps=2, seed=3)
    alone = backtrack(generator, targets[:1], lpips=lpips, steps=2, seed=3)
    torch.testing.assert_close(together.lpips_N[:1], alone.lpips_N, rtol=1e-3, atol=1e-4)
    assert len(together.lpips_N) == 9


def test_a_broken_generator_is_told(generator: DeployedGenerator, lpips: Lpips) -> None:
    targets = generator.sample(seed=5, start=0, count=1)
    generator.network.start.weight.data.fill_(torch.nan)
    with pytest.raises(NonFinite):
        backtrack(generator, targets, lpips=lpips, steps=1, seed=0)
