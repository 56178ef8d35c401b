"""Requests about jobs: what becomes of them, and what they tell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from client.flow import Item, Open, Pause, Read, do, fetch, listed, pages
from client.operation import call, calls_for_job, iterates_jobs, iteration
from client.pictures import Picture, picture
from client.problems import raise_for_problem
from client.sse import Parser
from core.errors import InfrastructureError, RateLimited, from_code
from core.schemas.estimates import EstimateIn, EstimateOut
from core.schemas.evaluations import BacktrackingIn, EvaluationOut
from core.schemas.jobs import ComparisonOut, EventOut, ExtendIn, JobIn, JobOut, LogOut, LossOut, Point, Status
from core.schemas.webhooks import DeliveryOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from uuid import UUID

    from client.flow import Flow, Stream

_LONGEST_PAUSE_S = 10.0
_FIRST_PAUSE_S = 0.25


class Jobs:
    """The part of a client for jobs."""

    @calls_for_job
    def create_job(self, job: JobIn) -> Flow[JobOut]:
        """Queue a training; what is not set in its configuration, the service chooses."""
        return fetch(JobOut, "POST", "/v1/jobs", json=job.model_dump(mode="json", exclude_unset=True))

    @call
    def estimate(self, asked: EstimateIn) -> Flow[EstimateOut]:
        """Tell how long a training would take, by earlier jobs; nothing is submitted."""
        return fetch(
            EstimateOut, "POST", "/v1/jobs/estimate", json=asked.model_dump(mode="json", exclude_unset=True)
        )

    @iterates_jobs
    def jobs(
        self,
        *,
        status: str | Iterable[str] | None = None,
        dataset_id: UUID | None = None,
        family: str | None = None,
        text: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Stream[JobOut]:
        """Jobs, the newest first.

        Args:
            status: only those in this state, or in one of these.
            dataset_id: only those on this dataset.
            family: only those of this family of models.
            text: only those whose name contains this, in any case.
            created_after: only those submitted at this time or later; with a zone.
            created_before: only those submitted before; with a zone.
        """
        moments = {"created_after": created_after, "created_before": created_before}
        return pages(
            JobOut,
            "/v1/jobs",
            status=status if status is None or isinstance(status, str) else list(status),
            dataset_id=dataset_id and str(dataset_id),
            family=family,
            text=text,
            **{name: at.isoformat() for name, at in moments.items() if at is not None},
        )

    @calls_for_job
    def job(self, job_id: UUID) -> Flow[JobOut]:
        """One job, as it is at this moment."""
        return fetch(JobOut, "GET", f"/v1/jobs/{job_id}")

    @calls_for_job
    def cancel_job(self, job_id: UUID) -> Flow[JobOut]:
        """Cancel a job; a running one ends soon. Conflict once it has succeeded or failed."""
        return fetch(JobOut, "POST", f"/v1/jobs/{job_id}/cancel")

    @calls_for_job
    def pause_job(self, job_id: UUID) -> Flow[JobOut]:
        """Pause a job that waits or trains; a training saves its state first."""
        return fetch(JobOut, "POST", f"/v1/jobs/{job_id}/pause")

    @calls_for_job
    def resume_job(self, job_id: UUID) -> Flow[JobOut]:
        """Queue a paused job again, or take back a wish to pause."""
        return fetch(JobOut, "POST", f"/v1/jobs/{job_id}/resume")

    @calls_for_job
    def retry_job(self, job_id: UUID, *, fresh: bool = False) -> Flow[JobOut]:
        """Begin a new run of a failed or cancelled job, from its last state, or fresh from zero."""
        return fetch(JobOut, "POST", f"/v1/jobs/{job_id}/retry", json={"fresh": fresh})

    @calls_for_job
    def extend_job(self, job_id: UUID, asked: ExtendIn) -> Flow[JobOut]:
        """Train a job that succeeded for longer, from its last state."""
        body = asked.model_dump(mode="json", exclude_unset=True)
        return fetch(JobOut, "POST", f"/v1/jobs/{job_id}/extend", json=body)

    @calls_for_job
    def wait(
        self,
        job_id: UUID,
        *,
        timeout_s: float | None = None,
        poll_s: float = 1.0,
        patience_s: float = 120,
        progress: Callable[[JobOut], None] = lambda _job: None,
    ) -> Flow[JobOut]:
        """Wait until a job is over.

        Args:
            job_id: which.
            timeout_s: for how long; None: as long as it takes.
            poll_s: how often to ask.
            patience_s: how long the service may be away meanwhile.
            progress: told the job each time.

        Returns:
            The job, which has succeeded or was cancelled.

        Raises:
            SlaeganError: the job failed: of the class that its error names, such as OutOfMemory.
            TimeoutError: it was not over in time; it goes on.
            InfrastructureError: the service was away for too long.
        """
        begun = seen = time.monotonic()
        while True:
            try:
                job = yield from fetch(JobOut, "GET", f"/v1/jobs/{job_id}")
            except InfrastructureError:
                if time.monotonic() - seen > patience_s:
                    raise
            else:
                seen = time.monotonic()
                progress(job)
                # The job's own error may be of the class that is caught above.
                if job.status is Status.FAILED:
                    raise failure(job)
                if job.status.final:
                    return job
            if timeout_s is not None and time.monotonic() - begun + poll_s > timeout_s:
                raise TimeoutError(f"Job {job_id} was not over within {timeout_s} s; it goes on.")
            yield Pause(poll_s)

    # What a job tells

    @iteration
    def events(self, job_id: UUID, *, after: int = 0) -> Stream[EventOut]:
        """What has happened to a job, from the event after the given number on."""
        return pages(EventOut, f"/v1/jobs/{job_id}/events", after=after)

    @iteration
    def follow_events(self, job_id: UUID, *, after: int = 0, patience_s: float = 60) -> Stream[EventOut]:
        """Events as they happen, each once, until the job is over; a lost connection is made again.

        Args:
            job_id: whose.
            after: the number of the last event already seen.
            patience_s: how long the service may be away before the error is raised.
        """
        return _followed("events", EventOut, job_id, after=after, patience_s=patience_s)

    @iteration
    def logs(self, job_id: UUID, *, after: int = 0, tail: int | None = None) -> Stream[LogOut]:
        """Log lines from the one after the given number on, or the last so many."""
        return pages(LogOut, f"/v1/jobs/{job_id}/logs", after=after, tail=tail, limit=1000)

    @iteration
    def follow_logs(self, job_id: UUID, *, after: int = 0, patience_s: float = 60) -> Stream[LogOut]:
        """Log lines as they are printed; as `follow_events`."""
        return _followed("logs", LogOut, job_id, after=after, patience_s=patience_s)

    @call
    def metrics(self, job_id: UUID, *, run: int | None = None) -> Flow[list[Point]]:
        """The curve: a point a snapshot and protocol. Of the present run, or of an earlier one."""
        return listed(Point, f"/v1/jobs/{job_id}/metrics", run=run)

    @call
    def losses(
        self, job_id: UUID, *, points: int | None = None, run: int | None = None
    ) -> Flow[list[LossOut]]:
        """The losses, put together into at most so many points; by default 500."""
        return listed(LossOut, f"/v1/jobs/{job_id}/losses", points=points, run=run)

    @call
    def curve(self, job_id: UUID) -> Flow[Picture]:
        """The FID curve as a picture (PNG)."""
        return picture(f"/v1/jobs/{job_id}/curve.png")

    @call
    def compare(self, job_ids: Iterable[UUID]) -> Flow[ComparisonOut]:
        """Curves and best points of two to eight jobs; Conflict where they have no protocol in common."""
        params = {"job": [str(job_id) for job_id in job_ids]}
        return fetch(ComparisonOut, "GET", "/v1/comparison", params=params)

    @call
    def deliveries(self, job_id: UUID) -> Flow[list[DeliveryOut]]:
        """What became of the events that a job's webhook asks for, the newest first."""
        return listed(DeliveryOut, f"/v1/jobs/{job_id}/deliveries")

    @call
    def redeliver(self, delivery_id: UUID) -> Flow[DeliveryOut]:
        """Send a webhook now, under its old id; also one that was delivered or given up."""
        return fetch(DeliveryOut, "POST", f"/v1/deliveries/{delivery_id}/redeliver", keyed=False)

    # Evaluations on demand

    @call
    def backtrack(self, job_id: UUID, asked: BacktrackingIn) -> Flow[EvaluationOut]:
        """Ask how near a generator of a job comes to given pictures; `evaluation` tells when it is known."""
        body = asked.model_dump(mode="json", exclude_unset=True)
        return fetch(EvaluationOut, "POST", f"/v1/jobs/{job_id}/backtracking", json=body)

    @call
    def backtrackings(self, job_id: UUID) -> Flow[list[EvaluationOut]]:
        """What was asked of a job in that way, the newest first."""
        return listed(EvaluationOut, f"/v1/jobs/{job_id}/backtracking")

    @call
    def evaluation(self, evaluation_id: UUID) -> Flow[EvaluationOut]:
        """State and result of an evaluation."""
        return fetch(EvaluationOut, "GET", f"/v1/evaluations/{evaluation_id}")

    @call
    def cancel_evaluation(self, evaluation_id: UUID) -> Flow[None]:
        """Call off an evaluation on demand that is not over."""
        return do("DELETE", f"/v1/evaluations/{evaluation_id}")


def failure(job: JobOut) -> Exception:
    """The error that a failed job names, of its class."""
    error: dict[str, Any] = job.error or {}
    message = error.get("message", f"Job {job.id} failed without a reason.")
    return from_code(error.get("code", "job_failed"), message, **error.get("details", {}))


def _followed(what: str, item: type[Any], job_id: UUID, *, after: int, patience_s: float) -> Stream[Any]:
    path = f"/v1/jobs/{job_id}/{what}"
    away_since: float | None = None
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            opened = yield Open(
                "GET",
                f"{path}/stream",
                {"headers": {"Last-Event-ID": str(after), "Accept": "text/event-stream"}},
                by="lines",
            )
            raise_for_problem(opened.response)
            parser = Parser()
            while (line := (yield Read(opened))) is not None:
                if (event := parser.feed(line)) is not None:
                    told = item.model_validate_json(event.data)
                    after, away_since, pause_s = told.seq, None, _FIRST_PAUSE_S
                    yield Item(told)
            job = yield from fetch(JobOut, "GET", f"/v1/jobs/{job_id}")
            if job.status.final:
                # What came between the stream's end and this answer is not lost.
                yield from pages(item, path, after=after)
                return
        except (httpx.TransportError, InfrastructureError, RateLimited):
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > patience_s:
                raise
        yield Pause(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
