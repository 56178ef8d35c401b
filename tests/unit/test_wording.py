from __future__ import annotations

from typing import Annotated
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.schemas.jobs import JobIn
from core.schemas.wording import place, wording


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: UUID | None = None
    name: str = Field("", pattern=r"^[^\x00-\x1f\x7f]*$")
    kinds: Annotated[list[str], Field(min_length=1)] = ["x"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"id": "cats"}, "is not an id: an id looks like 6f6d2f0a-"),
        ({"nmae": "x"}, "is not known here"),
        ({"name": "a\nb"}, "must be one line"),
        ({"kinds": []}, "has 0 items; at least 1 are needed"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _Asked.model_validate(given)
    [entry] = refused.value.errors()
    assert wording(dict(entry)).startswith(words)


@pytest.mark.parametrize(
    ("config", "where"),
    [("sagan", "config"), ([], "config"), ({"family": "codes", "pair_settings": 3}, "config.pair_settings")],
)
def test_what_is_no_object_is_told_to_be_one(config: object, where: str) -> None:
    with pytest.raises(ValidationError) as refused:
        JobIn.model_validate({"dataset_id": UUID(int=1), "config": config})
    entry = refused.value.errors()[0]
    assert place(dict(entry)) == where
    assert wording(dict(entry)).startswith("must be an object")
