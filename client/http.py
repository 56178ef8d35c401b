"""The Python client of the REST API, version 1. Errors of the service are raised as the classes of core.errors."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from client.problems import raise_for_problem
from client.sse import parse
from client.transfer import as_archive, download
from core.errors import InfrastructureError
from core.schemas.datasets import DatasetOut, ImageOut
from core.schemas.evaluations import BacktrackingIn, EvaluationOut
from core.schemas.jobs import (
    CheckpointOut,
    ComparisonOut,
    EventOut,
    ExtendIn,
    JobIn,
    JobOut,
    LogOut,
    LossOut,
    ModelOut,
    PictureOut,
    Point,
    SampleOut,
    WorkerOut,
)  # fmt: skip
from core.schemas.pages import Page
from core.schemas.webhooks import DeliveryOut, WebhookSecretOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from uuid import UUID

Item = TypeVar("Item", bound=BaseModel)
Told = TypeVar("Told", EventOut, LogOut)
_LONGEST_PAUSE_S = 10.0


class Client:
    """A connection to one service with one API key; close it, or use it in a `with` block.

    Every method raises InfrastructureError when the service cannot be reached, and the error that the service
    names (NotFound, Conflict …) when it refuses.

    Args:
        url: such as http://127.0.0.1:8000.
        key: an API key.
        timeout_s: how long the service may be silent.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float = 60) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(timeout_s, connect=5),
            transport=httpx.HTTPTransport(retries=2) if _is_local(url) else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # Datasets

    def create_dataset(self, source: Path, *, name: str) -> DatasetOut:
        """Upload pictures; the answer names each file that was rejected, and why.

        Args:
            source: a folder of pictures, or a zip or tar file.
            name: for people.
        """
        with as_archive(source) as (filename, file):
            # Checking a thousand pictures takes the service a while after the last byte.
            return DatasetOut.model_validate(
                self._json(
                    "POST",
                    "/v1/datasets",
                    files={"files": (filename, file)},
                    data={"name": name},
                    timeout=600,
                )
            )

    def datasets(self) -> Iterator[DatasetOut]:
        """All datasets, the newest first."""
        return self._pages("/v1/datasets", DatasetOut)

    def dataset(self, dataset_id: UUID) -> DatasetOut:
        return DatasetOut.model_validate(self._json("GET", f"/v1/datasets/{dataset_id}"))

    def dataset_images(self, dataset_id: UUID) -> Iterator[ImageOut]:
        return self._pages(f"/v1/datasets/{dataset_id}/images", ImageOut)

    def delete_dataset(self, dataset_id: UUID) -> None:
        """Delete a dataset; Conflict while a live job needs it."""
        with self._request("DELETE", f"/v1/datasets/{dataset_id}"):
            pass

    # Jobs

    def create_job(self, job: JobIn) -> JobOut:
        """Queue a training; what is not set in its configuration, the service chooses."""
        body = job.model_dump(mode="json", exclude_unset=True)
        return JobOut.model_validate(self._json("POST", "/v1/jobs", json=body))

    def jobs(self, *, status: str | None = None) -> Iterator[JobOut]:
        """All jobs, or those in one state, the newest first."""
        return self._pages("/v1/jobs", JobOut, status=status)

    def job(self, job_id: UUID) -> JobOut:
        return JobOut.model_validate(self._json("GET", f"/v1/jobs/{job_id}"))

    def cancel_job(self, job_id: UUID) -> JobOut:
        return JobOut.model_validate(self._json("POST", f"/v1/jobs/{job_id}/cancel"))

    def pause_job(self, job_id: UUID) -> JobOut:
        """Pause a job that waits or trains; a training saves its state first."""
        return JobOut.model_validate(self._json("POST", f"/v1/jobs/{job_id}/pause"))

    def resume_job(self, job_id: UUID) -> JobOut:
        """Queue a paused job again, or take back a wish to pause."""
        return JobOut.model_validate(self._json("POST", f"/v1/jobs/{job_id}/resume"))

    def retry_job(self, job_id: UUID, *, fresh: bool = False) -> JobOut:
        """Begin a new run of a failed or cancelled job, from its last state, or fresh from zero."""
        return JobOut.model_validate(self._json("POST", f"/v1/jobs/{job_id}/retry", json={"fresh": fresh}))

    def extend_job(self, job_id: UUID, asked: ExtendIn) -> JobOut:
        """Train a job that succeeded for longer, from its last state."""
        body = asked.model_dump(mode="json", exclude_unset=True)
        return JobOut.model_validate(self._json("POST", f"/v1/jobs/{job_id}/extend", json=body))

    def deliveries(self, job_id: UUID) -> Iterator[DeliveryOut]:
        """What became of the events that a job's webhook asks for, the newest first."""
        return self._pages(f"/v1/jobs/{job_id}/deliveries", DeliveryOut)

    def redeliver(self, delivery_id: UUID) -> DeliveryOut:
        """Send a webhook now, under its old id; also one that was delivered or given up."""
        return DeliveryOut.model_validate(self._json("POST", f"/v1/deliveries/{delivery_id}/redeliver"))

    def webhook_secret(self) -> WebhookSecretOut:
        """What webhooks are signed with; needs a key with the scope admin."""
        return WebhookSecretOut.model_validate(self._json("GET", "/v1/webhook-secret"))

    def rotate_webhook_secret(self) -> WebhookSecretOut:
        """A new secret; the one before signs beside it for a while. Needs a key with the scope admin."""
        return WebhookSecretOut.model_validate(self._json("POST", "/v1/webhook-secret/rotate"))

    def events(self, job_id: UUID, *, after: int = 0) -> Iterator[EventOut]:
        """What has happened to a job, from the event after the given number on."""
        return self._pages(f"/v1/jobs/{job_id}/events", EventOut, after=after)

    def follow_events(self, job_id: UUID, *, after: int = 0, patience_s: float = 60) -> Iterator[EventOut]:
        """Events as they happen, each once, until the job is over; a lost connection is made again.

        Args:
            job_id: whose.
            after: the number of the last event already seen.
            patience_s: how long the service may be away before the error is raised.
        """
        return self._follow("events", EventOut, job_id, after=after, patience_s=patience_s)

    def follow_logs(self, job_id: UUID, *, after: int = 0, patience_s: float = 60) -> Iterator[LogOut]:
        """Log lines as they are printed; as `follow_events`."""
        return self._follow("logs", LogOut, job_id, after=after, patience_s=patience_s)

    def metrics(self, job_id: UUID) -> list[Point]:
        """The curve: a point a snapshot and protocol."""
        return list(self._pages(f"/v1/jobs/{job_id}/metrics", Point))

    def compare(self, job_ids: Iterable[UUID]) -> ComparisonOut:
        """Curves and best points of two to eight jobs; Conflict where they have no protocol in common."""
        query = {"job": [str(job_id) for job_id in job_ids]}
        return ComparisonOut.model_validate(self._json("GET", "/v1/comparison", params=query))

    def backtrack(self, job_id: UUID, asked: BacktrackingIn) -> EvaluationOut:
        """Ask how near a generator of a job comes to given pictures; `evaluation` tells when it is known."""
        body = asked.model_dump(mode="json", exclude_unset=True)
        return EvaluationOut.model_validate(self._json("POST", f"/v1/jobs/{job_id}/backtracking", json=body))

    def evaluation(self, evaluation_id: UUID) -> EvaluationOut:
        return EvaluationOut.model_validate(self._json("GET", f"/v1/evaluations/{evaluation_id}"))

    def losses(self, job_id: UUID) -> list[LossOut]:
        return list(self._pages(f"/v1/jobs/{job_id}/losses", LossOut))

    def logs(self, job_id: UUID, *, after: int = 0, tail: int | None = None) -> Iterator[LogOut]:
        """Log lines from the one after the given number on, or the last so many."""
        return self._pages(f"/v1/jobs/{job_id}/logs", LogOut, after=after, tail=tail, limit=1000)

    # Files

    def checkpoints(self, job_id: UUID) -> list[CheckpointOut]:
        return list(self._pages(f"/v1/jobs/{job_id}/checkpoints", CheckpointOut))

    def samples(self, job_id: UUID) -> list[SampleOut]:
        return list(self._pages(f"/v1/jobs/{job_id}/samples", SampleOut))

    def download_checkpoint(
        self,
        checkpoint: CheckpointOut,
        *,
        to: Path,
        progress: Callable[[int], None] = lambda _size_bytes: None,
    ) -> None:
        """Fetch a checkpoint's file; resumes, and proves the hash.

        Args:
            checkpoint: as listed.
            to: the file to write.
            progress: told the size of what is there.
        """
        url = f"/v1/checkpoints/{checkpoint.id}/file"
        with self._reached():
            download(self._http, url, to=to, sha256=checkpoint.sha256, progress=progress)

    def download_sample(self, sample: SampleOut, *, to: Path) -> None:
        """Fetch a sample grid (PNG); resumes, and proves the hash."""
        with self._reached():
            download(self._http, f"/v1/samples/{sample.id}/file", to=to, sha256=sample.sha256)

    def download_picture(self, picture: PictureOut, *, to: Path) -> None:
        """Fetch an evaluation's picture (PNG); resumes, and proves the hash."""
        with self._reached():
            download(self._http, picture.url, to=to, sha256=picture.sha256)

    def download_curve(self, job_id: UUID, *, to: Path) -> None:
        """Fetch the FID curve as a picture (PNG)."""
        with self._request("GET", f"/v1/jobs/{job_id}/curve.png") as response:
            to.write_bytes(response.read())

    # The service itself

    def models(self) -> list[ModelOut]:
        return list(self._pages("/v1/models", ModelOut))

    def workers(self) -> list[WorkerOut]:
        return list(self._pages("/v1/workers", WorkerOut))

    def check_ready(self) -> None:
        """Raise what keeps the service from working."""
        with self._request("GET", "/readyz"):
            pass

    # How

    def _follow(
        self, what: str, item: type[Told], job_id: UUID, *, after: int, patience_s: float
    ) -> Iterator[Told]:
        away_since: float | None = None
        pause_s = 0.25
        while True:
            try:
                for told in self._stream(what, item, job_id, after=after):
                    after, away_since, pause_s = told.seq, None, 0.25
                    yield told
                if self.job(job_id).status.final:
                    # What came between the stream's end and this answer is not lost.
                    yield from self._pages(f"/v1/jobs/{job_id}/{what}", item, after=after)
                    return
            except InfrastructureError:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > patience_s:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _stream(self, what: str, item: type[Told], job_id: UUID, *, after: int) -> Iterator[Told]:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        with self._request("GET", f"/v1/jobs/{job_id}/{what}/stream", headers=headers) as response:
            for event in parse(response.iter_lines()):
                yield item.model_validate_json(event.data)

    def _pages(self, path: str, item: type[Item], **query: Any) -> Iterator[Item]:
        given = {name: value for name, value in query.items() if value is not None}
        while True:
            page = Page[item].model_validate(self._json("GET", path, params=given))  # type: ignore[valid-type]  # a class at run time
            yield from page.items
            if page.next_cursor is None:
                return
            given["cursor"] = page.next_cursor

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._request(method, path, **options) as response:
            response.read()
            return response.json()

    @contextmanager
    def _request(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        with self._reached(), self._http.stream(method, path, **options) as response:
            raise_for_problem(response)
            yield response

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise InfrastructureError(
                f"The service at {self._http.base_url} cannot be reached ({error or type(error).__name__}): does "
                "`slaegan up` run, and is the address right?"
            ) from error


def _is_local(url: str) -> bool:
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
