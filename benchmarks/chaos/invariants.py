"""What must hold of every job, whatever was killed: pure functions of what the database holds.

Each gives sentences, one a violation; none where all is well.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.look import FINAL

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from benchmarks.chaos.look import Row, Story

# From which state a job may come to which: the table of the design. None is before its creation.
TRANSITIONS: dict[str | None, set[str]] = {
    None: {"queued"},
    "queued": {"running", "cancelled", "paused", "failed"},  # failed: it waited longer than it should
    "running": {"evaluating", "queued", "paused", "cancelled", "failed"},
    "evaluating": {"succeeded", "cancelled"},
    "paused": {"queued", "cancelled"},
    "failed": {"queued"},
    "cancelled": {"queued"},
    "succeeded": {"queued"},
}
_STATES = frozenset(state for state in TRANSITIONS if state is not None)
Curve = dict[int, dict[str, float]]


def ended(story: Story, *, explained: frozenset[str]) -> list[str]:
    """The job is in a final state; a failure has a code that a fault of the cycle explains.

    Args:
        story: of one job.
        explained: codes of failures that are right, such as store_full where the store was filled.
    """
    status, error = story.job["status"], story.job["error"] or {}
    if status not in FINAL:
        return [f"{story.name} is {status} after the deadline: it is lost"]
    if status == "failed" and error.get("code") not in explained:
        return [
            f"{story.name} failed with {error.get('code')}, which no fault explains: {error.get('message')}"
        ]
    return []


def transitions(story: Story) -> list[str]:
    """Every change of state is one of the table, and the last one led to where the job is."""
    found = []
    before: str | None = None
    for event in story.events:
        state = event["type"]
        if state in _STATES:
            if state not in TRANSITIONS[before]:
                found.append(f"{story.name} went from {before} to {state} at event {event['seq']}")
            before = state
    if before != story.job["status"]:
        found.append(f"{story.name} is {story.job['status']}, but its events say {before}")
    return found


def gapless(story: Story) -> list[str]:
    """Events are numbered from 1 without gaps, up to the number that the job's row holds."""
    numbers = [event["seq"] for event in story.events]
    wanted = list(range(1, story.job["event_seq"] + 1))
    return [] if numbers == wanted else [f"{story.name} has events {numbers}, not 1 to {len(wanted)}"]


def one_writer(story: Story) -> list[str]:
    """What carries an attempt's number was written while that attempt held the job, and not after it."""
    found = []
    attempt, state = 0, "queued"
    spans: dict[int, tuple[datetime, datetime | None]] = {}
    for event in story.events:
        kind, said = event["type"], event["payload"].get("attempt")
        if kind == "running":
            attempt += 1
            spans[attempt] = (event["at"], None)
        elif said is not None and (said != attempt or state != "running"):
            found.append(
                f"{story.name}: event {event['seq']} ({kind}) is of attempt {said}, while the job was {state} "
                f"and its attempt {attempt}"
            )
        if kind in _STATES:
            if state == "running" and kind != "running":
                spans[attempt] = (spans[attempt][0], event["at"])
            state = kind
    if attempt != story.job["attempt"]:
        found.append(f"{story.name} was claimed {attempt} times, but its row says {story.job['attempt']}")
    found += _outside("log line", story.logs, spans, name=story.name)
    return found


def _outside(
    what: str, rows: Sequence[Row], spans: Mapping[int, tuple[datetime, datetime | None]], *, name: str
) -> list[str]:
    """Rows of an attempt that were written when it did not hold the job."""
    late = Counter(
        row["attempt"]
        for row in rows
        if row["attempt"] not in spans
        or row["at"] < spans[row["attempt"]][0]
        or (spans[row["attempt"]][1] or row["at"]) < row["at"]
    )
    return [
        f"{name}: {count} times a {what} of attempt {n} was written outside of it"
        for n, count in late.items()
    ]


def accounted(story: Story) -> list[str]:
    """Each of the job's claims has one row of the time that it held a device; all have ended with the job."""
    trainings = [row for row in story.attempts if row["kind"] == "training"]
    numbers = sorted(row["number"] for row in trainings)
    wanted = list(range(1, story.job["attempt"] + 1))
    found = [] if numbers == wanted else [f"{story.name} has rows of attempts {numbers}, not of {wanted}"]
    if story.job["status"] in FINAL:
        found += [
            f"{story.name} is over, but attempt {row['number']} is accounted as if it still ran"
            for row in trainings
            if row["ended_at"] is None
        ]
    return found


def duplicates(story: Story) -> list[str]:
    """No metric stands twice, in the rows or in the events; no checkpoint is told twice."""
    measured = Counter((row["run"], row["images_seen"], row["protocol_hash"]) for row in story.evaluations)
    told = Counter(
        event["payload"].get("evaluation_id") for event in story.events if event["type"] == "evaluated"
    )
    stored = Counter(
        event["payload"].get("checkpoint_id") for event in story.events if event["type"] == "checkpoint"
    )
    return [
        f"{story.name}: {count} times {what} {key}"
        for what, counted in (("metrics of", measured), ("the evaluation", told), ("checkpoint", stored))
        for key, count in counted.items()
        if count > 1
    ]


def webhooks(
    story: Story, *, wanted: Collection[str], ids: Mapping[tuple[str, int], set[str]], taken: Collection[str]
) -> list[str]:
    """Each wanted event has one delivery, which arrived, under one id however often it was sent.

    Args:
        story: of one job.
        wanted: types of events.
        ids: webhook-ids that arrived, by job and number of the event.
        taken: webhook-ids that were answered well.
    """
    told = [event["seq"] for event in story.events if event["type"] in wanted]
    rows = [row["event_seq"] for row in story.deliveries]
    found = [] if sorted(rows) == told else [f"{story.name} has webhooks of events {rows}, not of {told}"]
    for row in story.deliveries:
        arrived = ids.get((str(story.job["id"]), row["event_seq"]), set())
        if arrived != {str(row["id"])}:
            found.append(
                f"{story.name}: event {row['event_seq']} arrived as {sorted(arrived)}, not as {row['id']}"
            )
        if row["status"] != "delivered" or str(row["id"]) not in taken:
            found.append(f"{story.name}: the webhook of event {row['event_seq']} is {row['status']}")
    return found


def same_curve(name: str, what: str, found: Curve, wanted: Curve) -> list[str]:
    """A disturbed job's numbers are those of an undisturbed one, at every age.

    Args:
        name: of the job.
        what: metrics or losses, for the sentence.
        found: by images seen.
        wanted: likewise.
    """
    if found == wanted:
        return []
    missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = sorted(age for age in wanted.keys() & found.keys() if wanted[age] != found[age])
    first = f"; at {other[0]} it is {found[other[0]]}, not {wanted[other[0]]}" if other else ""
    return [
        f"{name}: its {what} differ: missing at {missing}, superfluous at {more}, other at {other}{first}"
    ]


def all_of_job(story: Story, *, explained: frozenset[str]) -> list[str]:
    """What one job's rows must show by themselves; `duplicates`, `lost` and `doubled` are counted apart."""
    return [
        *ended(story, explained=explained),
        *transitions(story),
        *gapless(story),
        *one_writer(story),
        *accounted(story),
    ]


def lost(accepted: Mapping[str, Any], stories: Sequence[Story]) -> list[str]:
    """Accepted jobs that are not there, by name: their 201 was read.

    Args:
        accepted: id by name.
        stories: of the jobs that are there.
    """
    there = {story.job["id"] for story in stories}
    return [
        f"{name} ({job_id}) was accepted and is not there"
        for name, job_id in accepted.items()
        if job_id not in there
    ]


def doubled(stories: Sequence[Story]) -> list[str]:
    """A job that was submitted once is there once, also where the answer was lost."""
    names = Counter(story.name for story in stories)
    return [
        f"{name} was submitted once and is there {count} times" for name, count in names.items() if count > 1
    ]
