"""What the API takes and says of jobs, their events, curves and artifacts."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    create_model,
    field_validator,
    model_validator,
)

from core.schemas.families import Config
from core.schemas.judging import StoppingConfig
from core.schemas.sent import Moment, Sent
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import SampleKind
from core.schemas.training import MAX_IMAGES
from core.schemas.webhooks import Webhook

MAX_S = 366 * 86_400


class Status(StrEnum):
    """The life of a job; the last three are final, until a retry or an extension begins a new run."""

    QUEUED = "queued"
    RUNNING = "running"
    EVALUATING = "evaluating"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


class JobIn(Sent):
    dataset_id: UUID
    name: str = Field("", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="One line, for people")
    priority: int = Field(0, ge=-100, le=100, description="Higher runs first")
    config: Config = Field(default_factory=SlaeganConfig)
    init_from: UUID | None = Field(
        None, description="A checkpoint of any of your jobs, with networks of the same shape, to begin from"
    )
    max_queue_s: int | None = Field(
        None, ge=1, le=MAX_S, description="Fail when no worker has begun the job after so long; null: wait"
    )
    max_run_s: int | None = Field(
        None,
        ge=1,
        le=MAX_S,
        description="End the training, as finished, when it has held a device for so long; null: train to the end",
    )
    webhook: Webhook | None = Field(None, description="Where to send which of the job's events")

    @model_validator(mode="after")
    def _has_what_it_begins_from(self) -> Self:
        if self.config.needs_checkpoint and self.init_from is None:
            raise ValueError(
                "config.autoencoder reuse and tune take encoder and decoder from a checkpoint: name one in init_from, "
                "or say train"
            )
        if self.config.freeze_discriminator > 0 and self.init_from is None:
            raise ValueError(
                "config.freeze_discriminator keeps weights as they are, and without init_from they are random: name a "
                "checkpoint to begin from, or leave it at 0"
            )
        return self


class RetryIn(Sent):
    fresh: StrictBool = Field(
        False, description="Begin at zero; else the new run goes on from the last state"
    )


class ExtendIn(Sent):
    total_images: int = Field(ge=2, le=MAX_IMAGES, description="The new total, more than the job has seen")
    stopping: StoppingConfig | None = Field(
        None,
        description="Rules for an early end; by default those that the job has, and none where one of them ended it",
    )


# Of a thousand classes, a thousand numbers: told with the curve, neither with its ends nor in events.
PER_CLASS = ("intra_fid_per_class", "intra_fid_classes")
METRICS = (
    *("fid", "kid", "kid_sd", "fid_held_out", "kid_held_out", "kid_sd_held_out", "precision", "recall"),
    *("lpips", "lpips_intra", "copy_rate", "copy_threshold", "nearest_lpips", "bank_hit_rate"),
    *("intra_fid", *PER_CLASS, "intra_fid_left_out"),
    *("inception_score", "inception_score_sd"),
    *("floor_fid_mirror", "floor_kid_mirror", "floor_fid_halves", "floor_kid_halves", "floor_lpips"),
)


class PictureOut(BaseModel):
    """Generated pictures beside their nearest training pictures, a PNG."""

    url: str = Field(examples=["/v1/evaluations/8b2f…/picture.png"])
    size_bytes: int
    sha256: str


class Point(BaseModel):
    """One evaluated snapshot: the metrics and the protocol that they were computed under."""

    evaluation_id: UUID
    images_seen: int
    status: str = Field(description="queued, running, done, failed or skipped")
    fid: float | None = None
    kid: float | None = None
    kid_sd: float | None = None
    fid_held_out: float | None = Field(
        None, description="Against the pictures that were kept from the training, where the job kept some"
    )
    kid_held_out: float | None = None
    kid_sd_held_out: float | None = None
    precision: float | None = Field(None, description="Share of generated pictures that look real")
    recall: float | None = Field(None, description="Share of real pictures that the generator covers")
    lpips: float | None = Field(None, description="Diversity: of random pairs of generated pictures")
    lpips_intra: float | None = Field(
        None, description="Diversity of generated pictures that share their nearest training picture"
    )
    intra_fid: float | None = Field(
        None,
        description="Of a training by class: mean over classes of the FID of pictures of a class against its training "
        "pictures",
    )
    intra_fid_per_class: list[float] | None = Field(
        None, description="Of each class of intra_fid_classes; told by a job's metrics only, as these are"
    )
    intra_fid_classes: list[int] | None = Field(
        None,
        description="Those with at least 10 training pictures, as places in the dataset's classes, from 0",
    )
    intra_fid_left_out: int | None = Field(None, description="Classes with fewer")
    copy_rate: float | None = Field(
        None, description="Share of generated pictures nearer to a training picture than copy_threshold"
    )
    copy_threshold: float | None = Field(None, description="LPIPS; a property of the dataset")
    nearest_lpips: float | None = Field(
        None, description="Median distance of generated pictures from their nearest training pictures"
    )
    bank_hit_rate: float | None = Field(
        None,
        description="Share of generated pictures whose nearest training picture is one that their metadata came from",
    )
    inception_score: float | None = Field(
        None, description="Where the extractor is Inception v3; higher is better"
    )
    inception_score_sd: float | None = None
    floor_fid_mirror: float | None = Field(
        None, description="FID of the training set's mirror images against it"
    )
    floor_kid_mirror: float | None = None
    floor_fid_halves: float | None = Field(
        None, description="FID of one random half of the training set against the other"
    )
    floor_kid_halves: float | None = None
    floor_lpips: float | None = Field(
        None, description="Diversity of the training set: of random pairs of it"
    )
    protocol_hash: str
    protocol: dict[str, Any]
    checkpoint_id: UUID | None = None
    picture: PictureOut | None = Field(None, description="Where the evaluation left one")
    error: dict[str, Any] | None = None


class Alarm(BaseModel):
    """What a curve says against the training, since the evaluation that raised it."""

    kind: str = Field(description="copies, kid_below_zero or collapse")
    message: str
    images_seen: int
    evaluation_id: UUID


class JobOut(BaseModel):
    id: UUID
    name: str
    dataset_id: UUID
    dataset_version: int = Field(description="The number of that dataset in its series")
    family: str
    config: dict[str, Any]
    status: Status
    priority: int
    run: int = Field(description="1, and one more for each retry and extension")
    attempt: int = Field(description="How often a worker has taken the job")
    cancel_requested: bool
    pause_requested: bool
    max_queue_s: int | None
    max_run_s: int | None
    run_s: float = Field(description="Seconds that the run's ended attempts have held a device")
    not_before: datetime | None = Field(description="When the job may be tried again, after a failure")
    stop_reason: str | None = Field(
        description="Why the training ended before its total, where a rule ended it"
    )
    alarms: list[Alarm] = Field(description="Raised and not cleared since; config.alarms has the rules")
    init_from: UUID | None
    webhook: Webhook | None
    images_seen: int
    total_images: int
    progress: float = Field(ge=0, le=1)
    images_per_s: float | None
    eta_s: float | None
    losses: dict[str, float] = Field(description="The latest, by name")
    latest: Point | None = Field(description="The newest evaluated snapshot")
    best: Point | None = Field(
        description="Of the snapshots whose KID is near the lowest, the one with few copies and the highest recall. "
        "Selected on the training set: the best of many looks better than it is; `latest` was not selected"
    )
    best_reason: str | None = Field(description="Why that one, in a sentence")
    error: dict[str, Any] | None
    facts: dict[str, Any] = Field(description="What is needed to reproduce the run")
    worker: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


FIELDS = frozenset(JobOut.model_fields)
_ANY_OF_THEM: dict[str, Any] = {name: (field.annotation, None) for name, field in JobOut.model_fields.items()}
JobPart = create_model("JobPart", __doc__="The fields of a job that were asked for", **_ANY_OF_THEM)


class JobFilter(BaseModel):
    """Which of a tenant's jobs to list; what is not given does not count."""

    model_config = ConfigDict(extra="forbid")

    status: list[Status] = Field([], max_length=len(Status), description="Only jobs in one of these states")
    dataset_id: UUID | None = Field(None, description="Only jobs on this dataset")
    family: str | None = Field(None, max_length=40, description="Only jobs of this model family")
    text: str | None = Field(
        None, min_length=1, max_length=200, description="Only jobs whose name contains this, in any case"
    )
    created_after: Moment | None = Field(
        None, description="Only jobs submitted at this time or later (ISO 8601 with a zone)"
    )
    created_before: Moment | None = Field(None, description="Only jobs submitted before this time")


class Fields(BaseModel):
    """Which fields of a job to tell."""

    model_config = ConfigDict(extra="forbid")

    fields: str | None = Field(
        None,
        max_length=1000,
        description="Only these fields, with commas between; without latest and best a list is much faster",
        examples=["id,status,progress"],
    )

    @field_validator("fields")
    @classmethod
    def _are_fields(cls, fields: str | None) -> str | None:
        unknown = set(fields.split(",")) - FIELDS if fields is not None else set()
        if unknown:
            raise ValueError(
                f"a job has no field {', '.join(map(repr, sorted(unknown)))}; it has {', '.join(sorted(FIELDS))}"
            )
        return fields

    @property
    def chosen(self) -> set[str] | None:
        """The names; None: all."""
        return None if self.fields is None else set(self.fields.split(","))

    @property
    def curves_too(self) -> bool:
        """Whether the curves have to be looked at."""
        return self.chosen is None or not self.chosen.isdisjoint({"latest", "best", "best_reason"})


class JobsQuery(JobFilter, Fields):
    """A page of the list of jobs."""

    limit: int = Field(50, ge=1, le=200, description="Items a page")
    cursor: str | None = Field(None, max_length=200, description="next_cursor of the page before")


class ComparedJob(BaseModel):
    """A job's curve under the common protocol."""

    id: UUID
    name: str
    status: Status
    dataset_id: UUID
    best: Point | None = Field(description="As of a job: selected on the training set")
    best_reason: str | None
    latest: Point = Field(description="The newest evaluated snapshot")
    points: list[Point]


class ComparisonOut(BaseModel):
    """Jobs whose numbers compare: one protocol, the same pictures."""

    protocol_hash: str
    protocol: dict[str, Any]
    jobs: list[ComparedJob]


class EventOut(BaseModel):
    """One change of a job; `seq` counts from 1 without gaps and is the SSE id."""

    seq: int
    type: str
    at: datetime
    payload: dict[str, Any]


class LossOut(BaseModel):
    """A stretch of the training: up to `images_seen`, the mean of each loss, and its extremes."""

    images_seen: int
    losses: dict[str, float] = Field(description="Means")
    lowest: dict[str, float]
    highest: dict[str, float]


class LogOut(BaseModel):
    seq: int
    attempt: int
    at: datetime
    line: str


class CheckpointOut(BaseModel):
    """One file: a deployable generator (safetensors) or a complete training state."""

    id: UUID
    job_id: UUID
    kind: str = Field(examples=["generator", "state"])
    images_seen: int
    attempt: int
    size_bytes: int
    sha256: str
    pinned: bool = Field(description="Kept whatever the job's retention says")
    created_at: datetime


class CheckpointPatch(Sent):
    pinned: StrictBool


class SampleOut(BaseModel):
    """A picture of one moment of training, a PNG: the grid of the same latents, or what else its family shows."""

    id: UUID
    job_id: UUID
    kind: SampleKind = "grid"
    images_seen: int
    size_bytes: int
    sha256: str
    created_at: datetime


class WorkerOut(BaseModel):
    name: str
    kind: str = Field(examples=["train", "metrics"])
    device: str
    host: str
    pid: int
    current_job_id: UUID | None
    alive: bool
    drain: str | None = Field(description="finish or hand_back: it takes no new job")
    started_at: datetime
    last_heartbeat_at: datetime
