"""Each checker of the chaos harness sees what it is there to see, in stories made up by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from benchmarks.chaos import invariants, plan
from benchmarks.chaos.ledger import Ledger, total
from benchmarks.chaos.look import Row, Story
from benchmarks.chaos.recovery import Hit, recovery_s

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)


def story(*told: str | tuple[str, dict[str, Any]], status: str = "succeeded", **rows: list[Row]) -> Story:
    """A job whose events come a second apart."""
    named = [event if isinstance(event, tuple) else (event, {}) for event in told]
    events = [
        {"seq": number, "type": kind, "payload": payload, "at": BEGAN + timedelta(seconds=number)}
        for number, (kind, payload) in enumerate(named, start=1)
    ]
    attempt = sum(event["type"] == "running" for event in events)
    job = {"id": uuid4(), "name": "one", "status": status, "event_seq": len(events), "attempt": attempt,
           "error": None}  # fmt: skip
    attempts = [{"kind": "training", "number": number, "ended_at": BEGAN} for number in range(1, attempt + 1)]
    return Story(job, events=events, **{"attempts": attempts, **rows})


def of(attempt: int, kind: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return kind, {"attempt": attempt, **more}


WHOLE = ("queued", "running", of(1, "training"), of(1, "evaluating"), "succeeded")


@pytest.mark.parametrize(
    "told",
    [
        WHOLE,
        (
            "queued",
            "running",
            of(1, "queued"),
            "running",
            of(2, "training"),
            of(2, "evaluating"),
            "succeeded",
        ),
        ("queued", "paused", "queued", "running", of(1, "evaluating"), "evaluated", "succeeded"),
        (*WHOLE, "queued", "running", of(2, "evaluating"), "succeeded"),  # extended
    ],
)
def test_a_right_story_violates_nothing(told: tuple[Any, ...]) -> None:
    one = story(*told)
    assert invariants.all_of_job(one, explained=frozenset()) == []
    assert invariants.duplicates(one) == []


def test_a_job_that_is_not_over_is_lost() -> None:
    assert invariants.ended(story("queued", status="queued"), explained=frozenset())


def test_a_failure_needs_a_fault_that_explains_it() -> None:
    failed = story("queued", "running", of(1, "failed"), status="failed")
    failed.job["error"] = {"code": "store_full", "message": "full"}
    assert invariants.ended(failed, explained=frozenset())
    assert invariants.ended(failed, explained=frozenset({"store_full"})) == []


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (("running",), "running"),
        (("queued", "succeeded"), "succeeded"),
        (("queued", "running", "running"), "running"),
        (("queued", "running", "evaluating", "queued"), "queued"),
        (("queued", "running", "failed", "running"), "running"),
        (("queued", "running"), "cancelled"),  # its row says what no event says
    ],
)
def test_a_transition_that_the_table_lacks(told: tuple[str, ...], status: str) -> None:
    assert invariants.transitions(story(*told, status=status))


def test_a_gap_in_the_events() -> None:
    one = story(*WHOLE)
    assert invariants.gapless(Story(one.job, events=[*one.events[:2], *one.events[3:]]))
    one.job["event_seq"] += 1
    assert invariants.gapless(one)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(1, BEGAN), (1, BEGAN)],
        [(2, BEGAN)],
        [(1, None)],
    ],
)
def test_device_time_that_is_not_accounted_for_once(rows: list[tuple[int, datetime | None]]) -> None:
    attempts = [{"kind": "training", "number": number, "ended_at": at} for number, at in rows]
    assert invariants.accounted(story(*WHOLE, attempts=attempts))


@pytest.mark.parametrize(
    "told",
    [
        ("queued", "running", of(1, "queued"), "running", of(1, "checkpoint")),  # an old attempt writes on
        ("queued", "running", of(1, "queued"), of(1, "checkpoint")),  # or writes when nobody holds the job
        ("queued", "running", of(2, "training")),
    ],
)
def test_a_second_writer(told: tuple[Any, ...]) -> None:
    assert invariants.one_writer(story(*told))


def test_log_lines_of_an_attempt_that_is_over() -> None:
    def line(attempt: int, after_s: float) -> Row:
        return {"attempt": attempt, "at": BEGAN + timedelta(seconds=after_s)}

    told = ("queued", "running", of(1, "queued"), "running", of(2, "evaluating"))
    assert invariants.one_writer(story(*told, logs=[line(1, 2.5), line(2, 4.5)])) == []
    assert invariants.one_writer(story(*told, logs=[line(1, 4.5)]))
    assert invariants.one_writer(story(*told, logs=[line(2, 2.5)]))


def test_duplicates() -> None:
    def evaluated(number: int) -> tuple[str, dict[str, Any]]:
        return "evaluated", {"evaluation_id": number}

    assert invariants.duplicates(story(evaluated(1), evaluated(2))) == []
    assert invariants.duplicates(story(evaluated(1), evaluated(1)))
    row = {"run": 1, "images_seen": 40, "protocol_hash": "a"}
    assert invariants.duplicates(story(evaluations=[row, row | {"images_seen": 80}])) == []
    assert invariants.duplicates(story(evaluations=[row, dict(row)]))
    checkpoint = of(1, "checkpoint", checkpoint_id=1)
    assert invariants.duplicates(story("queued", "running", checkpoint, checkpoint))
    one = story(*WHOLE)
    assert invariants.doubled([one, story(*WHOLE)])
    assert invariants.doubled([one]) == []


def test_an_accepted_job_that_is_not_there() -> None:
    one = story(*WHOLE)
    assert invariants.lost({"one": one.job["id"]}, [one]) == []
    assert invariants.lost({"one": one.job["id"], "two": uuid4()}, [one])


def test_webhooks() -> None:
    def of_event(*rows: Row) -> Story:
        return story(*WHOLE, deliveries=list(rows))

    def found(one: Story, *arrived: str, taken: tuple[str, ...] = ("a",)) -> list[str]:
        ids = {(str(one.job["id"]), len(WHOLE)): set(arrived)}
        return invariants.webhooks(one, wanted=("succeeded",), ids=ids, taken=taken)

    row = {"id": "a", "event_seq": len(WHOLE), "status": "delivered"}
    assert found(of_event(row), "a") == []
    assert found(of_event(row), "a", "b"), "one event under two ids"
    assert found(of_event(row)), "said to be delivered, and never arrived"
    assert found(of_event(row), "a", taken=()), "said to be delivered, and refused each time"
    assert found(of_event(row | {"status": "dead"}), "a")
    assert found(of_event(), "a"), "an event without its webhook"
    assert found(of_event(row, row), "a"), "an event with two"


@pytest.mark.parametrize(
    "found",
    [{40: {"fid": 1.0}}, {40: {"fid": 1.0}, 80: {"fid": 2.5}}, {40: {"fid": 1.0}, 80: {"fid": 2.0}, 90: {}}],
)
def test_another_curve(found: invariants.Curve) -> None:
    wanted = {40: {"fid": 1.0}, 80: {"fid": 2.0}}
    assert invariants.same_curve("one", "metrics", dict(wanted), wanted) == []
    assert invariants.same_curve("one", "metrics", found, wanted)


def test_recovery_is_from_the_fault_to_the_next_attempts_training() -> None:
    one = story("queued", "running", of(1, "training"), of(1, "queued"), "running", of(2, "training"))
    at = BEGAN + timedelta(seconds=3.5)
    assert recovery_s(Hit("kill_trainer", one.job["id"], 1, at), one) == 2.5
    assert recovery_s(Hit("kill_api", one.job["id"], 2, at), one) is None


def test_a_cycle_is_drawn_from_its_seed_and_number_alone() -> None:
    def drawn(seed: int, number: int) -> plan.Plan:
        return plan.draw(seed, number, real_every=10, requests=("cancel",))

    assert drawn(1, 3) == drawn(1, 3)
    assert drawn(1, 3) != drawn(1, 4)
    assert drawn(1, 3).strikes != drawn(2, 3).strikes
    assert any(submission.config is plan.REAL for submission in drawn(1, 10).submissions)


def test_all_pairs_of_fault_and_moment_have_their_turn() -> None:
    count = -(-len(plan.pairs()) // 3)
    struck = {
        (strike.fault, strike.moment)
        for number in range(1, count + 1)
        for strike in plan.draw(7, number, real_every=0, requests=()).strikes
    }
    assert set(plan.pairs()) <= struck


def test_the_ledger_goes_on_where_a_run_was_cut_off(tmp_path: Any) -> None:
    ledger = Ledger(tmp_path / "cycles.jsonl")
    cycle = {"seed": 1, "faults": {"kill_api": 1}, "ended": {"succeeded": 2}, "violations": [], "accepted": 2,
             "duplicates": 0, "lost": 0, "orphans": 0, "longest_recovery_s": 1.5, "curves_compared": 2,
             "curves_equal": 2}  # fmt: skip
    ledger.add(cycle | {"cycle": 1})
    ledger.add(cycle | {"cycle": 2, "violations": ["it is lost"], "lost": 1, "longest_recovery_s": 3.0})
    ledger.add(cycle | {"cycle": 1, "seed": 2})
    with (tmp_path / "cycles.jsonl").open("a") as file:
        file.write('{"seed": 1, "cyc')
    done = ledger.finished(seed=1, cycles=range(1, 5))
    assert sorted(done) == [1, 2]
    said = total(list(done.values()), violations=[], faults=("kill_api", "kill_beat"))
    assert list(said) == ["cycles", "violations", "faults", "accepted", "ended", "duplicates", "lost", "orphans",
                          "longest_recovery_s", "curves_compared", "curves_equal"]  # fmt: skip
    assert said["violations"] == ["cycle 2 of seed 1: it is lost"]
    assert said["faults"] == {"kill_api": 2, "kill_beat": 0}
    assert (said["cycles"], said["accepted"], said["lost"], said["longest_recovery_s"]) == (2, 4, 1, 3.0)
