"""The Python client of the REST API, version 1. Errors of the service are raised as the classes of core.errors."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Any

from client.account import Account
from client.resumable import SMALLEST_BYTES, Resumable, fingerprint
from client.transfer import as_archive, download
from core.errors import InfrastructureError
from core.schemas.datasets import DatasetOut, ImageOut, LabelSource, Lint
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
    PictureOut,
    Point,
    SampleOut,
    WorkerOut,
)  # fmt: skip
from core.schemas.models import ModelOut
from core.schemas.webhooks import DeliveryOut, WebhookSecretOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from uuid import UUID

    from client.transport import Told

_LONGEST_PAUSE_S = 10.0


class Client(Account):
    """A connection to one service with one API key; close it, or use it in a `with` block.

    Every method raises InfrastructureError when the service cannot be reached, and the error that the service
    names (NotFound, Conflict …) when it refuses.

    Args:
        url: such as http://127.0.0.1:8000.
        key: an API key.
        timeout_s: how long the service may be silent.
    """

    # Datasets

    def create_dataset(
        self,
        source: Path,
        *,
        name: str,
        labels: LabelSource = "auto",
        progress: Callable[[int, int], None] = lambda _sent_bytes, _size_bytes: None,
    ) -> DatasetOut:
        """Upload pictures; the answer names each file that was rejected, and why.

        A large upload goes on after a broken connection; and after an error that ended it, when asked for again.

        Args:
            source: a folder of pictures, or a zip or tar file.
            name: for people.
            labels: where the pictures' classes come from.
            progress: of a large upload, told how many bytes the service has, and of how many.
        """
        asked = {"name": name, **_labels(labels)}
        with as_archive(source, labels=labels) as (filename, file):
            if _is_large(file):
                sent = self._resumable(source, file, filename=filename, labels=labels, progress=progress)
                with self._reached():
                    return sent.create_dataset(asked)
            # Checking a thousand pictures takes the service a while after the last byte.
            return DatasetOut.model_validate(
                self._json(
                    "POST",
                    "/v1/datasets",
                    files={"files": (filename, file)},
                    data=asked,
                    timeout=600,
                )
            )

    def create_version(
        self,
        dataset_id: UUID,
        *,
        source: Path | None = None,
        remove: Iterable[str] = (),
        name: str = "",
        labels: LabelSource = "auto",
        progress: Callable[[int, int], None] = lambda _sent_bytes, _size_bytes: None,
    ) -> DatasetOut:
        """Make the next version of a dataset; Conflict names the newest one where this is older.

        A large upload goes on as for `create_dataset`.

        Args:
            dataset_id: the newest version.
            source: what to add, as for `create_dataset`.
            remove: pictures to leave out: each a position, a sha256 or a name in this version.
            name: for people; that of this version if empty.
            labels: as for `create_dataset`; a picture that is there already takes the class that it comes with.
            progress: as for `create_dataset`.
        """
        remove = list(remove)
        given = [*([("name", name)] if name else []), *_labels(labels).items()]
        # Fields of a form without a file name: the service takes no other kind of body here.
        fields: list[Any] = [
            (field, (None, value)) for field, value in [*given, *(("remove", which) for which in remove)]
        ]
        with as_archive(source, labels=labels) if source else nullcontext() as archive:
            if source and archive and _is_large(archive[1]):
                self.dataset(dataset_id)  # Nobody should send a gigabyte for a NotFound.
                sent = self._resumable(
                    source, archive[1], filename=archive[0], labels=labels, progress=progress
                )
                wanted = {
                    "name": name,
                    "version_of": str(dataset_id),
                    "remove": remove,
                    **_labels(labels),
                }
                with self._reached():
                    return sent.create_dataset(wanted)
            files = [*fields, *([("files", archive)] if archive else [])]
            path = f"/v1/datasets/{dataset_id}/versions"
            return DatasetOut.model_validate(self._json("POST", path, files=files, timeout=600))

    def datasets(self, *, series_id: UUID | None = None) -> Iterator[DatasetOut]:
        """The newest version of each dataset, or all versions of a series; the newest first."""
        return self._pages("/v1/datasets", DatasetOut, series_id=series_id)

    def dataset(self, dataset_id: UUID) -> DatasetOut:
        return DatasetOut.model_validate(self._json("GET", f"/v1/datasets/{dataset_id}"))

    def dataset_images(self, dataset_id: UUID) -> Iterator[ImageOut]:
        return self._pages(f"/v1/datasets/{dataset_id}/images", ImageOut)

    def lint(self, dataset_id: UUID) -> Lint:
        """What of a dataset's pictures deserves a look before training."""
        return Lint.model_validate(self._json("GET", f"/v1/datasets/{dataset_id}/lint"))

    def delete_dataset(self, dataset_id: UUID) -> None:
        """Delete one version of a dataset; Conflict while a live job needs it."""
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

    def _resumable(
        self,
        source: Path,
        file: IO[bytes],
        *,
        filename: str,
        labels: LabelSource,
        progress: Callable[[int, int], None],
    ) -> Resumable:
        mark = fingerprint(source, server=str(self._http.base_url).rstrip("/"), labels=labels)
        return Resumable(
            self._http, file, filename=filename, mark=mark, from_folder=source.is_dir(), progress=progress
        )


def _labels(labels: LabelSource) -> dict[str, str]:
    """The field of a form or a body; without the default an older service takes the request too."""
    return {} if labels == "auto" else {"labels": labels}


def _is_large(file: IO[bytes]) -> bool:
    """Whether it is worth to be sent in parts; the file is at its beginning afterwards."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size_bytes >= SMALLEST_BYTES
