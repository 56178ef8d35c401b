"""All tables, imported together so that `Base.metadata` is whole (migrations and their test need that)."""

from core.datasets.tables import Dataset, DatasetImage
from core.db import Base
from core.evaluations.tables import Evaluation
from core.garbage.tables import Service
from core.jobs.tables import Checkpoint, Job, JobEvent, LogLine, Loss, Sample, Worker
from core.keys import ApiKey, Tenant
from core.logs.tables import LogChunk
from core.webhooks.tables import WebhookDelivery, WebhookSecret

__all__ = [
    "ApiKey",
    "Base",
    "Checkpoint",
    "Dataset",
    "DatasetImage",
    "Evaluation",
    "Job",
    "JobEvent",
    "LogChunk",
    "LogLine",
    "Loss",
    "Sample",
    "Service",
    "Tenant",
    "WebhookDelivery",
    "WebhookSecret",
    "Worker",
]
