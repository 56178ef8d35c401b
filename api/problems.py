"""What each error of the tree looks like in an answer: the document's examples of failures."""

from __future__ import annotations

from typing import Any

from core.errors import JobError, LeaseLost, SlaeganError, StackFailed, every_error
from core.schemas.pages import Problem

_SENTENCES = {
    "bad_request": "The client went away before the body was complete.",
    "invalid": "One value is wrong: see errors.",
    "dataset_unusable": "2 pictures are usable; at least 4 are needed.",
    "archive_rejected": "The archive's entry '../x.png' leads out of it.",
    "labels_unusable": "labels.csv is no text in UTF-8 (byte 17): save it as CSV UTF-8.",
    "idempotency_key_reused": "Another request was answered under this Idempotency-Key: choose a new one.",
    "unauthenticated": "This API key is unknown, expired or revoked.",
    "forbidden": "This key lacks the scope 'write'.",
    "not_found": "There is no job 6f6d2f0a-93f4-4a3e-8f37-4f6a2b1c9d22.",
    "method_not_allowed": "/v1/jobs takes GET, HEAD, POST, not PUT.",
    "too_slow": "The body did not go on for 30 s.",
    "conflict": "Job 6f6d2f0a-93f4-4a3e-8f37-4f6a2b1c9d22 has succeeded already.",
    "tus_version": "Send the header Tus-Resumable: 1.0.0, not '0.2.2'.",
    "too_large": "The body has 2097152 bytes; 1048576 are allowed here.",
    "address_too_long": "The address has 9000 bytes; 8192 are allowed.",
    "unsupported_media_type": "Send application/json, not text/plain.",
    "range_not_satisfiable": "The file has 29482112 bytes; 'bytes=29482112-' lies outside.",
    "misdirected": "This service does not answer for the host 'other.example'. Those who run it name its hosts in "
    "SLAEGAN_ALLOWED_HOSTS.",
    "locked": "Another request is writing to the upload d07ec145-2c86-41d3-8f6a-ae5f7a8b9c99, or makes a dataset "
    "of it: ask where it is (HEAD) when that is over.",
    "head_too_large": "The request has 120 headers; 100 are allowed.",
    "checksum_mismatch": "The sha256 of the body is another one than Upload-Checksum says: send it again.",
    "rate_limited": "More than 6000 requests a minute: try again in 12 s.",
    "quota_exceeded": "10000 jobs of yours wait already: try again when some have begun.",
    "internal": "The service failed; its log tells more under this request id.",
    "database_unavailable": "The database does not answer; nothing was changed. Try again in a moment.",
    "broker_unavailable": "The broker does not answer. Try again in a moment.",
    "store_unavailable": "The store does not answer. Try again in a moment.",
    "store_full": "The store has no space for 1048576 bytes; nothing of the request was kept.",
    "overloaded": "All connections of the service are busy: try again in 5 s.",
}
_DETAILS: dict[str, dict[str, Any]] = {
    "archive_rejected": {"reason": "unsafe_path", "entry": "../x.png"},
    "forbidden": {"needed": "write", "scopes": ["read"]},
    "too_large": {"size_bytes": 2097152, "limit_bytes": 1048576},
    "rate_limited": {"retry_after_s": 12, "requests_per_minute": 6000},
}
_WRONG = {"where": "query.limit", "what": "Input should be less than or equal to 200", "input": "500"}


def main_code(status: int) -> str:
    """The first of the tree, from its root down, that has the status."""
    return next((code for code, error in every_error().items() if error.status == status), SlaeganError.code)


def examples() -> dict[str, Any]:
    """One of each code that a request can meet; what fails a job is no answer to a request."""
    return {
        code: {"summary": error.title, "value": _problem(error)}
        for code, error in every_error().items()
        if not issubclass(error, JobError | LeaseLost | StackFailed)
    }


def _problem(error: type[SlaeganError]) -> dict[str, Any]:
    code = error.code
    return Problem(
        type=f"urn:slaegan:error:{code}",
        title=error.title,
        status=error.status,
        code=code,
        detail=_SENTENCES.get(code, f"{error.title}."),
        instance="/v1/jobs",
        request_id="29907fa2b26643a5bee253ce0d660605",
        errors=[_WRONG] if code == "invalid" else [],
        details=_DETAILS.get(code, {}),
    ).model_dump()
