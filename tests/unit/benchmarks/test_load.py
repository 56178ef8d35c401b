from __future__ import annotations

import pytest

from benchmarks.load.figures import (
    Latencies,
    MeasurementFailed,
    Row,
    lost_and_doubled,
    percentile,
    run_once,
)

WHOLE = ["queued", "running", "training", "evaluating", "succeeded"]


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_a_percentile_is_a_measured_value_by_its_rank(percent: float, value: int) -> None:
    assert percentile([*range(100, 0, -1)], percent) == value


def test_of_few_values_the_99th_percentile_is_the_largest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert percentile([1.0], 50) == 1.0


def test_of_nothing_there_is_no_percentile() -> None:
    with pytest.raises(MeasurementFailed):
        percentile([], 50)


def test_latencies_are_told_by_rate_and_in_milliseconds() -> None:
    found = Latencies([0.010, 0.020, 0.030], wall_s=0.5)
    assert found.per_s == 6
    assert found.ms(50) == 20


@pytest.mark.parametrize(
    ("figure", "at_least", "passed"),
    [(50, False, True), (50.001, False, False), (50, True, True), (49.999, True, False)],
)
def test_a_goal_may_be_met_exactly(figure: float, at_least: bool, passed: bool) -> None:  # noqa: FBT001
    row = Row("a p99, ms", figure, 50, at_least=at_least)
    assert row.as_json()["pass"] is passed


def test_a_row_says_which_way_its_goal_goes() -> None:
    assert Row("requests/s", 412.34567, 400, at_least=True).as_json() == {
        "target": "requests/s", "figure": 412.346, "goal": ">= 400", "pass": True,
    }  # fmt: skip
    assert Row("lost", 0, 0).as_json()["goal"] == "<= 0"


def test_jobs_that_ran_once_are_neither_lost_nor_doubled() -> None:
    assert run_once(["a", "b"], [("a", WHOLE), ("b", WHOLE)]) == (0, 0)


@pytest.mark.parametrize(
    ("stories", "lost", "doubled"),
    [
        ([("a", WHOLE)], 1, 0),  # never made
        ([("a", WHOLE), ("b", ["queued"])], 1, 0),
        ([("a", WHOLE), ("b", ["queued", "running", "failed"])], 1, 0),
        ([("a", WHOLE), ("b", ["queued", "running", "queued", "running", "succeeded"])], 0, 1),
        ([("a", WHOLE), ("b", WHOLE), ("b", ["queued"])], 0, 1),  # made twice
        ([("a", WHOLE), ("b", [*WHOLE, "succeeded"])], 0, 1),
    ],
)
def test_lost_and_doubled_jobs_are_seen(
    stories: list[tuple[str, list[str]]], lost: int, doubled: int
) -> None:
    assert run_once(["a", "b"], stories) == (lost, doubled)


@pytest.mark.parametrize(
    ("received", "lost", "doubled"),
    [
        ([1, 2, 3, 4], 0, 0),
        ([1, 2, 4], 1, 0),
        ([1, 2, 3], 1, 0),
        ([2, 3, 4], 1, 0),
        ([1, 2, 2, 3, 4], 0, 1),
        ([1, 3, 2, 4], 0, 1),
    ],
)
def test_lost_doubled_and_disordered_events_are_seen(received: list[int], lost: int, doubled: int) -> None:
    assert lost_and_doubled({"other": [1], "one": received}, {"other": 1, "one": 4}) == (lost, doubled)
