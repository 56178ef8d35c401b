"""What is told of every family: a paper, what becomes of labels, and a schema in which every value is described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openapi_schema_validator import OAS31Validator

from core.schemas.families import FAMILIES, described, parse_config

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, part in ({"": schema} | schema.get("$defs", {})).items():
        for name, told in part.get("properties", {}).items():
            yield f"{title}.{name}", told


def test_its_schema_is_json_schema_and_takes_its_defaults(family: str) -> None:
    told = described(family)
    OAS31Validator.check_schema(told.config_schema)
    judge = OAS31Validator(told.config_schema)
    judge.validate(told.defaults)
    assert parse_config(told.defaults) == FAMILIES[family]()
    assert not judge.is_valid(told.defaults | {"no_such_field": 1})
    assert not judge.is_valid(told.defaults | {"batch": "many"})


def test_every_value_is_described(family: str) -> None:
    bare = [name for name, told in properties(described(family).config_schema) if not told.get("description")]
    assert not bare


def test_it_says_what_it_is_where_it_is_from_and_what_becomes_of_labels(family: str) -> None:
    told = described(family)
    assert "source" in vars(FAMILIES[family]), "a paper of its own, none that is inherited"
    assert told.title
    assert told.description.endswith(".")
    assert 2014 <= told.source.year <= 2026
    assert (told.labels == "taken") == ("conditional" in told.config_schema["properties"])
    if told.labels == "taken":
        asked, unasked = (parse_config({"family": family, "conditional": answer}) for answer in (True, False))
        assert (asked.needs_labels, unasked.needs_labels) == (True, False)
