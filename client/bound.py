"""Jobs and datasets as clients give them: what the service said of them, with methods that ask it for more."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import BaseModel, PrivateAttr

from client import notebook
from client.account import Account
from client.artifacts import Artifacts
from client.datasets import Datasets
from client.flow import Flow, fetch, listed
from client.frames import frame
from client.generations import Generations
from client.jobs import Jobs
from client.operation import Async, Sync, call, calls_for_dataset, calls_for_job, iterates_itself, of_itself
from client.pictures import DIRECT, Picture, picture
from client.results import best_generator
from client.transfer import download
from core.errors import NotFound, SlaeganError
from core.schemas.datasets import DatasetOut
from core.schemas.jobs import CheckpointOut, ExtendIn, JobIn, JobOut, Point, SampleOut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from client.flow import Stream
    from core.schemas.families import Config


class JobMethods:
    """What can be asked of one job."""

    if TYPE_CHECKING:
        id: UUID
        client: Any

    refresh = of_itself(Jobs.job)
    wait = of_itself(Jobs.wait)
    cancel = of_itself(Jobs.cancel_job)
    pause = of_itself(Jobs.pause_job)
    resume = of_itself(Jobs.resume_job)
    retry = of_itself(Jobs.retry_job)
    points = of_itself(Jobs.metrics)
    loss_curve = of_itself(Jobs.losses)
    curve = of_itself(Jobs.curve)
    events = iterates_itself(Jobs.events)
    follow_events = iterates_itself(Jobs.follow_events)
    logs = iterates_itself(Jobs.logs)
    follow_logs = iterates_itself(Jobs.follow_logs)
    attempts = of_itself(Account.attempts)
    deliveries = of_itself(Jobs.deliveries)
    backtrack = of_itself(Jobs.backtrack)
    generate = of_itself(Generations.generate)
    export = of_itself(Generations.export)
    generations = iterates_itself(Generations.generations)
    exports = iterates_itself(Generations.exports)
    checkpoints = of_itself(Artifacts.checkpoints)
    samples = of_itself(Artifacts.samples)

    @calls_for_job
    def extend(self, total_images: int) -> Flow[JobOut]:
        """Train a job that succeeded for longer, from its last state; `SlaeGan.extend_job` takes rules, too."""
        body = ExtendIn(total_images=total_images).model_dump(mode="json", exclude_unset=True)
        return fetch(JobOut, "POST", f"/v1/jobs/{self.id}/extend", json=body)

    @call
    def metrics(self) -> Flow[Any]:
        """The curve, a row a snapshot and protocol.

        Returns:
            A pandas DataFrame, or where there is no pandas, a list of Point.
        """
        return frame((yield from listed(Point, f"/v1/jobs/{self.id}/metrics")))

    @call
    def grid(self) -> Flow[Picture]:
        """The newest grid of the same latents, in memory.

        Raises:
            NotFound: the job has made none yet.
        """
        grids = yield from listed(SampleOut, f"/v1/jobs/{self.id}/samples", kind="grid")
        if not grids:
            raise NotFound(f"Job {self.id} has no grid yet: wait for its first snapshot.")
        newest = max(grids, key=lambda grid: grid.images_seen)
        return (yield from picture(f"/v1/samples/{newest.id}/file", DIRECT))

    @call
    def download_generator(
        self, to: Path, *, progress: Callable[[int], None] = lambda _size_bytes: None
    ) -> Flow[Path]:
        """Fetch the best generator (safetensors); resumes, and proves the hash.

        Args:
            to: the file to write.
            progress: told the size of what is there.

        Raises:
            NotFound: the job has made none yet.
        """
        job = yield from fetch(JobOut, "GET", f"/v1/jobs/{self.id}")
        made = yield from listed(CheckpointOut, f"/v1/jobs/{self.id}/checkpoints", kind="generator")
        best = best_generator(job, made)
        url, service = f"/v1/checkpoints/{best.id}/file", self.client.base_url
        return (yield from download(url, to=to, sha256=best.sha256, service=service, progress=progress))


class DatasetMethods:
    """What can be asked of one version of a dataset."""

    if TYPE_CHECKING:
        id: UUID
        client: Any

    images = iterates_itself(Datasets.dataset_images)
    preview = of_itself(Datasets.preview)
    lint_report = of_itself(Datasets.lint)
    add_version = of_itself(Datasets.create_version)
    delete = of_itself(Datasets.delete_dataset)

    @calls_for_dataset
    def refresh(self) -> Flow[DatasetOut]:
        """The same version, as the service has it now."""
        return fetch(DatasetOut, "GET", f"/v1/datasets/{self.id}")

    @calls_for_job
    def train(self, /, config: Config, *, name: str = "", **asked: Any) -> Flow[JobOut]:
        """Queue a training on this version.

        Args:
            config: of the family to train, such as core.schemas.slaegan.SlaeganConfig.
            name: for people.
            **asked: other fields of JobIn, such as priority.
        """
        job = JobIn(dataset_id=self.id, config=config, name=name, **asked)
        body = job.model_dump(mode="json", exclude_unset=True)
        return fetch(JobOut, "POST", "/v1/jobs", json=body)


class _Of(BaseModel):
    """What a client gave, and knows whose it is."""

    _client: Any = PrivateAttr()

    @classmethod
    def of(cls, value: BaseModel, client: Any) -> Self:
        """The same facts, with methods."""
        made = cast("Self", cls.model_construct(_fields_set=value.model_fields_set, **dict(value)))
        made._client = client  # noqa: SLF001  # its own
        return made

    @property
    def client(self) -> Any:
        """The client that it came from."""
        return self._client

    def carry_out(self, flow: Flow[Any]) -> Any:
        return self._client.carry_out(flow)

    def go_through(self, stream: Stream[Any]) -> Any:
        return self._client.go_through(stream)


class Job(_Of, JobMethods, JobOut, Sync):
    """A job as the service last told it, with what can be asked of it; a notebook shows its curve and newest grid."""

    def _repr_html_(self) -> str:
        evaluated = self.latest is not None
        shown = [self.curve] if evaluated else []
        return notebook.job(self, [*_fetched(*shown), *_fetched(self.grid)])


class AsyncJob(_Of, JobMethods, JobOut, Async):
    """As Job, with coroutines and async iterators; a notebook shows its facts."""

    def _repr_html_(self) -> str:
        return notebook.job(self, [])


class Dataset(_Of, DatasetMethods, DatasetOut, Sync):
    """A version of a dataset, with what can be asked of it; a notebook shows its contact sheet."""

    def _repr_html_(self) -> str:
        return notebook.dataset(self, _fetched(self.preview))


class AsyncDataset(_Of, DatasetMethods, DatasetOut, Async):
    """As Dataset, with coroutines and async iterators; a notebook shows its facts."""

    def _repr_html_(self) -> str:
        return notebook.dataset(self, [])


def _fetched(*fetches: Callable[[], Picture]) -> list[Picture]:
    """The pictures that are to be had: what is shown of a thing does not fail with them."""
    found = []
    for fetch_picture in fetches:
        with suppress(SlaeganError):
            found.append(fetch_picture())
    return found
