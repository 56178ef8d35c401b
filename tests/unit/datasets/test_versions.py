"""What a version keeps and adds, judged without a database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.datasets import versions
from core.datasets.contents import Image
from core.datasets.facts import Facts
from core.datasets.ingest import Normalised
from core.datasets.pictures import Picture
from core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.settings import Settings

NOTHING = Normalised([], [])


def there(count: int) -> list[Image]:
    """Pictures that are each called as their own position."""
    return [Image(n, f"{n}", f"sha256-{n}", 32, 32, 100, f"pictures/{n}", Facts()) for n in range(count)]


def test_ten_thousand_pictures_are_removed_by_name_in_no_time() -> None:
    many = there(10_000)
    started = time.monotonic()
    change = versions._change(many, NOTHING, remove=[f"sha256-{n}" for n in range(5, 10_000)], version=1)
    assert time.monotonic() - started < 2
    assert change.kept == many[:5]


def test_a_picture_called_as_its_position_is_meant_once() -> None:
    assert len(versions._change(there(5), NOTHING, remove=["3"], version=1).kept) == 4


def test_a_name_that_is_another_s_position_could_be_either() -> None:
    two = [*there(5), Image(5, "3", "sha256-5", 32, 32, 100, "pictures/5", Facts())]
    with pytest.raises(InvalidRequest, match="could be any of 2 pictures"):
        versions._change(two, NOTHING, remove=["3"], version=1)


def test_a_version_has_a_largest_size(
    limits: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = limits(max_dataset_images=6)
    monkeypatch.setattr(versions, "settings", lambda: chosen)
    new = [Picture(f"new {n}", Path("unused"), 32, 32, 100, f"new {n}") for n in range(2)]
    assert len(versions._change(there(4), Normalised(new, []), remove=[], version=1).images) == 6
    with pytest.raises(InvalidRequest, match="would have 7 pictures; 6 are allowed"):
        versions._change(there(5), Normalised(new, []), remove=[], version=1)
    # What is larger from before may still shrink.
    assert len(versions._change(there(9), NOTHING, remove=["0"], version=1).images) == 8
