"""The headers of answers, as the OpenAPI document tells them; what every answer has is told in its description."""

from __future__ import annotations

from typing import Any

from api import story

_SHA256 = story.GENERATOR_SHA256
# Each with its type, what it says, and an example.
HEADERS: dict[str, tuple[str, str, Any]] = {
    "Location": ("string", "Where the new thing is", f"/v1/jobs/{story.JOB}"),
    "ETag": ("string", "Pass it as If-None-Match: 304 while nothing is new", f'"{_SHA256}"'),
    "X-Content-SHA256": ("string", "sha256 of the whole file", _SHA256),
    "Idempotency-Replayed": (
        "string",
        "true: this is the answer to an earlier request under the key",
        "true",
    ),
    "Retry-After": ("integer", "Seconds to wait before the next try", 12),
    "Tus-Resumable": ("string", "The protocol", "1.0.0"),
    "Upload-Offset": ("integer", "Where to go on: so many bytes are on the disk", 268_435_456),
    "Upload-Length": ("integer", "Bytes of the whole file", 734_003_200),
    "Upload-Expires": ("string", "When it goes, unless bytes arrive before", "Mon, 02 Mar 2026 12:00:00 GMT"),
}
OF_EVERY_ANSWER = (
    "Every answer has an `X-Request-ID`, and those to a key `RateLimit-Limit`, `RateLimit-Remaining` and "
    "`RateLimit-Reset`."
)
_STATE = ("Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Expires")
_FILE = ("ETag", "X-Content-SHA256")
# Of the answers that are no failures, by operation.
_BY_OPERATION = {
    **dict.fromkeys(
        ("create_dataset", "create_version", "create_job", "retry_job", "extend_job"), ("Location",)
    ),
    **dict.fromkeys(("get_job", "list_jobs", "list_metrics", "get_thumbnail"), ("ETag",)),
    **dict.fromkeys(("get_checkpoint_file", "get_sample_file", "get_picture", "get_image_file"), _FILE),
    "create_upload": ("Location", *_STATE),
    "get_upload": _STATE,
    "append": _STATE,
}


def add_headers(document: dict[str, Any]) -> None:
    """Write them into a document, in place: once among its components, and by name into each answer."""
    document["components"]["headers"] = {
        name: {"description": description, "schema": {"type": kind}, "example": example}
        for name, (kind, description, example) in HEADERS.items()
    }
    for item in document["paths"].values():
        for operation in item.values():
            given = _BY_OPERATION.get(operation["operationId"], ())
            parameters = operation.get("parameters", ())
            if any(parameter["name"] == "Idempotency-Key" for parameter in parameters):
                given = (*given, "Idempotency-Replayed")
            for status, response in operation["responses"].items():
                names = given if status < "400" else ("Retry-After",) if status == "429" else ()
                if names:
                    response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
