"""Requests for what a generator makes: pictures, films, projections, exports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from client.flow import Pause, do, fetch, pages
from client.operation import call, iteration
from client.transfer import download
from core.errors import InfrastructureError, NotFound, from_code
from core.schemas.renderings import ExportOut, GenerationOut, RenderedFileOut, RenderingOut, RenderingStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    import httpx

    from client.flow import Flow, Stream
    from core.schemas.generations import ExportIn, GenerationIn

Out = TypeVar("Out", bound=RenderingOut)


class Generations:
    """The part of a client for generations and exports."""

    @property
    def base_url(self) -> httpx.URL:
        """Where the service is."""
        raise NotImplementedError

    @call
    def generate(self, job_id: UUID, asked: GenerationIn) -> Flow[GenerationOut]:
        """Ask for pictures made with a generator of a job; asking for the same again gives the same.

        Args:
            job_id: whose generator.
            asked: PicturesIn, InterpolationIn, StyleMixIn or ProjectionIn of core.schemas.generations.
        """
        return fetch(GenerationOut, "POST", f"/v1/jobs/{job_id}/generations", json=_body(asked))

    @iteration
    def generations(self, job_id: UUID) -> Stream[GenerationOut]:
        """What was asked of a job in that way, the newest first; each with its main file and its preview."""
        return pages(GenerationOut, f"/v1/jobs/{job_id}/generations")

    @call
    def generation(self, generation_id: UUID) -> Flow[GenerationOut]:
        """State, files and facts of a generation."""
        return fetch(GenerationOut, "GET", f"/v1/generations/{generation_id}")

    @call
    def wait_for_generation(
        self, generation_id: UUID, *, timeout_s: float | None = None, patience_s: float = 120
    ) -> Flow[GenerationOut]:
        """Wait until a generation is done, or called off.

        Args:
            generation_id: which.
            timeout_s: for how long; None: as long as it takes.
            patience_s: how long the service may be away meanwhile.

        Raises:
            SlaeganError: it failed: of the class that its error names.
            TimeoutError: it was not over in time; it goes on.
            InfrastructureError: the service was away for too long.
        """
        path = f"/v1/generations/{generation_id}"
        return _over(GenerationOut, path, timeout_s=timeout_s, patience_s=patience_s)

    @call
    def delete_generation(self, generation_id: UUID) -> Flow[None]:
        """Call a generation off that is not over, or remove one that is."""
        return do("DELETE", f"/v1/generations/{generation_id}")

    @call
    def export(self, job_id: UUID, asked: ExportIn) -> Flow[ExportOut]:
        """Ask for a generator of a job as a file for other programs; asking for the same again gives the same."""
        return fetch(ExportOut, "POST", f"/v1/jobs/{job_id}/exports", json=_body(asked))

    @iteration
    def exports(self, job_id: UUID) -> Stream[ExportOut]:
        """The exports of a job, the newest first."""
        return pages(ExportOut, f"/v1/jobs/{job_id}/exports")

    @call
    def exported(self, export_id: UUID) -> Flow[ExportOut]:
        """State, file and facts of an export."""
        return fetch(ExportOut, "GET", f"/v1/exports/{export_id}")

    @call
    def wait_for_export(
        self, export_id: UUID, *, timeout_s: float | None = None, patience_s: float = 120
    ) -> Flow[ExportOut]:
        """Wait until an export is done, or called off; as `wait_for_generation`."""
        return _over(ExportOut, f"/v1/exports/{export_id}", timeout_s=timeout_s, patience_s=patience_s)

    @call
    def delete_export(self, export_id: UUID) -> Flow[None]:
        """Call an export off that is not over, or remove one that is."""
        return do("DELETE", f"/v1/exports/{export_id}")

    @call
    def download_rendered(
        self,
        file: RenderedFileOut,
        *,
        to: Path,
        progress: Callable[[int], None] = lambda _size_bytes: None,
    ) -> Flow[Path]:
        """Fetch a file of a generation or an export; resumes, and proves the hash.

        Args:
            file: as it is listed; `main_file` gives the one that holds all.
            to: the file to write.
            progress: told the size of what is there.
        """
        return download(file.url, to=to, sha256=file.sha256, service=self.base_url, progress=progress)


def main_file(made: RenderingOut) -> RenderedFileOut:
    """The file that holds all that was asked for.

    Raises:
        NotFound: it is not done.
    """
    found = next((file for file in made.files if file.role == "main"), None)
    if found is None:
        raise NotFound(f"{made.kind} {made.id} ({made.status.value}) has no file.")
    return found


def _body(asked: GenerationIn | ExportIn) -> dict[str, Any]:
    """What is not set, the service chooses; but the kind tells the rest."""
    return {"kind": asked.kind} | asked.model_dump(mode="json", exclude_unset=True)


def _over(model: type[Out], path: str, *, timeout_s: float | None, patience_s: float) -> Flow[Out]:
    begun = seen = time.monotonic()
    pause_s = 0.1
    while True:
        try:
            made = yield from fetch(model, "GET", path)
        except InfrastructureError:
            if time.monotonic() - seen > patience_s:
                raise
        else:
            seen = time.monotonic()
            # Its own error may be of the class that is caught above.
            if made.status is RenderingStatus.FAILED:
                error = made.error or {}
                raise from_code(error.get("code", ""), error.get("message", ""), **error.get("details", {}))
            if made.status.final:
                return made
        if timeout_s is not None and time.monotonic() - begun + pause_s > timeout_s:
            raise TimeoutError(f"{path} was not over within {timeout_s} s; it goes on.")
        yield Pause(pause_s)
        pause_s = min(1.5 * pause_s, 1.0)
