"""One cycle: jobs are submitted, faults strike at their moments, all is mended, and every invariant is checked."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.chaos import faults, judge
from benchmarks.chaos.ledger import revision
from benchmarks.chaos.look import FINAL
from benchmarks.chaos.plan import MOMENTS, REAL
from benchmarks.chaos.recovery import Hit
from benchmarks.chaos.tenant import Submitter, script

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from uuid import UUID

    from benchmarks.chaos.look import View
    from benchmarks.chaos.plan import Plan, Strike, Submission
    from benchmarks.chaos.reference import References
    from benchmarks.chaos.rig import Rig

DEADLINE_S = 120.0
LOOK_S = 0.03
THAWED_S = 5.0
_FILES_EVERY_S = 0.5
_REST_S = 0.3
_AGAIN_S = 0.5


@dataclass
class Cycle:
    """A running cycle.

    Args:
        rig: the stack.
        plan: what happens.
        references: undisturbed curves to compare with.
        deadline_s: within so many seconds after the last fault is mended, all jobs end.
    """

    rig: Rig
    plan: Plan
    references: References
    deadline_s: float = DEADLINE_S
    violations: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    hits: list[Hit] = field(default_factory=list)
    explained: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    orphans: int = 0
    _mends: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _going: list[tuple[psutil.Process, float, str]] = field(default_factory=list)
    _restarts: dict[str, float] = field(default_factory=dict)
    _files_at: float = 0.0
    _killed_during_post: bool = False
    _waiting: list[Submission] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = self.plan.rng()
        self.submitter = Submitter(self.rig)
        self._scripts: dict[str, Generator[None, View, None]] = {}
        self._armed: dict[Strike, tuple[float, UUID] | None] = dict.fromkeys(self.plan.strikes)

    # What faults call

    def mend_later(self, delay_s: float, mend: Callable[[], None]) -> None:
        """Have something mended after a while."""
        self._mends.append((time.monotonic() + delay_s, mend))

    def expect_gone(self, process: psutil.Process | None, *, within_s: float, why: str) -> None:
        """A process that has to end; one that is still there later is an orphan."""
        if process is not None:
            self._going.append((process, time.monotonic() + within_s, why))

    def waits_again(self) -> bool:
        """Whether a job that some worker has lost waits for the next one."""
        views = self.rig.database.views(self.plan.cycle) or ()
        return any(view.status == "queued" and view.attempt > 0 for view in views)

    def leases_of(self, name: str) -> frozenset[UUID] | None:
        """The tokens under which a process holds jobs and evaluations now; None while nobody can say."""
        return self.rig.database.leases(f"{name}-%")

    # The cycle

    def run(self) -> dict[str, Any]:
        """Run it to its end and check everything; what is kept of it, for the ledger."""
        began = time.monotonic()
        outcome = judge.nothing()
        try:
            self.rig.services.until(self.rig.services.is_ready, "the API is ready", timeout_s=60)
            for submission in self.plan.submissions:
                self._expect(submission)
            self._go(began)
            self._calm_down()
            self.rig.services.until(
                lambda: not self.rig.database.has_open_webhooks(self.plan.cycle),
                "webhooks arrive",
                timeout_s=60,
            )
            outcome = judge.judge(self, self.rig.database.stories(self.plan.cycle))
        except AssertionError as error:  # The stack did not get where it should.
            self.violations.append(str(error).partition("\n")[0])
        return {
            "seed": self.plan.seed, "cycle": self.plan.number, "commit": revision(),
            "seconds": round(time.monotonic() - began, 1),
            "violations": self.violations, "faults": dict(self.struck),
            "accepted": len(self.submitter.accepted), "unanswered": len(self.submitter.unanswered),
            "missed": [f"{strike.fault} at {strike.moment}" for strike in self._armed],
            "orphans": self.orphans, **outcome,
        }  # fmt: skip

    def _go(self, began: float) -> None:
        last_trouble, over_since = began, None
        while True:
            now = time.monotonic()
            troubled = self._submit(now - began) + self._mend(now) + self._restart_dead(now)
            views = self.rig.database.views(self.plan.cycle)
            self._check_gone(now)
            if views is not None:
                self._ask(views)
                troubled += self._strike(views, now)
                self._check_files(now)
            last_trouble = now if troubled else last_trouble
            over_since = over_since or now if views is not None and self._is_over(views) else None
            # A commit whose asker was killed may still come.
            if over_since is not None and now - over_since >= _REST_S:
                return
            if now > last_trouble + self._patience_s():
                return
            time.sleep(LOOK_S)

    def _patience_s(self) -> float:
        real = any(submission.config is REAL for submission in self.plan.submissions)
        return self.deadline_s * (3 if real else 1)

    def _expect(self, submission: Submission) -> None:
        self._waiting.append(submission)
        self._scripts[submission.name] = script(self.rig, submission)
        next(self._scripts[submission.name])

    def _submit(self, since_s: float) -> int:
        due = [submission for submission in self._waiting if submission.at_s <= since_s]
        for submission in due:
            during = self.plan.killed_during_post
            if during is None or submission is not self.plan.submissions[-1] or self._killed_during_post:
                self.submitter.submit(submission)
            else:
                self._killed_during_post = True
                self.struck[f"kill_{during}_during_post"] += 1
                self.submitter.submit_during(
                    submission, strike=self._killer(during), after_s=self.rng.uniform(0, 0.04)
                )
            if submission.name in self.submitter.settled:
                self._waiting.remove(submission)
            if submission.name in self.submitter.unanswered:
                # It may be there or not. Another one takes its place, so that the cycle has its jobs.
                again = replace(submission, name=f"{submission.name}r", at_s=since_s + _AGAIN_S)
                self._expect(again)
        return len(due)

    def _killer(self, what: str) -> Callable[[], None]:
        if what == "api":
            return lambda: self.rig.services.kill("api")
        server = self.rig.servers.database if what == "database" else self.rig.servers.broker

        def kill() -> None:
            if server.process is not None and server.process.poll() is None:
                server.kill()
                self.mend_later(self.rng.uniform(0.1, 2), server.start)

        return kill

    def _mend(self, now: float) -> int:
        due = [mend for at, mend in self._mends if at <= now]
        self._mends = [(at, mend) for at, mend in self._mends if at > now]
        for mend in due:
            mend()
        return len(due)

    def _restart_dead(self, now: float) -> int:
        """Start what has ended again, after a while, as an init system would."""
        started = 0
        for name in self.rig.names:
            if self.rig.services.is_alive(name):
                continue
            due = self._restarts.setdefault(name, now + self.rng.uniform(*self.plan.restart_s))
            if due <= now:
                del self._restarts[name]
                self.rig.services.launch(name)
                started += 1
        return started

    def _check_gone(self, now: float) -> None:
        staying = []
        for process, deadline, why in self._going:
            if not _lives(process):
                continue
            # One that was stopped before it could bind itself to its parent ends when it is woken.
            until = max(deadline, now + THAWED_S) if _is_frozen(process) else deadline
            if now > until:
                self.orphans += 1
                self.violations.append(f"process {process.pid} still lives after {why}")
                process.kill()
            else:
                staying.append((process, until, why))
        self._going = staying

    def _ask(self, views: list[View]) -> None:
        for view in views:
            asking = self._scripts.get(view.name)
            if asking is not None:
                try:
                    asking.send(view)
                except StopIteration:
                    del self._scripts[view.name]

    def _strike(self, views: list[View], now: float) -> int:
        """Strike what is due; arm what has reached its moment."""
        done = 0
        for planned, armed in list(self._armed.items()):
            if armed is None:
                there = [view for view in views if MOMENTS[planned.moment](view)]
                if there:
                    self._armed[planned] = (now + planned.delay_s, self.rng.choice(there).id)
                continue
            due, job_id = armed
            target = next((view for view in views if view.id == job_id), None)
            if now < due:
                continue
            if target is None:  # That it is gone will be found in the end.
                self._armed[planned] = None
                continue
            at = datetime.now(UTC)
            if faults.strike(self, planned.fault, target):
                self.struck[planned.fault] += 1
                self.hits.append(Hit(planned.fault, job_id, target.attempt, at))
                del self._armed[planned]
                done += 1
            else:  # Nothing was there to be struck: the next such moment, of any job.
                self._armed[planned] = None
        return done

    def _check_files(self, now: float) -> None:
        if now - self._files_at >= _FILES_EVERY_S:
            self._files_at = now
            self.violations += [text for text in judge.missing_files(self) if text not in self.violations]

    def _is_over(self, views: list[View]) -> bool:
        asking = self._scripts.keys() & {view.name for view in views}
        return not self._waiting and not asking and all(view.status in FINAL for view in views)

    def _calm_down(self) -> None:
        """Mend all, have every service running and every process gone that must go."""
        deadline = time.monotonic() + 60
        while self._mends or self._going or not all(map(self.rig.services.is_alive, self.rig.names)):
            now = time.monotonic()
            self._mend(now)
            self._restart_dead(now)
            self._check_gone(now)
            assert now < deadline, "the stack does not come to rest"
            time.sleep(LOOK_S)
        self.violations += self.submitter.refused.values()


def _is_frozen(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
