"""The curves of undisturbed trainings, which a disturbed one's must equal."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.look import FINAL
from benchmarks.chaos.plan import REAL, TENANTS, Submission
from benchmarks.chaos.tenant import Submitter
from benchmarks.chaos.trainer import CHEAP_FROM
from benchmarks.chaos.walk import Walk, evaluate
from core.schemas.slaegan import SlaeganConfig

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.chaos.invariants import Curve
    from benchmarks.chaos.look import Story
    from benchmarks.chaos.rig import Rig

_REAL_DEADLINE_S = 400.0


def losses_of(story: Story) -> Curve:
    """The losses of a job's current run, by images seen."""
    return {row["images_seen"]: row["losses"] for row in story.losses if row["run"] == story.job["run"]}


def metrics_of(story: Story) -> Curve:
    """The metrics of a job's current run, by images seen."""
    return {
        row["images_seen"]: row["metrics"]
        for row in story.evaluations
        if row["run"] == story.job["run"] and row["kind"] == "metrics" and row["status"] == "done"
    }


class References:
    """Undisturbed curves: cheap ones are computed here, the real one is trained once on the stack and kept.

    Args:
        folder: where the real one is kept, by its configuration.
    """

    def __init__(self, folder: Path) -> None:
        config = hashlib.sha256(json.dumps(REAL, sort_keys=True).encode()).hexdigest()
        self._path = folder / f"reference-{config[:12]}.json"

    def losses(self, config: dict[str, Any]) -> Curve:
        """By images seen."""
        if config["seed"] < CHEAP_FROM:
            return self._real()["losses"]
        walk, found = Walk(SlaeganConfig.model_validate(config)), {}
        while not walk.finished:
            losses = walk.step()
            found[walk.images_seen] = losses
        return found

    def metrics(self, config: dict[str, Any], *, protocol: dict[str, Any]) -> Curve:
        """By images seen, under a protocol."""
        if config["seed"] < CHEAP_FROM:
            return self._real()["metrics"]
        walk, found = Walk(SlaeganConfig.model_validate(config)), {}
        while True:
            if walk.snapshot_is_due():
                walk.snapshot_at = walk.images_seen
                found[walk.images_seen] = evaluate(walk.generator(), protocol=protocol)
            if walk.finished:
                return found
            walk.step()

    def _real(self) -> dict[str, Curve]:
        kept = json.loads(self._path.read_text())
        return {what: {int(age): numbers for age, numbers in kept[what].items()} for what in kept}

    def make_real(self, rig: Rig) -> None:
        """Train the real one undisturbed, unless that was done. Raises AssertionError where it does not succeed."""
        if self._path.exists():
            return
        name = f"reference-{time.time_ns()}"
        submitter = Submitter(rig)
        submitter.submit(Submission(f"{name}-0", TENANTS[0], config=REAL, at_s=0))

        def over() -> bool:
            views = rig.database.views(name)
            return bool(views) and all(view.status in FINAL for view in views or [])

        rig.services.until(over, "the reference is trained", timeout_s=_REAL_DEADLINE_S)
        (story,) = rig.database.stories(name)
        assert story.job["status"] == "succeeded", story.job["error"]
        kept = {"losses": losses_of(story), "metrics": metrics_of(story)}
        self._path.write_text(json.dumps(kept))
