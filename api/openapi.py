"""The OpenAPI document tells what is true of every route: how it fails, and in which shape."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from core.schemas.pages import Problem

if TYPE_CHECKING:
    from fastapi import FastAPI

PROBLEM_MEDIA_TYPE = "application/problem+json"
_OPERATIONS = frozenset({"get", "post", "put", "patch", "delete"})
_PROBLEM = {"content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_KEYED = {
    "401": "The API key is missing, unknown, expired or revoked",
    "403": "The key lacks the scope",
    "422": "A value is wrong; `errors` tells which",
    "429": "Too many requests: see Retry-After",
    "503": "A part of the service is unavailable",
}
_MORE = {
    ("/v1/datasets", "post"): {
        "413": "The upload is too large",
        "415": "The upload is no multipart form",
        "507": "The store is full",
    },
    ("/v1/datasets/{dataset_id}", "delete"): {
        "409": "A job or an evaluation that is not over needs the dataset"
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
    ("/v1/jobs/{job_id}/backtracking", "post"): {
        "409": "The job has no generator yet, its pictures are deleted, or too many backtrackings wait",
        "413": "The body is too large",
        "415": "No JSON",
    },
    ("/v1/deliveries/{delivery_id}/redeliver", "post"): {"409": "It is on its way at this moment"},
    ("/v1/evaluations/{evaluation_id}", "delete"): {"409": "It is over, or a point of the curve"},
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema()
        for path, item in document["paths"].items():
            for method in _OPERATIONS & item.keys():
                _add_problems(item[method], path=path, method=method)
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
    problems = {"503": _KEYED["503"]} if not path.startswith("/v1") else dict(_KEYED)
    if path.startswith("/v1") and "{" in path:
        problems["404"] = "There is no such thing, or it is another tenant's"
    problems |= _MORE.get((path, method), {})
    for status, description in problems.items():
        operation["responses"][status] = {"description": description, **_PROBLEM}
