"""Requests about what a job leaves: checkpoints, pictures of snapshots, pictures of evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.flow import fetch, listed
from client.operation import call
from client.pictures import DIRECT, Picture, picture
from client.transfer import download
from core.schemas.jobs import CheckpointOut, PictureOut, SampleOut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    import httpx

    from client.flow import Flow


class Artifacts:
    """The part of a client for files of jobs."""

    @property
    def base_url(self) -> httpx.URL:
        """Where the service is."""
        raise NotImplementedError

    @call
    def checkpoints(
        self, job_id: UUID, *, kind: str | None = None, run: int | None = None
    ) -> Flow[list[CheckpointOut]]:
        """A job's checkpoints by images seen, of the kind generator or state, or of both."""
        return listed(CheckpointOut, f"/v1/jobs/{job_id}/checkpoints", kind=kind, run=run)

    @call
    def checkpoint(self, checkpoint_id: UUID) -> Flow[CheckpointOut]:
        """Facts about a checkpoint."""
        return fetch(CheckpointOut, "GET", f"/v1/checkpoints/{checkpoint_id}")

    @call
    def pin_checkpoint(self, checkpoint_id: UUID) -> Flow[CheckpointOut]:
        """Keep a checkpoint, whatever its job's retention says."""
        return fetch(CheckpointOut, "PATCH", f"/v1/checkpoints/{checkpoint_id}", json={"pinned": True})

    @call
    def unpin_checkpoint(self, checkpoint_id: UUID) -> Flow[CheckpointOut]:
        """Leave a checkpoint to its job's retention."""
        return fetch(CheckpointOut, "PATCH", f"/v1/checkpoints/{checkpoint_id}", json={"pinned": False})

    @call
    def samples(
        self, job_id: UUID, *, kind: str | None = None, run: int | None = None
    ) -> Flow[list[SampleOut]]:
        """Pictures drawn in training, by images seen: grids of the same latents, or another kind."""
        return listed(SampleOut, f"/v1/jobs/{job_id}/samples", kind=kind, run=run)

    @call
    def sample_picture(self, sample_id: UUID) -> Flow[Picture]:
        """A picture drawn in training (PNG), in memory."""
        return picture(f"/v1/samples/{sample_id}/file", DIRECT)

    @call
    def download_checkpoint(
        self,
        checkpoint: CheckpointOut,
        *,
        to: Path,
        progress: Callable[[int], None] = lambda _size_bytes: None,
    ) -> Flow[Path]:
        """Fetch a checkpoint's file; resumes, and proves the hash.

        Args:
            checkpoint: as listed.
            to: the file to write.
            progress: told the size of what is there.
        """
        url = f"/v1/checkpoints/{checkpoint.id}/file"
        return download(url, to=to, sha256=checkpoint.sha256, service=self.base_url, progress=progress)

    @call
    def download_sample(self, sample: SampleOut, *, to: Path) -> Flow[Path]:
        """Fetch a picture drawn in training (PNG); resumes, and proves the hash."""
        return download(f"/v1/samples/{sample.id}/file", to=to, sha256=sample.sha256, service=self.base_url)

    @call
    def download_picture(self, picture: PictureOut, *, to: Path) -> Flow[Path]:
        """Fetch an evaluation's picture (PNG); resumes, and proves the hash."""
        return download(picture.url, to=to, sha256=picture.sha256, service=self.base_url)
