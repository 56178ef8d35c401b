"""Requests about datasets and the uploads that become them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any

from client.flow import Work, do, fetch, listed, pages
from client.operation import call, calls_for_dataset, iterates_datasets, iteration
from client.pictures import DIRECT, Picture, picture
from client.resumable import SMALLEST_BYTES, Resumable, fingerprint
from client.transfer import as_archive, download
from core.schemas.datasets import DatasetOut, ImageOut, LabelSource, Lint
from core.schemas.uploads import UploadOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from uuid import UUID

    import httpx

    from client.flow import Flow, Stream

# Checking a thousand pictures takes the service a while after the last byte.
_LOOKING_S = 600


class Datasets:
    """The part of a client for datasets."""

    @property
    def base_url(self) -> httpx.URL:
        """Where the service is."""
        raise NotImplementedError

    @calls_for_dataset
    def create_dataset(
        self,
        source: Path,
        *,
        name: str,
        labels: LabelSource = "auto",
        progress: Callable[[int, int], None] = lambda _sent_bytes, _size_bytes: None,
    ) -> Flow[DatasetOut]:
        """Upload pictures; the answer names each file that was rejected, and why.

        A large upload goes on after a broken connection; and after an error that ended it, when asked for again.

        Args:
            source: a folder of pictures, or a zip or tar file.
            name: for people.
            labels: where the pictures' classes come from.
            progress: of a large upload, told how many bytes the service has, and of how many.

        Raises:
            InvalidRequest: there is no such file or folder, or no picture in it.
            DatasetUnusable, ArchiveRejected, LabelsUnusable: no dataset can be made of it.
        """
        asked = {"name": name, **_labels(labels)}
        with ExitStack() as opened:
            filename, file = yield Work(lambda: opened.enter_context(as_archive(source, labels=labels)))
            if _is_large(file):
                sent = self._resumable(source, file, filename=filename, labels=labels, progress=progress)
                return (yield from sent.create_dataset(asked))
            files = {"files": (filename, file)}
            return (
                yield from fetch(
                    DatasetOut, "POST", "/v1/datasets", files=files, data=asked, timeout=_LOOKING_S
                )
            )

    @calls_for_dataset
    def create_version(
        self,
        dataset_id: UUID,
        *,
        source: Path | None = None,
        remove: Iterable[str] = (),
        name: str = "",
        labels: LabelSource = "auto",
        progress: Callable[[int, int], None] = lambda _sent_bytes, _size_bytes: None,
    ) -> Flow[DatasetOut]:
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
        # Fields of a form without a file name: the service takes no other kind of body here.
        named = [*([("name", name)] if name else []), *_labels(labels).items()]
        form: list[Any] = [
            (field, (None, value)) for field, value in [*named, *(("remove", which) for which in remove)]
        ]
        with ExitStack() as opened:
            if source is not None:
                archive = yield Work(lambda: opened.enter_context(as_archive(source, labels=labels)))
                filename, file = archive
                if _is_large(file):
                    # Nobody should send a gigabyte for a NotFound.
                    yield from fetch(DatasetOut, "GET", f"/v1/datasets/{dataset_id}")
                    sent = self._resumable(source, file, filename=filename, labels=labels, progress=progress)
                    wanted = {"name": name, "version_of": str(dataset_id), "remove": remove}
                    return (yield from sent.create_dataset(wanted | _labels(labels)))
                form.append(("files", archive))
            path = f"/v1/datasets/{dataset_id}/versions"
            return (yield from fetch(DatasetOut, "POST", path, files=form, timeout=_LOOKING_S))

    @iterates_datasets
    def datasets(self, *, series_id: UUID | None = None) -> Stream[DatasetOut]:
        """The newest version of each dataset, or all versions of a series; the newest first."""
        return pages(DatasetOut, "/v1/datasets", series_id=series_id)

    @calls_for_dataset
    def dataset(self, dataset_id: UUID) -> Flow[DatasetOut]:
        """One version of a dataset."""
        return fetch(DatasetOut, "GET", f"/v1/datasets/{dataset_id}")

    @iteration
    def dataset_images(self, dataset_id: UUID) -> Stream[ImageOut]:
        """A dataset's pictures in order."""
        return pages(ImageOut, f"/v1/datasets/{dataset_id}/images")

    @call
    def download_image(self, dataset_id: UUID, image: ImageOut, *, to: Path) -> Flow[Path]:
        """Fetch a picture as it is trained on (PNG); resumes, and proves the hash."""
        path = f"/v1/datasets/{dataset_id}/images/{image.position}/file"
        return download(path, to=to, sha256=image.sha256, service=self.base_url)

    @call
    def thumbnail(self, dataset_id: UUID, position: int) -> Flow[Picture]:
        """A picture within 128 x 128 (WebP)."""
        return picture(f"/v1/datasets/{dataset_id}/images/{position}/thumbnail")

    @call
    def preview(self, dataset_id: UUID) -> Flow[Picture]:
        """A contact sheet of a dataset's first 64 pictures (JPEG)."""
        return picture(f"/v1/datasets/{dataset_id}/preview", DIRECT)

    @call
    def lint(self, dataset_id: UUID) -> Flow[Lint]:
        """What of a dataset's pictures deserves a look before training."""
        return fetch(Lint, "GET", f"/v1/datasets/{dataset_id}/lint")

    @call
    def delete_dataset(self, dataset_id: UUID) -> Flow[None]:
        """Delete one version of a dataset; Conflict while a live job needs it."""
        return do("DELETE", f"/v1/datasets/{dataset_id}")

    @call
    def uploads(self) -> Flow[list[UploadOut]]:
        """The uploads in parts that are open, and those that became datasets."""
        return listed(UploadOut, "/v1/uploads")

    @call
    def delete_upload(self, upload_id: UUID) -> Flow[None]:
        """Give up an upload in parts."""
        return do("DELETE", f"/v1/uploads/{upload_id}")

    def _resumable(
        self,
        source: Path,
        file: IO[bytes],
        *,
        filename: str,
        labels: LabelSource,
        progress: Callable[[int, int], None],
    ) -> Resumable:
        mark = fingerprint(source, server=str(self.base_url).rstrip("/"), labels=labels)
        return Resumable(file, filename=filename, mark=mark, from_folder=source.is_dir(), progress=progress)


def _labels(labels: LabelSource) -> dict[str, str]:
    """The field of a form or a body; without the default an older service takes the request too."""
    return {} if labels == "auto" else {"labels": labels}


def _is_large(file: IO[bytes]) -> bool:
    """Whether it is worth to be sent in parts; the file is at its beginning afterwards."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size_bytes >= SMALLEST_BYTES
