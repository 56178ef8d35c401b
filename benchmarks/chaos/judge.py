"""Checks a cycle's jobs by all that is left of them: rows, files, curves, and what the API says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks.chaos import invariants, recovery
from benchmarks.chaos.look import FINAL
from benchmarks.chaos.receiver import EVENTS
from benchmarks.chaos.reference import losses_of, metrics_of
from core.files import sha256_of

if TYPE_CHECKING:
    from benchmarks.chaos.cycle import Cycle
    from benchmarks.chaos.look import Story


def judge(cycle: Cycle, stories: list[Story]) -> dict[str, Any]:
    """Add every violation to the cycle's, and count what the ledger keeps."""
    explained = frozenset(cycle.explained)
    lost = invariants.lost(cycle.submitter.accepted, stories)
    doubled = invariants.doubled(stories)
    for story in stories:
        doubled += invariants.duplicates(story)
        cycle.violations += invariants.all_of_job(story, explained=explained)
        cycle.violations += invariants.webhooks(
            story, wanted=EVENTS, ids=cycle.rig.receiver.ids, taken=cycle.rig.receiver.taken
        )
    cycle.violations += lost + doubled
    cycle.violations += [text for text in missing_files(cycle, whole=True) if text not in cycle.violations]
    cycle.violations += _api_agrees(cycle, stories)
    unended = [story for story in stories if story.job["status"] not in FINAL]
    compared = equal = 0
    for story in stories:
        if story.job["status"] == "succeeded":
            compared += 1
            differing = curves(cycle, story)
            cycle.violations += differing
            equal += not differing
    return {
        "ended": dict(Counter(story.job["status"] for story in stories)),
        "lost": len(lost) + len(unended),
        "duplicates": len(doubled),
        "files_without_row": len(nameless_files(cycle, stories)),
        "longest_recovery_s": recovery.longest_s(cycle.hits, stories),
        "curves_compared": compared,
        "curves_equal": equal,
    }


def nothing() -> dict[str, Any]:
    """What is counted of a cycle whose stack did not last until it could be judged."""
    return {
        "ended": {}, "lost": 0, "duplicates": 0, "files_without_row": 0, "longest_recovery_s": 0.0,
        "curves_compared": 0, "curves_equal": 0,
    }  # fmt: skip


def missing_files(cycle: Cycle, *, whole: bool = False) -> list[str]:
    """Rows whose file is not in the store; with `whole`, also those whose file has another hash.

    At the moment of the look a row may have gone with its file: only what still is a row then counts.
    """
    rows = cycle.rig.database.files(cycle.plan.cycle) or {}
    found = {}
    for key, sha256 in rows.items():
        path = cycle.rig.store / key
        if not path.exists():
            found[key] = f"the row of {key} has no file"
        elif whole and key not in cycle.damaged and sha256_of(path) != sha256:
            found[key] = f"the file of {key} has another sha256 than its row says"
    if not found:
        return []
    still = cycle.rig.database.files(cycle.plan.cycle) or {}
    return [text for key, text in found.items() if key in still]


def nameless_files(cycle: Cycle, stories: list[Story]) -> list[str]:
    """Files of the cycle's jobs that no row names: what a kill between a file and its row leaves to the garbage."""
    rows = cycle.rig.database.files(cycle.plan.cycle) or {}
    folders = [cycle.rig.store / "jobs" / str(story.job["id"]) for story in stories]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    keys = [path.relative_to(cycle.rig.store).as_posix() for path in files]
    return [key for key in keys if key not in rows]


def curves(cycle: Cycle, story: Story) -> list[str]:
    """How a job's losses and metrics differ from the undisturbed ones; a given-up evaluation has no point."""
    config = story.job["config"]
    found = invariants.same_curve(story.name, "losses", losses_of(story), cycle.references.losses(config))
    protocols = [row["protocol"] for row in story.evaluations if row["kind"] == "metrics"]
    wanted = cycle.references.metrics(config, protocol=protocols[0]) if protocols else {}
    told = {
        event["payload"].get("images_seen") for event in story.events if event["type"] == "evaluation_failed"
    }
    given_up = {row["images_seen"] for row in story.evaluations if row["status"] == "failed"} & told
    wanted = {age: metrics for age, metrics in wanted.items() if age not in given_up}
    return found + invariants.same_curve(story.name, "metrics", metrics_of(story), wanted)


def _api_agrees(cycle: Cycle, stories: list[Story]) -> list[str]:
    """The API says of each job what the database holds."""
    tenants = {submission.name: submission.tenant for submission in cycle.plan.submissions}
    # One that took the place of an unanswered one has its tenant, and its name with a letter more.
    found = []
    cycle.rig.services.until(cycle.rig.services.is_ready, "the API is ready", timeout_s=60)
    for story in stories:
        try:
            said = cycle.rig.get_json(tenants[story.name.rstrip("r")], f"/v1/jobs/{story.job['id']}")[
                "status"
            ]
        except httpx.HTTPError as error:
            found.append(f"the API does not tell of {story.name}: {error}")
        else:
            if said != story.job["status"]:
                found.append(f"the API says that {story.name} is {said}; it is {story.job['status']}")
    return found
