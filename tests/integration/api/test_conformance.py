"""Every operation of the OpenAPI document, asked with data made from the document: the service does what it says.

`make fuzz-api` asks longer, and otherwise each time.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import defaultdict
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from api import examples
from api import story as document_story
from core import db
from tests.integration.api import story, world
from tests.integration.api.conftest import new_person, running_api
from tests.picture_files import pngs, zipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemathesis import Case, Response
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

DOCUMENT = (
    Path(__file__).parents[3] / "docs" / "openapi.json"
)  # that it is the service's own, test_document.py says
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))  # an operation and phase; 0: few, and the same each time
REFUSED = (400, 401, 403, 404, 405, 406, 409, 415, 422, 428, 429)
CONFIG = {
    "generation": {
        "deterministic": not EXAMPLES,
        "max-examples": EXAMPLES or 8,
        "database": "none",
        "no-shrink": not EXAMPLES,
        "with-security-parameters": False,  # Each call has the owner's key; calls without one are a check's.
    },
    "phases": {"stateful": {"enabled": False}},
    "checks": {
        # How tus and the limits of a head say that a request is wrong.
        "negative_data_rejection": {"expected-statuses": [*REFUSED, 412, 413, 414, 431, 460, "5xx"]},
        # Whether a thing is there comes before what else may be wrong.
        "missing_required_header": {"expected-statuses": [*REFUSED, 412]},
        # A value may be right and the service's state, or its limits, against it.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", 304, 307, 401, 403, 404, 409, 413, 423, 429, 460, "5xx"]
        },
    },
}
PICTURES = zipped(pngs(4))
OF_EXAMPLES = [str(value) for value in vars(document_story).values() if isinstance(value, UUID)]
# Of the cases of POST /v1/jobs, whose configuration has most of all boundaries, one in so many.
SHARE_OF_JOBS = 1 if EXAMPLES else 4


@pytest.fixture(scope="module")
def api(module_database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service that nobody is too fast for."""
    urls = {"database_url": module_database_url, "broker_url": broker_url}
    limits = {"requests_per_minute": 10**8, "max_open_uploads": 10**6, "max_upload_bytes": 2**24}
    with running_api(tmp_path_factory.mktemp("api"), **limits, **urls) as api:
        yield api


@schemathesis.serializer("application/offset+octet-stream")
def _as_bytes(_context: object, value: Any) -> bytes:
    """The body of a part of an upload."""
    return value if isinstance(value, bytes) else str(value).encode()


class Things:
    """The owner's things by kind: in place of an example's always, and of what is made up in half of the cases."""

    def __init__(self, owner: Person, session: Session) -> None:
        self._ids = world.one_of_everything(owner, session)
        succeeded, failed = (job["id"] for job in world.ended_jobs(owner, session))
        self._jobs = {"extend_job": succeeded, "retry_job": failed}
        # A stream of a job that goes on would not end; so it is one that nothing else is asked of.
        over, _ = (job["id"] for job in world.ended_jobs(owner, session))
        complete = world.begun_upload(owner, PICTURES)
        self._series = story.upload(owner)
        self._makers: dict[tuple[str, str], Callable[[], str]] = {
            ("dataset_id", "delete_dataset"): lambda: story.upload(owner),
            ("dataset_id", "create_version"): self._newest,
            ("job_id", "cancel_job"): lambda: str(story.submit(owner)["id"]),
            ("job_id", "extend_job"): lambda: succeeded,
            ("job_id", "retry_job"): lambda: failed,
            ("job_id", "stream_events"): lambda: over,
            ("job_id", "stream_logs"): lambda: over,
            ("evaluation_id", "cancel_evaluation"): self._backtracking,
            ("upload_id", "append"): lambda: world.begun_upload(owner, b"", length=10_000),
            ("upload_id", "terminate"): lambda: world.begun_upload(owner, b"", length=10_000),
            ("upload_id", "make_dataset"): lambda: complete,
            ("key_id", "revoke_key"): lambda: world.new_key(owner),
            ("key_id", "rotate_key"): lambda: world.new_key(owner),
        }
        self._compared = [succeeded, failed]
        self._owner = owner
        self._asked = count()
        self._waiting = ""

    def place(self, case: Case) -> None:
        """Put ids that exist where ids stand, and pictures where an upload has any files."""
        if (case.headers or {}).get("Idempotency-Key") == examples.PARAMETERS["Idempotency-Key"][1]:
            case.headers["Idempotency-Key"] = str(uuid4())  # else all that follow would be told of the first
        parts = (case.path_parameters, case.query, case.body)
        remove = case.body.get("remove", []) if isinstance(case.body, dict) else []
        if not (isinstance(remove, list) and all(isinstance(one, str) for one in remove)):
            return  # In a form it would be as good as a list of texts.
        told = repr(parts)
        if zlib.crc32(told.encode(errors="replace")) % 2 and not any(id_ in told for id_ in OF_EXAMPLES):
            return
        for part in parts:
            for name, value in list(part.items()) if isinstance(part, dict) else []:
                part[name] = self._real(name, value, _name(case))
        offset = str((case.headers or {}).get("Upload-Offset"))
        if _name(case) == "append" and offset.isdecimal() and int(offset) < 2**63:
            case.headers["Upload-Offset"] = "0"
            if re.fullmatch(r"sha(1|256) [\w+/]+=*", str(case.headers.get("Upload-Checksum"))):
                del case.headers["Upload-Checksum"]  # It is that of other bytes.

    def clear(self, response: Response, operation: str) -> None:
        """A tenant has so many live keys at most."""
        if operation in {"create_key", "rotate_key"} and response.status_code == HTTPStatus.CREATED:
            assert (
                self._owner.delete(f"/v1/keys/{response.json()['id']}").status_code < HTTPStatus.BAD_REQUEST
            )

    def _real(self, name: str, value: Any, operation: str) -> Any:
        match name, value:
            case "job", [*ids] if len(ids) == 2 and all(map(_is_id, ids)):
                return self._compared
            case "init_from", str() if _is_id(value):
                return None  # Weights of other shapes would be refused.
            case "remove", [str(), *_] if operation == "create_version":
                return ["0"]
            case "files", [bytes() | str(), *_]:
                return [zipped(pngs(5 + next(self._asked)))] if operation == "create_version" else [PICTURES]
        return self._id(name, operation) or value if _is_id(value) else value

    def _id(self, name: str, operation: str) -> str | None:
        """An id for a parameter; a new thing's, where the operation ends what it is given."""
        make = self._makers.get((name, operation))
        return make() if make else self._ids.get(name)

    def _newest(self) -> str:
        versions = self._owner.get("/v1/datasets", params={"series_id": self._series, "limit": 1})
        return str(versions.json()["items"][0]["id"])

    def _backtracking(self) -> str:
        self._owner.delete(f"/v1/evaluations/{self._waiting}")
        path = f"/v1/jobs/{self._ids['job_id']}/backtracking"
        response = self._owner.post(path, json={"seed": next(self._asked)})
        assert response.status_code == HTTPStatus.CREATED, response.text
        self._waiting = str(response.json()["id"])
        return self._waiting


def _name(case: Case) -> str:
    return str(case.operation.definition.raw["operationId"])


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


@pytest.fixture(scope="module")
def owner(api: Api) -> Iterator[Person]:
    with new_person(api) as person:
        yield person


@pytest.fixture(scope="module")
def things(owner: Person) -> Things:
    with db.sessions()() as session:
        return Things(owner, session)


@pytest.fixture(scope="module")
def calls(api: Api, owner: Person) -> Iterator[dict[str, Any]]:
    """How to call."""
    headers = {"Authorization": owner.headers["Authorization"]}
    with requests.Session() as session:
        yield {"base_url": str(api.url), "session": session, "headers": headers, "timeout": 20}


ANSWERS: defaultdict[str, set[int]] = defaultdict(set)
schema = schemathesis.openapi.from_path(DOCUMENT, config=SchemathesisConfig.from_dict(CONFIG))
if not EXAMPLES:
    # Its body is a part of create_job's, whose cases take the longest of all to make up: once is enough.
    schema = schema.exclude(operation_id="estimate_job")


@schema.parametrize()
def test_the_service_does_what_the_document_says(case: Case, things: Things, calls: dict[str, Any]) -> None:
    if _name(case) == "create_job" and zlib.crc32(repr(case.body).encode(errors="replace")) % SHARE_OF_JOBS:
        return
    things.place(case)
    response = case.call(**calls)
    ANSWERS[_name(case)].add(response.status_code)
    things.clear(response, _name(case))
    excluded = [positive_data_acceptance] if _refused_by_a_rule(response) else []
    if "x-schemathesis-unknown-property" in (case.headers or {}):
        # Headers that a service does not know are none of its business.
        excluded.append(negative_data_rejection)
    if response.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        # Of which kind a body is, is looked at before the route is known.
        excluded.append(unsupported_method)
    case.validate_response(
        response, headers=calls["headers"], excluded_checks=excluded, transport_kwargs=dict(calls)
    )


def test_every_operation_was_asked_something_that_it_could_do() -> None:
    """So that the test above means something."""
    never = {name for name, statuses in ANSWERS.items() if min(statuses) >= HTTPStatus.BAD_REQUEST}
    assert never == set(), "these never succeeded: give them in Things what they need"


def _refused_by_a_rule(response: Response) -> bool:
    """Whether a value of the right shape was refused for what it means, which no schema can say.

    Such a refusal is one sentence about all of the request; of a value of the wrong shape `errors` tells the field.
    """
    if response.status_code == HTTPStatus.BAD_REQUEST:
        # An empty header is made up beside every pattern.
        return "algorithms" in response.json()["details"]
    if response.status_code != HTTPStatus.UNPROCESSABLE_ENTITY:
        return False
    rules = [error["what"].startswith("Value error, ") for error in response.json()["errors"]]
    return all(rules)
