"""Puts an example beside everything that the document describes.

By the schema: a new route over schemas that have an example needs nothing. A new schema has its example in
`api/story.py`, or of its own: `model_config = ConfigDict(json_schema_extra={"examples": [{...}]})`. A new parameter
has its line in `PARAMETERS`, or `examples=[...]` where it is declared. What has none fails a test.
"""

from __future__ import annotations

import re
from typing import Any

from api import story
from core.schemas.jobs import EventOut, LogOut

_STREAM = (
    "id: 41\nevent: succeeded\ndata: "
    + EventOut(
        seq=41, type="succeeded", at=story.SUCCEEDED.finished_at or story.BEGAN, payload={}
    ).model_dump_json()
)
_LINE = (
    "id: 1\nevent: line\ndata: "
    + LogOut(seq=1, attempt=1, at=story.BEGAN, line="96 pictures at 64x64 on cpu").model_dump_json()
)

_CURSOR = "WyIyMDI2LTAzLTAxVDEyOjAwOjAwKzAwOjAwIiwgIjZmNmQyZjBhLTkzZjQtNGEzZS04ZjM3LTRmNmEyYjFjOWQyMiJd"
_NUMBERED = frozenset({"list_images", "list_events", "list_logs"})  # their cursors are numbers
# Of parameters by name: what they are, where the route does not say it, and an example.
PARAMETERS: dict[str, tuple[str, Any]] = {
    "dataset_id": ("A dataset of yours", str(story.DATASET)),
    "job_id": ("A job of yours", str(story.JOB)),
    "checkpoint_id": ("A checkpoint of a job of yours", str(story.CHECKPOINT)),
    "evaluation_id": ("An evaluation of a job of yours", str(story.EVALUATION)),
    "sample_id": ("A grid of a job of yours", str(story.SAMPLE)),
    "generation_id": ("A generation of yours", str(story.GENERATION)),
    "export_id": ("An export of yours", str(story.EXPORT)),
    "name": ("Of one of its files", "1.png"),
    "delivery_id": ("A delivery of an event of a job of yours", str(story.DELIVERY)),
    "upload_id": ("An upload of yours", str(story.UPLOAD)),
    "key_id": ("A key of your tenant", str(story.KEY)),
    "series_id": ("The first version of a dataset of yours", str(story.DATASET)),
    "position": ("The picture's place in the dataset, from 0", 0),
    "job": ("A job of yours", [str(story.JOB), str(story.OTHER_JOB)]),
    "limit": ("Items a page", 50),
    "cursor": ("next_cursor of the page before", _CURSOR),
    "after": ("The number of the last item that you have", 40),
    "tail": ("Only the last so many", 100),
    "run": ("One of the job's runs", 1),
    "points": ("So many points at most", 500),
    "status": ("Only those in one of these states", ["queued", "running"]),
    "family": ("Only those of this model family", "slaegan"),
    "text": ("Only those whose name contains this", "first"),
    "created_after": ("Only those made then or later", "2026-03-01T00:00:00Z"),
    "created_before": ("Only those made before", "2026-04-01T00:00:00Z"),
    "action": ("Only what this operation did", "create_job"),
    "since": ("From then on", "2026-03-01T00:00:00Z"),
    "until": ("Until then", "2026-04-01T00:00:00Z"),
    "group": ("What an item is the sum of", "job"),
    "redirect": ("Whether you may be sent on to the object store", False),
    "kind": ("Only those of this kind", "generator"),
    "accept": ("text/plain gives bare lines", "application/json"),
    "last-event-id": ("The last that you have", 40),
    "Idempotency-Key": ("Of your choice", "4b6f2c1e-9d0a-4c55-8f7e-2a3b4c5d6e7f"),
    "Tus-Resumable": ("The protocol", "1.0.0"),
    "Upload-Length": ("Bytes of the whole file", 734_003_200),
    "Upload-Offset": ("Where the bytes belong", 268_435_456),
    "Upload-Metadata": ("The file's name", "filename Y2F0cy56aXA="),
    "Upload-Checksum": ("Hash of the body", "sha256 n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="),
}

# What is no JSON, by operation.
TEXTS = {
    "stream_events": f"{_STREAM}\n\n",
    "stream_logs": f"{_LINE}\n\n",
    "list_logs": "96 pictures at 64x64 on cpu\n",
    "create_dataset": {"files": ["(the bytes of faces.zip)"], "name": "emoji"},
    "create_version": {"files": ["(the bytes of more.zip)"], "remove": ["smile.png", "7"]},
    "create_upload": "(the first bytes of cats.zip)",
    "append": "(the next bytes of cats.zip)",
}
_TEXT_TYPES = ("text/", "multipart/", "application/offset+octet-stream")


def add_examples(document: dict[str, Any]) -> None:
    """Write the examples into a document, in place; what names one itself keeps it."""
    schemas = document["components"]["schemas"]
    known = story.things()
    for item in document["paths"].values():
        for operation in item.values():
            name = operation["operationId"]
            for parameter in operation.get("parameters", []):
                _describe(parameter, numbered=name in _NUMBERED)
            told = story.BY_OPERATION.get(name)
            sent = operation.get("requestBody", {}).get("content", {})
            said = [
                media
                for status, response in operation["responses"].items()
                if status.startswith("2")
                for media in response.get("content", {}).items()
            ]
            for media_type, media in [*sent.items(), *said]:
                own = story.as_json(told) if told is not None and media not in sent.values() else None
                example = TEXTS.get(name) if media_type.startswith(_TEXT_TYPES) else own
                example = example or _of_schema(media.get("schema", {}), schemas, known)
                if example is not None and not media.keys() & {"example", "examples"}:
                    media["example"] = example


def _describe(parameter: dict[str, Any], *, numbered: bool) -> None:
    description, example = PARAMETERS.get(parameter["name"], (None, None))
    if parameter["name"] == "cursor" and numbered:
        example = "40"
    if description is not None:
        parameter.setdefault("description", description)
    own = parameter["schema"].get("examples")
    if own or example is not None:
        parameter.setdefault("example", own[0] if own else example)


def _of_schema(schema: dict[str, Any], schemas: dict[str, Any], known: dict[str, Any]) -> Any:
    """The example of what a schema refers to; a page holds one thing."""
    # A body that may be left out is anyOf of the schema and null, one of several kinds oneOf their schemas.
    for choice in (*schema.get("anyOf", []), *schema.get("oneOf", [])):
        if "$ref" in choice:
            return _of_schema(choice, schemas, known)
    if "$ref" not in schema:
        return None
    name = schema["$ref"].rpartition("/")[2]
    if page := re.fullmatch(r"Page_(.+)_", name):
        item = _of_schema({"$ref": f"#/{page[1]}"}, schemas, known)
        return None if item is None else {"items": [item], "next_cursor": None}
    name = re.sub("-(Input|Output)$", "", name)
    own = schemas.get(name, {}).get("examples")
    return own[0] if own else known.get(name)
