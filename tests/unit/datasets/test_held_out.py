from __future__ import annotations

import hashlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.datasets.files import DatasetFiles, StoredImage
from core.datasets.held_out import split
from core.errors import InvalidRequest


def dataset(count: int, *, salt: str = "") -> DatasetFiles:
    images = tuple(
        StoredImage(f"{salt}{number}", hashlib.sha256(f"{salt}{number}".encode()).hexdigest(), 1)
        for number in range(count)
    )
    return DatasetFiles(UUID(int=1), "the hash of all", images)


def test_without_a_share_all_are_trained_on() -> None:
    files = dataset(4)
    assert split(files, share=0) == (files, None)


@given(st.floats(0.05, 0.5), st.text(max_size=3))
def test_every_picture_is_on_one_side_in_its_order(share: float, salt: str) -> None:
    files = dataset(400, salt=salt)
    training, held_out = split(files, share=share)
    assert held_out is not None
    assert set(training.images) | set(held_out.images) == set(files.images)
    assert training.count + held_out.count == 400
    assert list(training.images) == [image for image in files.images if image in set(training.images)]
    assert abs(held_out.count - 400 * share) < 5 * (400 * share) ** 0.5
    assert len({files.content_hash, training.content_hash, held_out.content_hash}) == 3
    assert len({files.part, training.part, held_out.part}) == 3


def test_the_choice_is_stable() -> None:
    """The same pictures whatever else is in the dataset, and a larger share holds out more beside them."""
    _, of_many = split(dataset(300), share=0.2)
    _, of_fewer = split(dataset(200), share=0.2)
    _, larger = split(dataset(300), share=0.3)
    assert of_many is not None
    assert of_fewer is not None
    assert larger is not None
    assert set(of_fewer.images) == {image for image in of_many.images if int(image.key) < 200}
    assert set(of_many.images) < set(larger.images)


@pytest.mark.parametrize(("count", "share"), [(10, 0.1), (7, 0.5)])
def test_too_few_on_a_side_are_refused(count: int, share: float) -> None:
    with pytest.raises(InvalidRequest, match=f"of the {count} pictures"):
        split(dataset(count), share=share)
