from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from client.arguments import configuration
from client.cli import app
from client.commands.models import fields_of, kind_of
from core.errors import InvalidRequest
from core.schemas.codes import CodesConfig
from core.schemas.families import FAMILIES, described
from core.schemas.sagan import SaganConfig


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_families_are_listed_with_what_becomes_of_labels() -> None:
    lines = run().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(FAMILIES)
    [sagan] = [line for line in lines if line.split()[0] == "sagan"]
    for part in ("SAGAN", "taken", "1805.08318 (2018)"):
        assert part in sagan


def test_a_familys_values_are_told_with_type_default_and_description() -> None:
    text = run("sagan")
    assert "arXiv 1805.08318" in text
    [line] = [line for line in text.splitlines() if line.startswith("attention_side ")]
    assert line.split()[1:7] == ["16", "|", "32", "|", "64", "32"]
    assert "Side of the feature maps" in line


@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_that_is_told_can_be_set_to_its_default(family: str) -> None:
    fields = fields_of(described(family))
    named = {field.name.partition(".")[0] for field in fields}
    assert named == set(FAMILIES[family].model_fields)
    settings = [f"{field.name}={field.default}" for field in fields]
    assert configuration(settings, family=family) == FAMILIES[family]()


def test_defaults_that_depend_on_others_are_marked() -> None:
    fields = {field.name: field for field in fields_of(described("sagan"))}
    assert (fields["width"].default, fields["width"].follows) == ("0.5", True)
    assert (fields["conditional"].default, fields["conditional"].follows) == ("false", False)
    assert (fields["family"].kind, fields["family"].follows) == ('"sagan"', False)
    assert fields["evaluation.generated"].kind == "integer, at least 16, at most 50000"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.1}, "number, above 0, at most 0.1"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"enum": ["a", "b"], "type": "string"}, "a | b"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of a | b"),
        ({"const": False, "type": "boolean"}, "false"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object"),
    ],
)
def test_types_are_told_in_words(told: dict[str, object], words: str) -> None:
    assert kind_of(told) == words


def test_as_json_it_is_what_the_service_tells() -> None:
    everything = json.loads(run("--json"))
    assert [model["family"] for model in everything] == list(FAMILIES)
    one = json.loads(run("codes", "--json"))
    assert one == described("codes").model_dump(mode="json")


def test_an_unknown_family_is_named_beside_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["models", "sagans"])
    assert isinstance(result.exception, InvalidRequest)
    assert result.exception.message.startswith(
        "There is no family of models 'sagans': choose one of slaegan, "
    )


def test_settings_are_those_of_the_family_that_is_asked_for() -> None:
    config = configuration(["conditional=true", "attention_side=16"], family="sagan")
    assert config == SaganConfig(conditional=True, attention_side=16)
    with pytest.raises(InvalidRequest, match=r"slaegan models sagan.*clip: is not known here"):
        configuration(["clip=0.1"], family="sagan")
    with pytest.raises(InvalidRequest, match=r"slaegan models slaegan.*attention_side: is not known here"):
        configuration(["attention_side=16"])


@pytest.mark.parametrize("settings", [["family=nope"], ['family=["sagan"]'], ["family=1"]])
def test_a_family_that_is_none_is_refused_however_it_is_given(settings: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="There is no family of models"):
        configuration(settings)
    with pytest.raises(InvalidRequest, match="There is no family of models 'nope'"):
        configuration([], family="nope")


def test_train_refuses_an_unknown_family_before_anything_is_sent() -> None:
    result = CliRunner().invoke(
        app,
        ["train", ".", "--family", "nope"],
        env={"SLAEGAN_URL": "http://127.0.0.1:1", "SLAEGAN_API_KEY": "x"},
    )
    assert isinstance(result.exception, InvalidRequest)
    assert "choose one of slaegan" in result.exception.message


def test_weights_to_begin_from_bring_their_family_and_shape() -> None:
    shape = {"family": "sagan", "resolution": 128, "width": 0.25, "conditional": True, "attention_side": 64}
    config = configuration(["generator_rate=0.001"], shape)
    assert config == SaganConfig.model_validate(shape | {"generator_rate": 0.001})
    assert configuration([], shape, family="sagan") == SaganConfig.model_validate(shape)
    configuration(["attention_side=32"], shape)
    assert shape["attention_side"] == 64
    with pytest.raises(InvalidRequest, match="of family 'sagan', which fit no 'slaegan'"):
        configuration([], shape, family="slaegan")


def test_a_setting_of_the_pair_changes_no_job_that_is_begun_from() -> None:
    shape = {"family": "codes", "pair": "dcgan", "pair_settings": {"width": 16}}
    config = configuration(["pair_settings.learning_rate=0.001"], shape)
    assert config == CodesConfig(pair="dcgan", pair_settings={"width": 16, "learning_rate": 0.001})
    assert shape["pair_settings"] == {"width": 16}
