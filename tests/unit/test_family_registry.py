"""The places where the families are listed name the same ones."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import Tag

from core.schemas.families import FAMILIES, Config
from core.training import families
from core.training.families import family_of


def test_the_union_and_the_table_have_the_same_families() -> None:
    union, _discriminator = get_args(Config)
    tagged = {}
    for member in get_args(union):
        kind, tag = get_args(member)
        assert isinstance(tag, Tag)
        tagged[tag.tag] = kind
    assert tagged == FAMILIES


def test_each_has_a_training_and_no_training_is_of_none() -> None:
    assert families._TRAINED_BY.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_its_configuration_is_trained(family: str) -> None:
    config = FAMILIES[family]()
    assert config.family == family
    assert callable(family_of(config).build)
