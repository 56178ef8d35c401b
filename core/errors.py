"""The one tree of errors: the API renders them, the worker stores them, the client raises them again.

SlaeganError
├── RequestError               the caller can mend it
│   ├── InvalidRequest         422  a value is wrong
│   │   ├── DatasetUnusable    422  too few usable pictures
│   │   ├── ArchiveRejected    422  a hostile or broken archive
│   │   ├── LabelsUnusable     422  labels that cannot be read, or are not there
│   │   └── KeyReused          422  an Idempotency-Key came with another request
│   ├── Unauthenticated        401
│   ├── Forbidden              403  the key lacks the scope
│   ├── NotFound               404  also what belongs to another tenant
│   ├── MethodNotAllowed       405
│   ├── TooSlow                408  the client lets the service wait
│   ├── Conflict               409  the state does not allow it
│   ├── TusVersion             412  another version of the protocol of resumable uploads
│   ├── TooLarge               413
│   ├── AddressTooLong         414
│   ├── UnsupportedMedia       415
│   ├── RangeNotSatisfiable    416  the file does not reach that far
│   ├── Misdirected            421  the Host header names another service
│   ├── Locked                 423  another request is at it
│   ├── RateLimited            429
│   ├── QuotaExceeded          429  too many of the tenant's jobs wait, or uploads or streams are open
│   ├── HeadTooLarge           431
│   └── ChecksumMismatch       460  the bytes received are not those that were sent
├── InfrastructureError        the service's surroundings are at fault
│   ├── DatabaseUnavailable    503
│   ├── BrokerUnavailable      503
│   ├── StoreUnavailable       503
│   ├── StoreFull              507
│   ├── Overloaded             503  all connections are busy, or too many uploads wait
│   └── StackFailed            503  the embedded stack of `slaegan up` cannot start or go on
├── JobError                   why a training failed; stored on the job
│   ├── ConfigurationFailed    the configuration cannot run here
│   ├── DataFailed             the pictures cannot be read
│   ├── WeightsMissing         pretrained weights are neither there nor to be had
│   ├── OutOfMemory
│   ├── NonFinite              losses left the finite numbers
│   ├── TimeLimit              waited or trained for longer than the job allows
│   ├── TrainerCrashed         the child ended without a word
│   └── WorkersLost            too many attempts ended with their worker
└── LeaseLost                  another attempt owns the job now: write nothing, stop
"""

from __future__ import annotations

from typing import Any, ClassVar


class SlaeganError(Exception):
    """What was wrong, with which value, and what to do.

    Args:
        message: one sentence or two for a person.
        details: JSON-able facts for a program.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong in the service"
    advice: ClassVar[str] = (
        "Retry the job. If it fails again, tell those who run the service; its log has the error."
    )

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def as_record(self) -> dict[str, Any]:
        """The form stored on a job and sent in events: code, title, message, details."""
        return {"code": self.code, "title": self.title, "message": self.message, "details": self.details}


class RequestError(SlaeganError):
    code, status, title = "bad_request", 400, "The request cannot be served"


class InvalidRequest(RequestError):
    code, status, title = "invalid", 422, "A value in the request is wrong"


class DatasetUnusable(InvalidRequest):
    code, title = "dataset_unusable", "The upload holds too few usable pictures"


class ArchiveRejected(InvalidRequest):
    code, title = "archive_rejected", "The archive is refused"


class LabelsUnusable(InvalidRequest):
    code, title = "labels_unusable", "The upload's class labels cannot be used"


class KeyReused(InvalidRequest):
    code, title = "idempotency_key_reused", "The Idempotency-Key belongs to another request"


class Unauthenticated(RequestError):
    code, status, title = "unauthenticated", 401, "A valid API key is needed"


class Forbidden(RequestError):
    code, status, title = "forbidden", 403, "The key does not allow this"


class NotFound(RequestError):
    code, status, title = "not_found", 404, "No such thing"


class MethodNotAllowed(RequestError):
    code, status, title = "method_not_allowed", 405, "The address does not take this method"


class TooSlow(RequestError):
    code, status, title = "too_slow", 408, "The request did not arrive in time"


class Conflict(RequestError):
    code, status, title = "conflict", 409, "The present state does not allow this"


class TusVersion(RequestError):
    code, status, title = "tus_version", 412, "Another version of tus is needed"


class TooLarge(RequestError):
    code, status, title = "too_large", 413, "The request is too large"


class AddressTooLong(RequestError):
    code, status, title = "address_too_long", 414, "The address is too long"


class UnsupportedMedia(RequestError):
    code, status, title = "unsupported_media_type", 415, "This kind of content is not taken here"


class RangeNotSatisfiable(RequestError):
    code, status, title = "range_not_satisfiable", 416, "The file does not reach that far"


class Locked(RequestError):
    code, status, title = "locked", 423, "Another request is at it"


class Misdirected(RequestError):
    code, status, title = "misdirected", 421, "The request is for another host"


class RateLimited(RequestError):
    code, status, title = "rate_limited", 429, "Too many requests"


class QuotaExceeded(RequestError):
    code, status, title = "quota_exceeded", 429, "The tenant's share is used up"


class ChecksumMismatch(RequestError):
    code, status, title = "checksum_mismatch", 460, "The bytes received are not those that were sent"


class HeadTooLarge(RequestError):
    code, status, title = "head_too_large", 431, "The request's headers are too large"


class InfrastructureError(SlaeganError):
    code, status, title = "unavailable", 503, "A part of the service is unavailable"
    advice = "Retry the job when the service is well again: it goes on from its last state."


class DatabaseUnavailable(InfrastructureError):
    code, title = "database_unavailable", "The database cannot be reached"


class BrokerUnavailable(InfrastructureError):
    code, title = "broker_unavailable", "The broker cannot be reached"


class StoreUnavailable(InfrastructureError):
    code, title = "store_unavailable", "The artifact store cannot be reached"


class StoreFull(InfrastructureError):
    code, status, title = "store_full", 507, "The artifact store is full"
    advice = (
        "Delete datasets that are no longer needed, or have those who run the service free space (`slaegan gc`); then "
        "retry the job."
    )


class Overloaded(InfrastructureError):
    code, title = "overloaded", "The service has its hands full"


class StackFailed(InfrastructureError):
    code, title = "stack_failed", "The local stack cannot run"


class JobError(SlaeganError):
    code, title = "job_failed", "The training failed"


class ConfigurationFailed(JobError):
    code, title = "configuration_failed", "The configuration cannot run here"
    advice = "Submit a new job with the value that the message names changed."


class DataFailed(JobError):
    code, title = "data_failed", "The pictures cannot be read"
    advice = "Upload the pictures again as a new dataset, and submit the job on that."


class WeightsMissing(JobError):
    code, title = "weights_missing", "Pretrained weights are missing"
    advice = (
        "Have those who run the service put the weights in place (`slaegan weights`), then retry the job."
    )


class OutOfMemory(JobError):
    code, title = "out_of_memory", "The device ran out of memory"
    advice = "Submit a new job with a smaller width, resolution or batch, or retry it on a larger device."


class NonFinite(JobError):
    code, title = "non_finite", "The training left the finite numbers"
    advice = (
        "Submit a new job with a lower learning_rate, or with precision fp32; retrying takes the "
        "same path again."
    )


class TimeLimit(JobError):
    code, title = "time_limit", "The job's time is over"
    advice = "Retry the job, or submit it anew with other limits (max_queue_s, max_run_s)."


class TrainerCrashed(JobError):
    code, title = "trainer_crashed", "The training process ended unexpectedly"
    advice = (
        "Read last_lines and the log. A process killed by SIGKILL usually lacked memory: then choose "
        "a smaller width, resolution or batch. Else retry the job."
    )


class WorkersLost(JobError):
    code, title = "workers_lost", "Too many workers were lost while they held the job"
    advice = "Have the workers' own logs looked at (memory, disk, restarts), then retry the job."


class LeaseLost(SlaeganError):
    code, title = "lease_lost", "Another attempt owns this job now"


def every_error(root: type[SlaeganError] = SlaeganError) -> dict[str, type[SlaeganError]]:
    """The tree's classes by their codes, a branch before its twigs."""
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= every_error(child)
    return found


def from_code(code: str, message: str, **details: Any) -> SlaeganError:
    """Make the error that another process described by its code.

    Args:
        code: the stable code of a class of this tree; an unknown one gives SlaeganError itself.
        message: the sentence for a person.
        details: facts for a program.
    """
    return every_error().get(code, SlaeganError)(message, **details)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of Python's or torch's means that memory did not suffice.

    This module knows no torch; and on the CPU torch raises plain RuntimeErrors, which can be told by the name of its
    allocator, and by the words of oneDNN where that could not allocate.
    """
    words = ("DefaultCPUAllocator", "could not create a primitive")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(known in str(error) for known in words))
    )
