"""What counts as a breaking change of the API, and what does not."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract import compare

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[dict[str, Any]], object]

BODY = {
    "type": "object",
    "required": ["dataset_id"],
    "properties": {
        "dataset_id": {"type": "string", "format": "uuid"},
        "name": {"type": "string", "maxLength": 200},
        "batch": {"type": "integer", "minimum": 2},
        "kind": {"type": "string", "enum": ["crop", "pad"]},
        "limit": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "additionalProperties": False,
}
OUT = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["queued", "running"], "type": "string"},
        "progress": {"type": "number"},
    },
}
OLD: dict[str, Any] = {
    "paths": {
        "/jobs": {
            "post": {
                "operationId": "create_job",
                "parameters": [
                    {"in": "query", "name": "dry", "schema": {"type": "boolean"}},
                    {"in": "query", "name": "size", "schema": {"type": "integer", "maximum": 200}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/In"}}}},
                "responses": {
                    "201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Out"}}}},
                    "409": {},
                },
            }
        }
    },
    "components": {"schemas": {"In": BODY, "Out": OUT}},
}  # fmt: skip


def job(document: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = document["paths"]["/jobs"]["post"]
    return operation


def sent(document: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = document["components"]["schemas"]["In"]
    return schema


def said(document: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = document["components"]["schemas"]["Out"]
    return schema


def changed(change: Change) -> dict[str, Any]:
    document = copy.deepcopy(OLD)
    change(document)
    return document


BREAKING: dict[str, tuple[Change, str]] = {
    "path": (lambda d: d["paths"].pop("/jobs"), "it is gone"),
    "operation": (lambda d: d["paths"]["/jobs"].pop("post"), "it is gone"),
    "operationId": (lambda d: job(d).update(operationId="submit"), "operationId: is now submit, was create_job"),
    "a key": (lambda d: job(d).update(security=[{"api_key": []}]), "security: a key is needed now"),
    "parameter gone": (lambda d: job(d)["parameters"].pop(0), "query dry: it is gone"),
    "parameter needed": (lambda d: job(d)["parameters"][0].update(required=True), "query dry: it is needed now"),
    "parameter new": (
        lambda d: job(d)["parameters"].append({"in": "header", "name": "X", "required": True, "schema": {}}),
        "header X: it is new and needed",
    ),
    "range": (
        lambda d: job(d)["parameters"][1]["schema"].update(maximum=100), "query size: maximum is now 100, was 200"
    ),
    "body needed": (lambda d: job(d)["requestBody"].update(required=True), "body: it is needed now"),
    "media type": (
        lambda d: job(d)["requestBody"].update(content={"text/csv": {}}),
        "body: application/json is not taken any more",
    ),
    "field gone": (lambda d: sent(d)["properties"].pop("name"), "body.name: it is gone"),
    "field needed": (lambda d: sent(d)["required"].append("name"), "body.name: it is needed now"),
    "field new": (
        lambda d: sent(d).update(
            required=["dataset_id", "size"], properties=sent(d)["properties"] | {"size": {"type": "integer"}}
        ),
        "body.size: it is new and needed",
    ),
    "type": (lambda d: sent(d)["properties"]["name"].update(type="integer"), "body.name: string is not taken any more"),
    "null": (
        lambda d: sent(d)["properties"].update(limit={"type": "number"}), "body.limit: null is not taken any more"
    ),
    "narrower number": (
        lambda d: sent(d)["properties"].update(limit={"type": ["integer", "null"]}),
        "body.limit: number is not taken any more",
    ),
    "enum": (
        lambda d: sent(d)["properties"]["kind"].update(enum=["crop"]), "body.kind: 'pad' are not taken any more"
    ),
    "enum new": (
        lambda d: sent(d)["properties"]["name"].update(enum=["a"]), "body.name: only 'a' are taken now"
    ),
    "minimum": (
        lambda d: sent(d)["properties"]["batch"].update(minimum=4), "body.batch: minimum is now 4, was 2"
    ),
    "length": (
        lambda d: sent(d)["properties"]["tags"].update(maxItems=3), "body.tags: maxItems is now 3, was none"
    ),
    "pattern": (
        lambda d: sent(d)["properties"]["name"].update(pattern="^a"), "body.name: pattern is now ^a, was none"
    ),
    "items": (
        lambda d: sent(d)["properties"]["tags"].update(items={"type": "integer"}),
        "body.tags[]: string is not taken any more",
    ),
    "status": (lambda d: job(d)["responses"].pop("201"), "201: it is not answered any more"),
    "what is sent": (
        lambda d: job(d)["responses"]["201"].update(content={"text/csv": {}}),
        "201: application/json is not sent any more",
    ),
    "answer's field": (lambda d: said(d)["properties"].pop("progress"), "201.progress: it is gone"),
    "answer's promise": (lambda d: said(d)["required"].remove("id"), "201.id: it may be missing now"),
    "answer's type": (
        lambda d: said(d)["properties"]["id"].update(type=["string", "null"]), "201.id: it may be null now"
    ),
    "answer's enum": (
        lambda d: said(d)["properties"]["status"].pop("enum"), "201.status: it may be any value now"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_found(name: str) -> None:
    change, sentence = BREAKING[name]
    found = compare(OLD, changed(change))
    assert found.breaking == [f"POST /jobs: {sentence}"]


HARMLESS: dict[str, Change] = {
    "nothing": lambda _: None,
    "path": lambda d: d["paths"].update({"/new": {"get": {"operationId": "x", "responses": {}}}}),
    "parameter": lambda d: job(d)["parameters"].append({"in": "query", "name": "new", "schema": {}}),
    "field": lambda d: sent(d)["properties"].update(new={"type": "string"}),
    "field not needed any more": lambda d: sent(d).update(required=[]),
    "other fields": lambda d: sent(d).pop("additionalProperties"),
    "wider range": lambda d: sent(d)["properties"]["batch"].update(minimum=1),
    "wider enum": lambda d: sent(d)["properties"]["kind"].update(enum=["crop", "pad", "squash"]),
    "wider number": lambda d: sent(d)["properties"]["batch"].update(type="number"),
    "null too": lambda d: sent(d)["properties"]["name"].update(type=["string", "null"]),
    "no form": lambda d: sent(d)["properties"]["dataset_id"].pop("format"),
    "answer's field": lambda d: said(d)["properties"].update(new={"type": "string"}),
    "answer's promise": lambda d: said(d)["required"].append("progress"),
    "answer's narrower number": lambda d: said(d)["properties"]["progress"].update(type="integer"),
    "a failure": lambda d: job(d)["responses"].pop("409"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_an_addition_breaks_nobody(name: str) -> None:
    found = compare(OLD, changed(HARMLESS[name]))
    assert (found.breaking, found.warnings) == ([], [])


def test_another_value_of_an_answer_is_a_warning() -> None:
    found = compare(OLD, changed(lambda d: said(d)["properties"]["status"]["enum"].append("paused")))
    assert (found.breaking, found.warnings) == ([], ["POST /jobs: 201.status: it may also be 'paused'"])
