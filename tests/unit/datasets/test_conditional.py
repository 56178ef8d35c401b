"""What a training by class asks of a dataset, and of the part that is left to train on."""

from __future__ import annotations

from uuid import UUID

import pytest

from core.datasets.conditional import require_labels
from core.datasets.files import DatasetFiles, StoredImage
from core.errors import InvalidRequest
from core.schemas.sagan import SaganConfig


def dataset(labels: list[str | None]) -> DatasetFiles:
    """Pictures of which a share of 0.5 keeps every second, the first of them."""
    images = tuple(
        StoredImage(str(at), ("8" if at % 2 else "0") * 64, 1, label) for at, label in enumerate(labels)
    )
    return DatasetFiles(
        UUID(int=1), "", images, classes=tuple(sorted({label for label in labels if label is not None}))
    )


def config(share: float, *, conditional: bool = True) -> SaganConfig:
    return SaganConfig(resolution=64, conditional=conditional, held_out=share)


def test_every_class_needs_a_picture_to_train_on() -> None:
    files = dataset(["rare", *["cats"] * 5, "rare", *["cats"] * 4])
    require_labels(files, config=config(0))
    require_labels(files, config=config(0.5, conditional=False))
    with pytest.raises(
        InvalidRequest, match=r"held_out 0\.5 leaves no picture of 'rare' to train on"
    ) as raised:
        require_labels(files, config=config(0.5))
    assert raised.value.details == {"held_out": 0.5, "classes": 1}
    require_labels(dataset(["rare", "rare", *["cats"] * 9]), config=config(0.5))


def test_of_many_classes_some_are_named() -> None:
    files = dataset([name for at in range(8) for name in (f"rare {at}", "cats")])
    with pytest.raises(InvalidRequest, match=r"'rare 4' and of 3 more to train on"):
        require_labels(files, config=config(0.5))
