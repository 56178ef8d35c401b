from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.metrics.selection import choose, ranked

LIMIT = 0.2


def point(kid: float, *, sd: float = 0.01, **more: float) -> dict[str, float]:
    return {"fid": 1.0, "kid": kid, "kid_sd": sd} | more


@pytest.mark.parametrize(
    ("curve", "index", "words"),
    [
        ([point(0.5)], 0, "KID 0.5: no other snapshot has one yet."),
        ([point(0.5), point(0.3), point(0.4)], 1, "KID 0.3 is the lowest."),
        # The lowest is 0.100 with a spread of 0.01, so 0.109 is as good, and 0.111 is not.
        (
            [point(0.109, recall=0.4), point(0.1, recall=0.3), point(0.111, recall=0.9)],
            0,
            "(0.01) of the lowest, 0.1; of 2 such snapshots it has the highest recall, 0.40.",
        ),
        # It is the spread of the lowest one that counts.
        ([point(0.2, sd=0.5, recall=0.9), point(0.1, recall=0.1)], 1, "KID 0.1 is the lowest."),
        # All below zero is as good as zero: the more negative one is the better copier.
        (
            [point(-0.001, recall=0.5), point(-0.3, recall=0.4)],
            0,
            "KID 0 is the lowest; of 2 within one standard deviation, 0.01, it has the highest recall, 0.50.",
        ),
        (
            [point(0.1, recall=0.9, copy_rate=0.21), point(0.105, recall=0.1, copy_rate=0.2), point(0.1)],
            1,
            "such snapshots 2 with a copy rate of at most 20% remain, and of them it has the highest recall, 0.10.",
        ),
        (
            [point(0.1, recall=0.2, copy_rate=0.9), point(0.105, recall=0.3, copy_rate=0.8)],
            1,
            "of 2 such snapshots all have a copy rate over 20%, and it has the highest recall, 0.30.",
        ),
        (
            [point(0.1, copy_rate=0.9), point(5.0)],
            0,
            "KID 0.1 is the lowest; its copy rate is over the limit.",
        ),
        (
            [point(0.1, copy_rate=0.9), point(0.1, copy_rate=0.1)],
            1,
            "remain, and of them it is the only one.",
        ),
        ([point(0.1), point(0.105)], 0, "2 share the highest recall, 0.00, and it has the lowest KID."),
        ([point(0.1), point(0.1)], 1, "it has the lowest KID and is the latest."),
        ([{"fid": 1.0}, point(0.7)], 1, "KID 0.7: no other snapshot has one yet."),
    ],
)
def test_the_rule(curve: list[dict[str, float]], index: int, words: str) -> None:
    choice = choose(curve, copy_limit=LIMIT)
    assert choice is not None
    assert choice.index == index
    assert choice.reason.endswith(words)


def test_nothing_to_choose_from() -> None:
    assert choose([], copy_limit=LIMIT) is None
    assert choose([{"fid": 1.0}], copy_limit=LIMIT) is None


def test_without_a_limit_copies_do_not_count() -> None:
    curve = [point(0.1, recall=0.9, copy_rate=1.0), point(0.1, recall=0.1, copy_rate=0.0)]
    chosen = [choose(curve, copy_limit=limit) for limit in (None, LIMIT)]
    assert [choice and choice.index for choice in chosen] == [0, 1]


NUMBERS = st.floats(-1, 10, allow_nan=False)
SHARES = st.floats(0, 1)
POINTS = st.fixed_dictionaries(
    {"kid": NUMBERS, "kid_sd": st.floats(0, 1)}, optional={"recall": SHARES, "copy_rate": SHARES}
)


@given(st.lists(POINTS, min_size=1, max_size=12))
def test_nothing_as_good_and_as_honest_covers_more(curve: list[dict[str, Any]]) -> None:
    choice = choose(curve, copy_limit=LIMIT)
    assert choice is not None
    chosen = curve[choice.index]
    kid = max(0.0, chosen["kid"])
    assert kid <= min(max(0.0, other["kid"]) for other in curve) + max(other["kid_sd"] for other in curve)
    honest = chosen.get("copy_rate", 0.0) <= LIMIT
    for other in curve:
        if max(0.0, other["kid"]) <= kid and (other.get("copy_rate", 0.0) <= LIMIT or not honest):
            assert other.get("recall", 0.0) <= chosen.get("recall", 0.0)
    assert choice.reason.endswith(".")


@given(st.lists(POINTS, max_size=8), st.integers(1, 9))
def test_ranks_begin_with_the_best_and_name_each_once(curve: list[dict[str, Any]], count: int) -> None:
    best = ranked(curve, count=count, copy_limit=LIMIT)
    assert len(best) == len(set(best)) == min(count, len(curve))
    if curve:
        first = choose(curve, copy_limit=LIMIT)
        assert first is not None
        assert best[0] == first.index
