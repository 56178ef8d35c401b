"""The OpenAPI document: valid, with an example of everything, each example true; and what it was stays true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.document import written
from api.main import create_app
from core.errors import JobError, LeaseLost, StackFailed, every_error
from core.settings import settings
from tests.contract import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[3] / "docs"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
NEVER_TOLD = {StackFailed, LeaseLost}  # one before there is a service to say it, one between workers
BINARY = (
    "image/",
    "video/",
    "application/octet-stream",
    "application/zip",
)  # shown by their description alone


@pytest.fixture(scope="module")
def document() -> Iterator[dict[str, Any]]:
    """As any deployment serves it; no server of these addresses is asked."""
    urls = {
        "DATABASE_URL": "postgresql://none/none",
        "BROKER_URL": "redis://none",
        "STORAGE_URL": "file:///none",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in urls.items():
            environment.setenv(name, value)
        settings.cache_clear()
        yield create_app().openapi()
    settings.cache_clear()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS, (method, path)
            yield f"{method.upper()} {path}", operation


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()
    assert document["servers"]
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert document["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    names = []
    for where, operation in operations(document):
        assert operation["summary"], where
        assert operation.get("description"), f"{where}: give the route a docstring"
        for tag in operation["tags"]:
            assert tag in described, f"{where}: say in TAGS of api/openapi.py what {tag!r} holds"
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (
                f"{where}: describe {parameter['name']!r} in the route or in api/examples.py"
            )
        names.append(operation["operationId"])
    assert len(set(names)) == len(names), "an operationId is there twice: name the routes' functions apart"


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body that goes either way: whose, its media type, its description."""
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", media_type, media
    for status, response in operation["responses"].items():
        for media_type, media in response.get("content", {}).items():
            yield status, media_type, media


def failures(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The bodies of the answers that are errors, by status; what they refer to looked up."""
    for status, response in operation["responses"].items():
        if status >= "400":
            name = response.get("$ref", "").rpartition("/")[2]
            yield status, (document["components"]["responses"][name] if name else response)["content"]


def values(document: dict[str, Any], described: dict[str, Any]) -> list[Any]:
    """The examples of a parameter or a body, what they refer to looked up."""
    found = [described["example"]] if "example" in described else []
    for example in described.get("examples", {}).values():
        name = example.get("$ref", "").rpartition("/")[2]
        found.append((document["components"]["examples"][name] if name else example)["value"])
    return found


def wrong(document: dict[str, Any], described: dict[str, Any]) -> list[str]:
    """What an example says that its schema forbids."""
    schema = {**described.get("schema", {}), "components": document["components"]}
    validator = OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER)
    return [
        f"{error.json_path}: {error.message}"
        for value in values(document, described)
        for error in validator.iter_errors(value)
    ]


def test_everything_has_an_example_and_the_example_is_true(document: dict[str, Any]) -> None:
    missing, false = [], {}
    for where, operation in operations(document):
        for parameter in operation.get("parameters", []):
            name = f"{where}: parameter {parameter['name']}"
            if not values(document, parameter):
                missing.append(name)
            false[name] = wrong(document, parameter)
        for whose, media_type, media in bodies(operation):
            name = f"{where}: {whose} {media_type}"
            if not values(document, media) and not media_type.startswith(BINARY):
                missing.append(name)
            false[name] = wrong(document, media)
    assert missing == [], "these have no example: add them to api/story.py or api/examples.py"
    assert {name: faults for name, faults in false.items() if faults} == {}


def test_every_header_of_an_answer_is_described(document: dict[str, Any]) -> None:
    told = document["components"]["headers"]
    used = set()
    for where, operation in operations(document):
        for status, response in operation["responses"].items():
            names = response.get("headers", {}).keys()
            assert names <= told.keys(), where
            assert status != "429" or "Retry-After" in names, where
            used |= names
    assert used == told.keys()
    for name, header in told.items():
        assert header["description"], name
        assert values(document, header), name
        assert wrong(document, header) == [], name


def test_an_example_that_is_false_is_found(document: dict[str, Any]) -> None:
    """So that the test above means something."""
    media = document["paths"]["/v1/jobs/{job_id}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert wrong(document, media) == []
    assert wrong(document, {**media, "example": {**media["example"], "status": "asleep", "id": 7}})
    assert wrong(document, {**media, "example": {**media["example"], "created_at": "yesterday"}})


def test_every_failure_shows_its_problem(document: dict[str, Any]) -> None:
    known = every_error()
    for where, operation in operations(document):
        told = dict(failures(document, operation))
        assert {"408", "414", "421", "431", "500", "503"} <= told.keys(), where
        for status, content in told.items():
            assert content.keys() == {"application/problem+json"}, (where, status)
            shown = values(document, content["application/problem+json"])
            assert shown, (where, status)
            for problem in shown:
                assert problem["status"] == int(status) == known[problem["code"]].status, (where, status)
                assert problem["type"] == f"urn:slaegan:error:{problem['code']}"


def test_the_committed_document_is_the_service_s(document: dict[str, Any]) -> None:
    if (DOCS / "openapi.json").read_text(encoding="utf-8") != written(document):
        pytest.fail(
            "docs/openapi.json is not what the service says any more: run make openapi, and commit it"
        )


def test_clients_of_the_last_release_go_on(document: dict[str, Any]) -> None:
    released = json.loads((DOCS / "openapi-released.json").read_text(encoding="utf-8"))
    present = (
        (DOCS / "api-changes.md").read_text(encoding="utf-8").split("## Unreleased")[1].split("\n## ")[0]
    )
    declared = set(re.findall(r"^- (.+)$", present, re.MULTILINE))
    breaking = set(compare(released, json.loads(written(document))).breaking)
    undeclared = "\n".join(f"- {line}" for line in sorted(breaking - declared))
    assert not undeclared, (
        f"this breaks clients: take it back, or declare it in docs/api-changes.md:\n{undeclared}"
    )
    assert declared - breaking == set(), "docs/api-changes.md declares what has not changed"


def test_the_document_breaks_none_of_its_own_clients(document: dict[str, Any]) -> None:
    """So that whatever the comparison finds is a difference."""
    found = compare(document, document)
    assert (found.breaking, found.warnings) == ([], [])


def test_every_operation_is_on_the_page(document: dict[str, Any]) -> None:
    """docs/api.md names each route in its table, `GET /v1/jobs/{id}/logs, /logs/stream` being two."""
    table = (DOCS / "api.md").read_text(encoding="utf-8").split("## Routes")[1].split("\n**Lists**")[0]
    rows = re.findall(r"^\| ([A-Z].*?) \|", table, re.MULTILINE)
    missing = [where for where, _ in operations(document) if not any(names(row, where) for row in rows)]
    assert missing == [], "these routes have no row in the table of docs/api.md"


def names(row: str, operation: str) -> bool:
    """Whether a row's first column names an operation: its method, and its path or the end of one that begins alike."""
    method, path = re.sub(r"{\w*_id}", "{id}", operation).split(" ")
    methods = re.findall(r"\b[A-Z]+\b", row)
    paths = [re.split(r"[?]", part)[0] for part in re.findall(r"/[^\s,]+", row)]
    beginnings = tuple("/".join(whole.split("/")[:3]) for whole in paths if whole.startswith("/v1/"))
    alike = path.startswith(beginnings) and any(path.endswith(end) for end in paths[1:])
    return method in methods and (path in paths or alike)


def test_every_code_is_on_the_page() -> None:
    """The tables of errors are the tree: each code once, under its status, and no other."""
    section = (DOCS / "api.md").read_text(encoding="utf-8").split("\n## Errors")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d{3}|job) \| (.*?) \|", section, re.MULTILINE)
    told = [(code, status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)]
    tree = {
        code: "job" if issubclass(error, JobError) else str(error.status)
        for code, error in every_error().items()
        if error not in NEVER_TOLD
    }
    assert dict(told) == tree, "docs/api.md, Errors: the tables and core/errors.py differ"
    assert len(told) == len(tree), "docs/api.md, Errors: a code is there twice"
