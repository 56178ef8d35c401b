"""What a rendering needs on this machine: the generator's file, the training pictures, the picture to come near to."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.datasets.archives import Found
from core.datasets.decoder import Decoder
from core.datasets.files import DatasetFiles, fetch_images
from core.datasets.held_out import split
from core.datasets.pictures import normalise
from core.datasets.tables import Dataset, StoredPicture
from core.errors import DataFailed, InfrastructureError
from core.files import atomic_path, sha256_of
from core.schemas.datasets import Rejection
from core.schemas.families import parse_config
from core.schemas.generations import PicturesIn, Projection, Rendering
from core.schemas.ticks import RenderSpec
from core.settings import settings
from core.storage import store
from worker.supervisor import write

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from core.renderings.service import Claim
    from core.schemas.training import TrainingConfig

# Of generators that were asked last, beside the work folder: asking again fetches nothing.
KEPT_GENERATORS = 8
_REQUEST: TypeAdapter[Rendering] = TypeAdapter(Rendering)


def specify(claim: Claim, *, work_dir: Path) -> RenderSpec:
    """Fetch what a rendering needs, and say what is to be done with it.

    Args:
        claim: held.
        work_dir: empty, of this request alone; the folder that it lies in stays between requests.

    Raises:
        DataFailed: the generator, or pictures that are needed, are deleted; or the picture is none.
        InfrastructureError: the store cannot be reached, or holds something else.
    """
    config = parse_config(claim.config)
    asked = claim.request
    if asked["kind"] == "projection":
        asked = {name: value for name, value in asked.items() if name in Projection.model_fields}
    request = _REQUEST.validate_python(asked)
    cache_dir = settings().data_dir.absolute() / "cache"
    files, positions = (
        training_pictures(claim.dataset_id, config=config) if _wants_nearest(request) else (None, None)
    )
    dataset = write(Session.get_one, Dataset, claim.dataset_id)
    return RenderSpec(
        generator=_generator(claim, folder=work_dir.parent / "generators"),
        config=config,
        request=request,
        work_dir=work_dir / "files",
        cache_dir=cache_dir,
        weights_dir=settings().weights_dir.absolute(),
        device="cpu" if settings().device == "cpu" else "cuda:0",
        images_dir=None if files is None else fetch_images(files, store(), cache_dir=cache_dir),
        dataset_hash=None if files is None else files.learned_hash(with_labels=config.needs_labels),
        positions=positions,
        picture=_picture(claim, folder=work_dir / "picture") if isinstance(request, Projection) else None,
        classes=tuple(one["name"] for one in dataset.classes or []) if config.needs_labels else (),
    )


def _wants_nearest(request: Rendering) -> bool:
    return isinstance(request, PicturesIn) and request.nearest


def training_pictures(dataset_id: UUID, *, config: TrainingConfig) -> tuple[DatasetFiles, tuple[int, ...]]:
    """The pictures that a training had of a dataset, and the position in it of each.

    Raises:
        DataFailed: they are deleted.
    """
    every = write(DatasetFiles.of, dataset_id)
    if not every.images:
        raise DataFailed(
            "The pictures of the training are deleted: none can be the nearest. Ask without nearest."
        )
    training, _ = split(every, share=config.held_out)
    position_of = {image.sha256: position for position, image in enumerate(every.images)}
    return training, tuple(position_of[image.sha256] for image in training.images)


def _generator(claim: Claim, *, folder: Path) -> Path:
    """The generator's file under a name that is the same for every request, so that the child knows it again."""
    path = folder / f"{claim.generator_sha256}.safetensors"
    if not path.is_file():
        if claim.generator_key is None:
            raise DataFailed("The generator is deleted: ask for another one of the job.")
        with atomic_path(path) as temporary:
            store().fetch(claim.generator_key, temporary)
            if sha256_of(temporary) != claim.generator_sha256:
                raise InfrastructureError(
                    f"The stored generator {claim.generator_key} is damaged: its sha256 differs."
                )
    # When it was used last; the child would take one that was changed for another.
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    by_use = sorted(folder.iterdir(), key=lambda kept: kept.stat().st_atime_ns)
    for unused in by_use[:-KEPT_GENERATORS]:
        unused.unlink()
    return path


def _picture(claim: Claim, *, folder: Path) -> Path:
    """The picture to come near to, as a PNG; one that was sent is hostile until it is decoded."""
    folder.mkdir()
    if claim.picture is not None:
        return _decoded(claim.picture, folder=folder)
    sha256 = claim.request["image_sha256"]
    which = (StoredPicture.tenant_id == claim.tenant_id, StoredPicture.sha256 == sha256)
    key = write(lambda session: session.scalar(select(StoredPicture.storage_key).where(*which)))
    if key is None:
        raise DataFailed(f"The picture {sha256} is deleted: ask with another one.")
    target = folder / "picture.png"
    store().fetch(key, target)
    if sha256_of(target) != sha256:
        raise DataFailed(f"The stored picture {key} is damaged: its sha256 is not {sha256}. Upload it again.")
    return target


def _decoded(picture: bytes, *, folder: Path) -> Path:
    sent, target = folder / "sent", folder / "picture.png"
    sent.write_bytes(picture)
    with Decoder(folder, limits=settings()) as decoder:
        found = normalise(Found("picture", sent), target=target, decoder=decoder, limits=settings())
    sent.unlink()
    if isinstance(found, Rejection):
        raise DataFailed(
            f"The picture cannot be used: {found.reason} Ask with another one.", rejected=found.code
        )
    return target
