"""What a training by class asks of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.datasets.held_out import split
from core.errors import InvalidRequest

if TYPE_CHECKING:
    from core.datasets.files import DatasetFiles
    from core.schemas.training import TrainingConfig

MIN_CLASSES = 2
_NAMED_CLASSES = 5


def require_labels(files: DatasetFiles, *, config: TrainingConfig) -> None:
    """See that the pictures of a dataset have the classes that a configuration needs.

    Raises:
        InvalidRequest: they have none, some lack one, all are of one class, or `held_out` keeps all of a class from the
            training, or as of `held_out.split`.
    """
    if not config.needs_labels:
        return
    begin = f"This configuration of {config.family!r} trains by class, and dataset {files.dataset_id} "
    if not files.classes:
        raise InvalidRequest(
            f"{begin}has no classes: upload its pictures with a folder for each class or a labels.csv, or choose a "
            "configuration that does without."
        )
    if files.unlabelled:
        raise InvalidRequest(
            f"{begin}has {files.unlabelled} pictures without a class: its lint names them. Make a version without "
            "them, or send them again with their classes.",
            unlabelled=files.unlabelled,
        )
    if len(files.classes) < MIN_CLASSES:
        raise InvalidRequest(
            f"{begin}has one class, {files.classes[0]!r}: at least {MIN_CLASSES} are needed.", classes=1
        )
    _require_in_training(files, share=config.held_out)


def _require_in_training(files: DatasetFiles, *, share: float) -> None:
    training, _ = split(files, share=share)
    shown = {image.label for image in training.images}
    if missing := [name for name in files.classes if name not in shown]:
        named = ", ".join(repr(name) for name in missing[:_NAMED_CLASSES])
        more = f" and of {len(missing) - _NAMED_CLASSES} more" if len(missing) > _NAMED_CLASSES else ""
        raise InvalidRequest(
            f"held_out {share} leaves no picture of {named}{more} to train on: choose a smaller share, or add "
            "pictures of these classes.",
            held_out=share, classes=len(missing),
        )  # fmt: skip
