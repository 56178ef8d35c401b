"""What a form of pictures says beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from api.uploads import Received, _Form
from core.datasets.ingest import Upload
from core.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("name", "remove", "labels")


def parsed(fields: list[tuple[str, str]], *, folder: Path) -> Received:
    """The form of these fields, of which two may be `remove`."""
    body = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields
    )
    form = _Form(Received(folder), max_files=2, texts=TEXTS)
    form.parser("x").write(f"{body}--x--\r\n".encode())
    form.require_end()
    return form.received


def test_only_another_picture_to_remove_is_one_too_many(tmp_path: Path) -> None:
    full = [("remove", "1"), ("remove", "2")]
    received = parsed([*full, ("name", "Faces"), ("labels", "csv")], folder=tmp_path)
    assert (received.remove, received.name, received.labels) == (["1", "2"], "Faces", "csv")
    with pytest.raises(InvalidRequest, match="more than 2 pictures to remove"):
        parsed([*full, ("remove", "3")], folder=tmp_path)


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (["labels.csv", "faces.zip"], "faces"),
        (["pets/Labels.CSV", "pets/1.png"], "1"),
        (["labels.csv"], "labels"),
        (["my labels.csv", "1.png"], "my labels"),
    ],
)
def test_a_dataset_is_not_called_by_its_table(names: list[str], title: str, tmp_path: Path) -> None:
    received = Received(tmp_path, files=[Upload(name, tmp_path / name) for name in names])
    assert received.title == title
    received.name = "Given"
    assert received.title == "Given"
