from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.jobs.alarms import alarms
from core.schemas.judging import AlarmConfig

RULES = AlarmConfig(collapse_evaluations=2)


@pytest.mark.parametrize(
    ("point", "kinds"),
    [
        ({}, set()),
        ({"copy_rate": 0.2}, set()),
        ({"copy_rate": 0.21}, {"copies"}),
        ({"kid": -0.02, "kid_sd": 0.01}, set()),
        ({"kid": -0.021, "kid_sd": 0.01}, {"kid_below_zero"}),
        ({"kid": 0.5, "kid_sd": 0.01}, set()),
        ({"kid": -0.021, "kid_sd": 0.01, "copy_rate": 1.0}, {"copies", "kid_below_zero"}),
    ],
)
def test_the_newest_point_is_judged(point: dict[str, float], kinds: set[str]) -> None:
    assert set(alarms([{"copy_rate": 1.0, "kid": -1.0, "kid_sd": 0.0}, point], rules=RULES)) == kinds


@pytest.mark.parametrize(
    ("values", "raised"),
    [
        ([0.0, 0.0, 0.0, 0.0], False),  # untrained for long
        ([0.19, 0.0, 0.0], False),  # it never was high enough to have fallen
        ([0.0, 0.8, 0.1], False),  # once may be chance
        ([0.0, 0.8, 0.1, 0.1], True),
        ([0.0, 0.8, 0.1, 0.21], False),
        ([0.0, 0.8, 0.1, 0.1, 0.5], False),  # it came back
        ([0.8, 0.1], False),
    ],
)
@pytest.mark.parametrize("name", ["recall", "lpips_intra"])
def test_collapse(name: str, values: list[float], *, raised: bool) -> None:
    scale = 1.0 if name == "recall" else 0.5  # the floors differ
    found = alarms([{name: value * scale} for value in values], rules=RULES)
    assert (set(found) == {"collapse"}) == raised


def test_a_missing_number_interrupts_the_row() -> None:
    curve: list[dict[str, Any]] = [{"recall": 0.8}, {"recall": 0.0}, {"recall": 0.0}]
    assert set(alarms(curve, rules=RULES)) == {"collapse"}
    assert alarms([*curve[:2], {}, *curve[2:]], rules=RULES) == {}
    assert alarms([*curve, {}], rules=RULES) == {}


def test_messages_name_the_numbers() -> None:
    found = alarms(
        [{"recall": 0.8}, *[{"recall": 0.04, "copy_rate": 0.5, "kid": -0.5, "kid_sd": 0.1}] * 2], rules=RULES
    )
    assert found["copies"].startswith(
        "50% of the generated pictures copy a training picture (the limit is 20%)"
    )
    assert found["kid_below_zero"].startswith(
        "KID -0.5 is more than 2 of its standard deviations (0.1) below zero"
    )
    assert found["collapse"].startswith(
        "recall was at most 0.04 in 2 evaluations in a row, below 25% of the run's highest, 0.8"
    )


def test_rules_can_be_switched_off() -> None:
    off = AlarmConfig(copy_rate=None, kid_deviations=None, collapse_share=None)
    curve = [{"recall": 1.0}, *[{"recall": 0.0, "copy_rate": 1.0, "kid": -1.0, "kid_sd": 0.0}] * 9]
    assert alarms(curve, rules=off) == {}
    assert set(alarms(curve, rules=AlarmConfig())) == {"copies", "kid_below_zero", "collapse"}


@given(st.lists(st.floats(0, 0.099), min_size=1, max_size=20), st.lists(st.floats(0.4, 1), max_size=20))
def test_a_generator_that_learns_raises_nothing(untrained: list[float], trained: list[float]) -> None:
    values = untrained + trained
    for name in ("recall", "lpips_intra"):
        for length in range(len(values)):
            assert alarms([{name: value} for value in values[: length + 1]], rules=RULES) == {}
