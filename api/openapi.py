"""The OpenAPI document tells what is true of every route: how it fails, and in which shape."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from api import problems, tus
from api.descriptions import DESCRIPTIONS
from core.schemas.pages import Problem

if TYPE_CHECKING:
    from fastapi import FastAPI

PROBLEM_MEDIA_TYPE = "application/problem+json"
_OPERATIONS = frozenset({"get", "post", "put", "patch", "delete"})
TAGS = {
    "datasets": "Pictures to train on: uploaded once, normalised, kept until they are deleted.",
    "jobs": "Trainings: submitted, watched, paused, cancelled, tried again, extended, compared.",
    "evaluations": "Evaluations of snapshots, and those that are asked for beside the curve.",
    "generations": "Pictures and films made with a generator, projections into it, and its exports.",
    "events": "What has happened to a job, as a page and as a stream.",
    "logs": "What a training printed.",
    "checkpoints": "Generators to use, and training states to go on from.",
    "samples": "Pictures that a job generated.",
    "webhooks": "Events sent to a URL of yours: their deliveries, and the secret that signs them.",
    "models": "Model families and their configurations.",
    "workers": "The processes that train.",
    "uploads": "Large files in parts (tus 1.0): gone on with after a break, then made a dataset of.",
    "keys": "API keys of the tenant.",
    "audit": "Who changed what, and when.",
    "usage": "For how long jobs held devices.",
    "health": "For those who run the service; no key is needed.",
}
_KEYED = {
    "401": "The API key is missing, unknown, expired or revoked",
    "403": "The key lacks the scope",
    "422": "A value is wrong; `errors` tells which",
    "429": "Too many requests: see Retry-After; or too many of the tenant's jobs wait",
    "500": "A fault of the service: its log tells more under the request id",
    "503": "A part of the service is unavailable",
}
# Of any request, before its route is known: told once, and referred to by every operation.
_ANY = {
    "408": "The request did not arrive in time",
    "414": "The address is too long",
    "421": "The request is for another host",
    "431": "The headers are too large or too many",
}
_IN_FLIGHT = "A request with this Idempotency-Key is being answered"
_WITH_BODY = {
    "400": "The body cannot be read",
    "413": "The body is too large",
    "415": "The body is of another kind than the one below",
}
# Which codes a status stands for, where it is not the tree's first of that status alone.
_CODES = {
    "429": ("rate_limited", "quota_exceeded"),
    "503": ("database_unavailable", "store_unavailable", "overloaded"),
}
_TAKE_PICTURES = (
    "/v1/datasets",
    "/v1/datasets/{dataset_id}/versions",
    "/v1/uploads/{upload_id}/dataset",
)
_UPLOAD_CODES = {"422": ("invalid", "dataset_unusable", "archive_rejected", "labels_unusable")}
_MORE = {
    ("/v1/datasets", "post"): {
        "413": "The upload is too large",
        "415": "The upload is no multipart form",
        "507": "The store is full",
    },
    ("/v1/datasets/{dataset_id}/versions", "post"): {
        "409": "There is a newer version; `details.newest` names it",
        "413": "The upload is too large",
        "415": "The upload is no multipart form",
        "507": "The store is full",
    },
    ("/v1/datasets/{dataset_id}", "delete"): {
        "409": "A job or an evaluation that is not over needs the dataset"
    },
    ("/v1/uploads", "post"): {
        "400": "The algorithm of the checksum is unknown",
        "412": "Another version of tus",
        "413": "The file is too large",
        "415": "The body is no application/offset+octet-stream",
        "429": "Too many requests: see Retry-After; or too many uploads are open",
        "460": "The bytes are not those of the checksum",
        "507": "The disk is full",
    },
    ("/v1/uploads/{upload_id}", "get"): {"412": "Another version of tus"},
    ("/v1/uploads/{upload_id}", "patch"): {
        "400": "The algorithm of the checksum is unknown",
        "409": "The upload is at another offset: see details.offset; or it is a dataset already",
        "412": "Another version of tus",
        "413": "More than the upload's length",
        "415": "The body is no application/offset+octet-stream",
        "423": "Another request is writing to it",
        "460": "The bytes are not those of the checksum; none was kept",
        "507": "The disk is full",
    },
    ("/v1/uploads/{upload_id}", "delete"): {
        "412": "Another version of tus",
        "423": "A request is writing to it",
    },
    ("/v1/uploads/{upload_id}/dataset", "post"): {
        "409": "The upload is not complete",
        "413": "The body is too large",
        "415": "No JSON",
        "423": "Another request makes a dataset of it",
        "507": "The store is full",
    },
    ("/v1/jobs", "post"): {
        "404": "There is no such dataset",
        "413": "The body is too large",
        "415": "No JSON",
    },
    ("/v1/comparison", "get"): {
        "404": "There is no such job, or it is another tenant's",
        "409": "The jobs have no protocol or not the pictures in common; `details.differing` tells the fields",
    },
    ("/v1/jobs/{job_id}/cancel", "post"): {"409": "The job is over"},
    ("/v1/jobs/{job_id}/pause", "post"): {"409": "There is no training any more that could pause"},
    ("/v1/jobs/{job_id}/resume", "post"): {"409": "The job's training is over"},
    ("/v1/jobs/{job_id}/retry", "post"): {
        "409": "The job has not failed and is not cancelled, or what it needs is deleted",
        "413": "The body is too large",
        "415": "No JSON",
    },
    ("/v1/jobs/{job_id}/extend", "post"): {
        "409": "The job has not succeeded, or what it needs is deleted",
        "413": "The body is too large",
        "415": "No JSON",
    },
    ("/v1/jobs/{job_id}/backtracking", "post"): {
        "409": "The job has no generator yet, its pictures are deleted, or too many backtrackings wait",
        "413": "The body is too large",
        "415": "No JSON",
    },
    ("/v1/keys", "post"): {"413": "The body is too large", "415": "No JSON"},
    ("/v1/keys/{key_id}", "delete"): {"409": "It is the last live key with the scope admin"},
    ("/v1/keys/{key_id}/rotate", "post"): {
        "409": "The key is revoked, expired or rotated already",
        "413": "The body is too large",
        "415": "No JSON",
    },
    ("/v1/deliveries/{delivery_id}/redeliver", "post"): {"409": "It is on its way at this moment"},
    ("/v1/jobs/{job_id}/generations", "post"): {
        "409": "The job has no generator yet, pictures that are needed are deleted, or too much of it waits",
        "429": "Too many requests: see Retry-After; or too many of the tenant's generations and exports wait",
    },
    ("/v1/jobs/{job_id}/exports", "post"): {
        "409": "The job has no generator yet, or too much of it waits",
        "429": "Too many requests: see Retry-After; or too many of the tenant's generations and exports wait",
    },
    ("/v1/evaluations/{evaluation_id}", "delete"): {"409": "It is over, or a point of the curve"},
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        # Nobody but the document's readers waits for the examples to be made.
        from api.examples import add_examples  # noqa: PLC0415
        from api.response_headers import OF_EVERY_ANSWER, add_headers  # noqa: PLC0415

        document = get_openapi(
            title=app.title,
            version=app.version,
            openapi_version="3.1.0",
            description=f"{app.description} {OF_EVERY_ANSWER}",
            routes=app.routes,
            tags=[{"name": name, "description": description} for name, description in TAGS.items()],
            servers=[{"url": "/", "description": "This service"}],
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema()
        document["components"]["examples"] = problems.examples()
        document["components"]["responses"] = {
            problems.main_code(int(status)): _problem(description, problems.main_code(int(status)))
            for status, description in _ANY.items()
        }
        for path, item in document["paths"].items():
            for method in _OPERATIONS & item.keys():
                _add_problems(item[method], path=path, method=method)
                for parameter in item[method].get("parameters", ()):
                    parameter["schema"] = _without_null(parameter["schema"])
                    if parameter["name"] in tus.NEEDED.get(item[method]["operationId"], ()):
                        parameter["required"] = True
                if description := DESCRIPTIONS.get(item[method]["operationId"]):
                    item[method].setdefault("description", description)
        add_examples(document)
        add_headers(document)
        app.openapi_schema = document
    return app.openapi_schema


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods that an address takes; the framework's own 405 names those of the first route only."""
    for template, item in app.openapi()["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path):
            methods = [method.upper() for method in item if method in _OPERATIONS]
            # A stream has no end to be told of beforehand: it takes no HEAD.
            takes_head = "GET" in methods and not path.endswith("/stream")
            return sorted([*methods, "HEAD"] if takes_head else methods)
    return ["GET", "HEAD"]


def _add_problems(operation: dict[str, Any], *, path: str, method: str) -> None:
    told = {"500": _KEYED["500"], "503": _KEYED["503"]} if not path.startswith("/v1") else dict(_KEYED)
    if path.startswith("/v1") and "{" in path:
        told["404"] = "There is no such thing, or it is another tenant's"
    if "requestBody" in operation:
        told |= _WITH_BODY
    told |= _MORE.get((path, method), {})
    once = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
    if once:
        told["409"] = "; ".join(filter(None, [told.get("409"), _IN_FLIGHT]))
    told |= {
        status: response["description"]
        for status, response in operation["responses"].items()
        if status >= "400" and status not in told
    }
    by_status = _CODES | (_UPLOAD_CODES if method == "post" and path in _TAKE_PICTURES else {})
    for status, description in told.items():
        codes = by_status.get(status) or (problems.main_code(int(status)),)
        if status == "422" and once:
            codes += ("idempotency_key_reused",)
        operation["responses"][status] = _problem(description, *codes)
    for status in _ANY:
        reference = f"#/components/responses/{problems.main_code(int(status))}"
        operation["responses"][status] = {"$ref": reference}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter: one that is left out is not there, which the framework describes as null."""
    choices: list[dict[str, Any]] = [
        choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}
    ]
    if len(choices) != 1:
        return schema
    return choices[0] | {name: value for name, value in schema.items() if name != "anyOf"}


def _problem(description: str, *codes: str) -> dict[str, Any]:
    """A failure in the document, with an example of each code."""
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
    }
    return {"description": description, "content": {PROBLEM_MEDIA_TYPE: content}}
