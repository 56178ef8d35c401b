"""All tables, imported together so that `Base.metadata` is whole (migrations and their test need that)."""

from core.audit.tables import AuditEntry
from core.datasets.tables import Dataset, DatasetImage, StoredPicture
from core.db import Base
from core.evaluations.tables import Evaluation
from core.garbage.tables import Service
from core.idempotency import GivenAnswer
from core.jobs.tables import Checkpoint, Job, JobAttempt, JobEvent, LogLine, Loss, Sample, Worker
from core.keys import ApiKey, Tenant
from core.logs.tables import LogChunk
from core.renderings.tables import RenderedFile, Rendering
from core.uploads.tables import Upload
from core.webhooks.tables import WebhookDelivery, WebhookSecret

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Base",
    "Checkpoint",
    "Dataset",
    "DatasetImage",
    "Evaluation",
    "GivenAnswer",
    "Job",
    "JobAttempt",
    "JobEvent",
    "LogChunk",
    "LogLine",
    "Loss",
    "RenderedFile",
    "Rendering",
    "Sample",
    "Service",
    "StoredPicture",
    "Tenant",
    "Upload",
    "WebhookDelivery",
    "WebhookSecret",
    "Worker",
]
