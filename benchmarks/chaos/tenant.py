"""What a tenant does during a cycle: submits jobs, and asks for things about them, whatever state the API is in."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from benchmarks.chaos.look import FINAL
from benchmarks.chaos.plan import MOMENTS
from benchmarks.chaos.receiver import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from benchmarks.chaos.look import View
    from benchmarks.chaos.plan import Submission
    from benchmarks.chaos.rig import Rig

_PATIENCE_S = 0.3


class Submitter:
    """Submits jobs once each, and keeps what was answered.

    Attributes:
        accepted: ids by name, of jobs whose 201 was read.
        unanswered: names of jobs that may exist or not, since the answer was lost or was an error of the service.
        refused: sentences by name, a violation each.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.accepted: dict[str, UUID] = {}
        self.unanswered: set[str] = set()
        self.refused: dict[str, str] = {}

    def submit(self, submission: Submission) -> bool:
        """Ask once; False where the API cannot be reached at all, so that nothing was asked."""
        body = {
            "dataset_id": str(self._rig.datasets[submission.tenant]),
            "name": submission.name,
            "config": submission.config,
            "webhook": {"url": self._rig.receiver.url, "events": EVENTS},
        }
        try:
            answer = self._rig.post(submission.tenant, "/v1/jobs", body)
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            self.unanswered.add(submission.name)
            return True
        if answer.status_code == httpx.codes.CREATED:
            self.accepted[submission.name] = UUID(answer.json()["id"])
        elif answer.is_server_error:
            self.unanswered.add(submission.name)
        else:
            said = f"{answer.status_code} {answer.text[:300]}"
            self.refused[submission.name] = f"{submission.name} was refused: {said}"
        return True

    def submit_during(self, submission: Submission, *, strike: Callable[[], None], after_s: float) -> None:
        """Submit, and let something happen while the request is on its way."""
        thread = threading.Thread(target=self.submit, args=[submission])
        thread.start()
        time.sleep(after_s)
        strike()
        thread.join()

    @property
    def settled(self) -> set[str]:
        """Names of the jobs that need not be submitted any more."""
        return self.accepted.keys() | self.unanswered | self.refused.keys()


def script(rig: Rig, submission: Submission) -> Generator[None, View, None]:
    """What a tenant asks of one job: is sent a view of it at every look, and ends when nothing more is wanted."""
    view = yield
    if submission.request is None:
        return
    if submission.request == "extend":
        view = yield from _until_final(view)
        more = int(submission.config["total_images"]) + int(submission.config["evaluate_every_images"])
        yield from _ask(rig, submission, view, "extend", {"total_images": more})
        return
    reached = MOMENTS[submission.request_moment]
    while not reached(view) and view.status not in FINAL:
        view = yield
    yield from _pause(submission.request_delay_s)
    if submission.request == "pause":
        yield from _ask(rig, submission, view, "pause")
        yield from _pause(1 + submission.request_delay_s)
        yield from _ask(rig, submission, view, "resume")
        return
    yield from _ask(rig, submission, view, "cancel")
    if submission.request == "retry":
        view = yield
        view = yield from _until_final(view)
        if view.status == "cancelled":
            yield from _ask(rig, submission, view, "retry", {})


def _until_final(view: View) -> Generator[None, View, View]:
    while view.status not in FINAL:
        view = yield
    return view


def _pause(seconds: float) -> Generator[None, View, None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield


def _ask(
    rig: Rig, submission: Submission, view: View, what: str, body: dict[str, Any] | None = None
) -> Generator[None, View, None]:
    """Ask until there is an answer; a refusal (409) is one."""
    while True:
        try:
            answer = rig.post(submission.tenant, f"/v1/jobs/{view.id}/{what}", body)
        except httpx.TransportError:
            pass
        else:
            if not answer.is_server_error:
                return
        yield from _pause(_PATIENCE_S)
