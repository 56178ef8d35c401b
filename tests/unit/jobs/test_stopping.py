from __future__ import annotations

import pytest

from core.jobs.stopping import reason_to_stop
from core.schemas.judging import StoppingConfig

RULES = StoppingConfig(plateau_evaluations=3, plateau_gain=0.1, collapse_share=0.5, collapse_evaluations=2)


def curve(kids: list[float], lpips: list[float] | None = None) -> list[dict[str, float]]:
    return [{"kid": k, "lpips": d} for k, d in zip(kids, lpips or [0.5] * len(kids), strict=True)]


@pytest.mark.parametrize(
    ("kids", "stops"),
    [
        ([], False),
        ([1.0, 1.0, 1.0], False),  # no point before the patience begins
        ([1.0, 1.0, 1.0, 1.0], True),
        ([1.0, 1.0, 0.91, 1.0], True),  # 9 % is less than the gain of 10 %
        ([1.0, 1.0, 0.89, 1.0], False),
        ([2.0, 1.0, 0.5, 0.6, 0.7, 0.8], True),
        ([2.0, 1.0, 0.5, 0.6, 0.7], False),
        ([0.5, -0.01, -0.02, -0.03, -0.04], True),  # below zero is as good as zero: no better is to be had
    ],
)
def test_plateau(kids: list[float], *, stops: bool) -> None:
    reason = reason_to_stop(curve(kids), rules=RULES)
    assert (reason is not None) == stops
    if reason is not None:
        assert reason.startswith("plateau: the best KID of the last 3 evaluations")


@pytest.mark.parametrize(
    ("lpips", "stops"),
    [
        ([0.6, 0.2], False),  # too few points
        ([0.6, 0.2, 0.2], True),
        ([0.6, 0.2, 0.31], False),  # one of the two is above the half
        ([0.6, 0.1, 0.1, 0.4], False),  # it came back
    ],
)
def test_collapse(lpips: list[float], *, stops: bool) -> None:
    falling = [1 / (2 + index) for index in range(len(lpips))]
    reason = reason_to_stop(curve(falling, lpips), rules=RULES)
    assert (reason is not None) == stops
    if reason is not None:
        assert "LPIPS diversity" in reason


def test_rules_can_be_switched_off() -> None:
    off = StoppingConfig(plateau_evaluations=None, collapse_share=None)
    assert reason_to_stop(curve([1.0] * 50, [0.6] + [0.0] * 49), rules=off) is None


def test_the_default_margins_are_wide() -> None:
    noisy = [1.0, 0.9, 0.95, 0.8, 0.85, 0.84, 0.83, 0.85, 0.9, 0.82, 0.7]
    assert reason_to_stop(curve(noisy), rules=StoppingConfig()) is None
