"""One story for the document's examples: a dataset, the job that trains on it, and what the job leaves.

The things are the schemas' own objects: a schema that changes changes its example, or mypy and pydantic refuse it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from api.routes.health import Healthy
from core.schemas.audit import AuditEntryOut
from core.schemas.datasets import DatasetOut, Finding, FoundPicture, ImageOut, Lint, Rejection
from core.schemas.estimates import DeviceEstimate, EstimateIn, EstimateOut
from core.schemas.evaluations import BacktrackingIn, EvaluationOut
from core.schemas.generations import ExportIn, PicturesIn
from core.schemas.jobs import (
    CheckpointOut,
    CheckpointPatch,
    ComparedJob,
    ComparisonOut,
    EventOut,
    ExtendIn,
    JobIn,
    JobOut,
    LogOut,
    LossOut,
    PictureOut,
    Point,
    RetryIn,
    SampleOut,
    Status,
    WorkerOut,
)
from core.schemas.judging import EvaluationConfig
from core.schemas.keys import CurrentKeyOut, KeyIn, KeyOut, NewKeyOut, RotateIn
from core.schemas.models import ModelOut
from core.schemas.renderings import ExportOut, GenerationOut, RenderedFileOut, RenderingStatus
from core.schemas.slaegan import SlaeganConfig
from core.schemas.uploads import UploadDatasetIn, UploadOut
from core.schemas.usage import AttemptOut, DeviceTime, JobUsageOut, UsageOut
from core.schemas.webhooks import DeliveryOut, Webhook, WebhookSecretOut

if TYPE_CHECKING:
    from pydantic import BaseModel

DATASET = UUID("5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
NEXT_VERSION = UUID("25c3b69a-71db-46c8-94bf-f3aecf3041ee")
JOB = UUID("6f6d2f0a-93f4-4a3e-8f37-4f6a2b1c9d22")
OTHER_JOB = UUID("7a1e4b58-2c06-4f7b-b6d4-1e9c5d3f8e33")
CHECKPOINT = UUID("8b2f7c94-5d31-4c68-a1e5-6a7d9b0c2f44")
EVALUATION = UUID("9c3a8d07-1e42-4b97-8d26-3f8b5c6e1a55")
BACKTRACKING = UUID("ad4b9e16-8f53-4ea0-9c37-7b2c4d5f6e66")
SAMPLE = UUID("be5caf25-0a64-4fb1-ad48-8c3d5e6f7a77")
UPLOAD = UUID("d07ec145-2c86-41d3-8f6a-ae5f7a8b9c99")
KEY = UUID("e18fd256-3d97-42e4-907b-bf6a8b9c0daa")
NEW_KEY = UUID("f290e367-4ea8-43f5-a18c-c07b9c0d1ebb")
TENANT = UUID("03a1f478-5fb9-44a6-b29d-d18cad1e2fcc")
AUDIT_ENTRY = UUID("14b2a589-60ca-45b7-83ae-e29dbe2f30dd")
GENERATION = UUID("25c3b69a-71db-46c8-94bf-f3aecf3041ab")
EXPORT = UUID("36d4c7ab-82ec-47d9-a5c0-a4bfd0415bbc")
DELIVERY = UUID("cf6db034-1b75-40c2-be59-9d4e6f7a8b88")
PICTURE_SHA256 = "3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b"
GENERATOR_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CONTENT_HASH = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
PROTOCOL_HASH = "fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13"
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOTAL_IMAGES = 80_000
PROTOCOL = {"version": 1, "extractor": "vgg16", "precision": "fp32", "resolution": 64, "real": 96, "seed": 0}
CONFIG = SlaeganConfig(
    resolution=64, total_images=TOTAL_IMAGES, evaluation=EvaluationConfig(extractor="vgg16", precision="fp32")
)


def _at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


WEBHOOK = Webhook(url="https://example.com/hooks/slaegan", events=["succeeded", "failed"])
RATED = Point(
    evaluation_id=EVALUATION, images_seen=72_000, status="done", fid=41.7, kid=0.0124, kid_sd=0.0011,
    precision=0.71, recall=0.38, lpips=0.42, copy_rate=0.03, copy_threshold=0.11, protocol_hash=PROTOCOL_HASH,
    protocol=PROTOCOL, checkpoint_id=CHECKPOINT,
    picture=PictureOut(url=f"/v1/evaluations/{EVALUATION}/picture.png", size_bytes=91_230, sha256=PICTURE_SHA256),
)  # fmt: skip
QUEUED = JobOut(
    id=JOB, name="first", dataset_id=DATASET, dataset_version=1, family="slaegan",
    config=CONFIG.model_dump(mode="json"),
    status=Status.QUEUED, priority=0, run=1, attempt=0, cancel_requested=False, pause_requested=False,
    max_queue_s=None, max_run_s=None, run_s=0.0, not_before=None, stop_reason=None, alarms=[], init_from=None,
    webhook=WEBHOOK, images_seen=0, total_images=TOTAL_IMAGES, progress=0.0, images_per_s=None, eta_s=None, losses={},
    latest=None, best=None, best_reason=None, error=None, facts={}, worker=None, created_at=_at(1), started_at=None,
    finished_at=None,
)  # fmt: skip
RUNNING = QUEUED.model_copy(
    update={
        "status": Status.RUNNING, "attempt": 1, "images_seen": 74_000, "progress": 0.925, "images_per_s": 96.5,
        "eta_s": 62.2, "losses": {"d": 0.91, "g": 0.34}, "latest": RATED, "best": RATED,
        "best_reason": "It has the lowest KID.", "worker": "train@node-1", "started_at": _at(1.1),
        "facts": {"device": "cpu", "dataset_hash": CONTENT_HASH},
    }
)  # fmt: skip
SUCCEEDED = RUNNING.model_copy(
    update={
        "status": Status.SUCCEEDED, "images_seen": TOTAL_IMAGES, "progress": 1.0, "eta_s": None, "worker": None,
        "run_s": 829.0, "finished_at": _at(15.5),
    }
)  # fmt: skip
EVALUATED = EvaluationOut(
    id=BACKTRACKING, job_id=JOB, kind="backtracking", images_seen=72_000, checkpoint_id=CHECKPOINT, status="done",
    metrics={"lpips": 0.21, "lpips_sd": 0.04, "lpips_per_picture": [0.18, 0.24]}, protocol_hash=PROTOCOL_HASH,
    protocol={"version": 1, "of": "training", "pictures": 2, "steps": 200, "seed": 0},
    picture=PictureOut(url=f"/v1/evaluations/{BACKTRACKING}/picture.png", size_bytes=48_112, sha256=PICTURE_SHA256),
    error=None, created_at=_at(20), finished_at=_at(22),
)  # fmt: skip
WAITING = EVALUATED.model_copy(
    update={"status": "queued", "metrics": None, "picture": None, "finished_at": None}
)
GENERATED = GenerationOut(
    id=GENERATION, job_id=JOB, checkpoint_id=CHECKPOINT, generator_sha256=GENERATOR_SHA256, images_seen=72_000,
    kind="pictures",
    request=PicturesIn(seed=1, count=16).model_dump(mode="json", exclude={"checkpoint_id"}),
    status=RenderingStatus.DONE, attempts=1,
    files=[
        RenderedFileOut(
            name="pictures.zip", role="main", media_type="application/zip", size_bytes=190_220, sha256=CONTENT_HASH,
            url=f"/v1/generations/{GENERATION}/file",
        ),
        RenderedFileOut(
            name="grid.png", role="preview", media_type="image/png", size_bytes=188_417, sha256=PICTURE_SHA256,
            url=f"/v1/generations/{GENERATION}/files/grid.png",
        ),
    ],
    facts={"device": "cpu"}, error=None, created_at=_at(30), started_at=_at(30.01), finished_at=_at(30.04),
    expires_at=_at(30.04 + 7 * 1_440),
)  # fmt: skip
EXPORTED = ExportOut(
    id=EXPORT, job_id=JOB, checkpoint_id=CHECKPOINT, generator_sha256=GENERATOR_SHA256, images_seen=72_000,
    kind="export", request={"kind": "export", "format": "onnx"}, status=RenderingStatus.DONE, attempts=1,
    files=[
        RenderedFileOut(
            name="generator.onnx", role="main", media_type="application/octet-stream", size_bytes=29_501_330,
            sha256=CONTENT_HASH, url=f"/v1/exports/{EXPORT}/file",
        )
    ],
    facts={"largest_difference": 2.1e-6}, error=None, created_at=_at(40), started_at=_at(40.01),
    finished_at=_at(40.5), expires_at=_at(40.5 + 7 * 1_440),
)  # fmt: skip
ASKED: dict[str, Any] = {
    "status": RenderingStatus.QUEUED, "attempts": 0, "files": [], "facts": None, "started_at": None,
    "finished_at": None, "expires_at": None,
}  # fmt: skip
DELIVERED = DeliveryOut(
    id=DELIVERY, job_id=JOB, event="succeeded", event_seq=41, url=WEBHOOK.url, status="delivered", attempts=1,
    last_status_code=204, last_error=None, next_attempt_at=None, created_at=_at(15.5), delivered_at=_at(15.6),
)  # fmt: skip
SECRET = WebhookSecretOut(
    secret="whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",  # noqa: S106  # the example of the published standard
    created_at=_at(0),
    previous_until=None,
)
GENERATOR = CheckpointOut(
    id=CHECKPOINT, job_id=JOB, kind="generator", images_seen=72_000, attempt=1, size_bytes=29_482_112,
    sha256=GENERATOR_SHA256, pinned=False, created_at=_at(13.9),
)  # fmt: skip

FIRST_VERSION = DatasetOut(
    id=DATASET, name="emoji", series_id=DATASET, version=1, parent_id=None, image_count=96, added_count=96,
    removed_count=0, size_bytes=412_880, content_hash=CONTENT_HASH,
    rejected=[Rejection(name="notes.txt", code="not_an_image", reason="No picture of a known format.")],
    lint={"unusable": 1, "near_duplicate": 2}, created_at=_at(0),
)  # fmt: skip
THUMBNAILS = f"/v1/datasets/{DATASET}/images"
LINT = Lint(
    findings=[
        Finding(
            code="near_duplicate", kind="group", severity="warning", advice="Keep one of them.", count=2,
            pictures=[
                FoundPicture(position=0, name="smile.png", thumbnail=f"{THUMBNAILS}/0/thumbnail"),
                FoundPicture(position=7, name="smile-2.png", thumbnail=f"{THUMBNAILS}/7/thumbnail"),
            ],
        ),
        Finding(
            code="unusable", kind="rejected", severity="note", advice="These files were left out.", count=1,
            pictures=[FoundPicture(position=None, name="notes.txt")],
        ),
    ],
    counts={"near_duplicate": 2, "unusable": 1},
)  # fmt: skip
UPLOADING = UploadOut(
    id=UPLOAD, filename="cats.zip", length_bytes=734_003_200, received_bytes=268_435_456, status="receiving",
    dataset_id=None, created_at=_at(0), expires_at=_at(1_440),
)  # fmt: skip
LAPTOP = KeyOut(
    id=KEY, name="laptop", hint="slg_Ab3d", scopes=["read", "write", "admin"], created_at=_at(-60), expires_at=None,
    last_used_at=_at(14), revoked_at=None, replaced_by=None,
)  # fmt: skip
ROBOT = NewKeyOut(
    id=NEW_KEY, name="robot", hint="slg_9fKq", scopes=["read"], created_at=_at(30), expires_at=_at(525_600),
    last_used_at=None, revoked_at=None, replaced_by=None, token="slg_9fKq…",  # noqa: S106  # the rest stays untold
)  # fmt: skip
ON_CPU = DeviceTime(device_s=868.2, training_s=829.0, evaluation_s=39.2, by_device={"cpu": 868.2})

# What an operation says or takes, where its schema's example would tell another story.
BY_OPERATION: dict[str, BaseModel] = {
    "create_version": FIRST_VERSION.model_copy(
        update={
            "id": NEXT_VERSION,
            "version": 2,
            "parent_id": DATASET,
            "image_count": 103,
            "added_count": 8,
            "removed_count": 1,
            "rejected": [],
            "lint": {"near_duplicate": 2},
            "created_at": _at(5),
        }
    ),
    "create_upload": UPLOADING.model_copy(update={"received_bytes": 0}),
    "rotate_key": ROBOT.model_copy(update={"name": "laptop", "scopes": LAPTOP.scopes, "expires_at": None}),
    "create_job": QUEUED,
    "cancel_job": QUEUED.model_copy(update={"status": Status.CANCELLED, "finished_at": _at(2)}),
    "pause_job": RUNNING.model_copy(update={"pause_requested": True}),
    "resume_job": RUNNING.model_copy(update={"status": Status.QUEUED, "worker": None}),
    "retry_job": QUEUED.model_copy(update={"run": 2}),
    "extend_job": RUNNING.model_copy(
        update={"status": Status.QUEUED, "run": 2, "total_images": 2 * TOTAL_IMAGES, "progress": 0.5}
    ),
    "create_backtracking": WAITING,
    "cancel_evaluation": WAITING.model_copy(update={"status": "skipped", "finished_at": _at(21)}),
    "create_generation": GENERATED.model_copy(update=ASKED),
    "create_export": EXPORTED.model_copy(update=ASKED),
    "redeliver": DELIVERED.model_copy(
        update={"status": "pending", "attempts": 0, "last_status_code": None, "delivered_at": None}
    ),
    "rotate_webhook_secret": SECRET.model_copy(update={"created_at": _at(60), "previous_until": _at(1_500)}),
    "patch_checkpoint": GENERATOR.model_copy(update={"pinned": True}),
}


def _compared(job: UUID, name: str, point: Point) -> ComparedJob:
    return ComparedJob(
        id=job, name=name, status=Status.SUCCEEDED, dataset_id=DATASET, best=point,
        best_reason="It has the lowest KID.", latest=point, points=[point],
    )  # fmt: skip


def _comparison() -> ComparisonOut:
    other = RATED.model_copy(update={"fid": 44.2, "kid": 0.0151, "checkpoint_id": None, "picture": None})
    jobs = [_compared(JOB, "first", RATED), _compared(OTHER_JOB, "second", other)]
    return ComparisonOut(protocol_hash=PROTOCOL_HASH, protocol=PROTOCOL, jobs=jobs)


def things() -> dict[str, dict[str, Any]]:
    """An example of each schema, by the schema's name, as JSON."""
    return {
        type(thing).__name__: as_json(thing) for thing in (*_things_of_trainings(), *_things_of_the_service())
    }


def as_json(thing: BaseModel) -> dict[str, Any]:
    """A thing as a client sees it; of what a client sends, only what differs from the defaults."""
    sent = type(thing).__name__.endswith(("In", "Patch"))
    return thing.model_dump(mode="json", by_alias=True, exclude_unset=sent)


def _things_of_trainings() -> list[BaseModel]:
    return [
        FIRST_VERSION,
        LINT,
        UPLOADING,
        UploadDatasetIn(name="cats"),
        ImageOut(
            position=0, name="smile.png", width=72, height=72, size_bytes=4_301, sha256=PICTURE_SHA256
        ),
        JobIn(dataset_id=DATASET, name="first", config=SlaeganConfig(resolution=64), webhook=WEBHOOK),
        EstimateIn(config=SlaeganConfig(resolution=64)),
        EstimateOut(
            config=CONFIG.model_dump(mode="json"), basis="same",
            devices=[
                DeviceEstimate(
                    device="NVIDIA L4", jobs=3, images_per_s=96.5, training_s=829.0, fastest_s=812.4, slowest_s=841.7,
                    memory_bytes=6_012_954_214,
                )
            ],
        ),
        RetryIn(fresh=True),
        ExtendIn(total_images=2 * TOTAL_IMAGES),
        SUCCEEDED,
        RATED,
        LossOut(
            images_seen=72_000, losses={"d": 0.91, "g": 0.34}, lowest={"d": 0.42, "g": -0.61},
            highest={"d": 1.73, "g": 1.12},
        ),
        EventOut(seq=41, type="succeeded", at=_at(15.5), payload={}),
        LogOut(seq=1, attempt=1, at=_at(1.2), line="96 pictures at 64x64 on cpu"),
        GENERATOR,
        CheckpointPatch(pinned=True),
        SampleOut(
            id=SAMPLE, job_id=JOB, images_seen=72_000, size_bytes=201_334, sha256=PICTURE_SHA256, created_at=_at(13.9)
        ),
        BacktrackingIn(of="training", pictures=2),
        EVALUATED,
        _comparison(),
        PicturesIn(kind="pictures", seed=1, count=16),
        ExportIn(format="onnx"),
        GENERATED,
        EXPORTED,
    ]  # fmt: skip


def _things_of_the_service() -> list[BaseModel]:
    return [
        DELIVERED,
        SECRET,
        WorkerOut(
            name="train@node-1", kind="train", device="cpu", host="node-1", pid=4711, current_job_id=JOB, alive=True,
            drain=None, started_at=_at(-30), last_heartbeat_at=_at(14),
        ),
        ModelOut(
            family="slaegan", title="SLAE-GAN", description="FastGAN with spatial attention in its excitation.",
            labels="ignored", source=SlaeganConfig.source, config_schema={"type": "object", "title": "SlaeganConfig"},
            defaults={"family": "slaegan", "resolution": 256},
        ),
        KeyIn(name="robot", scopes=["read"], expires_at=_at(525_600)),
        ROBOT,
        LAPTOP,
        CurrentKeyOut(**LAPTOP.model_dump(), tenant_id=TENANT, tenant="lab"),
        RotateIn(grace_s=3_600),
        AuditEntryOut(
            id=AUDIT_ENTRY, created_at=_at(1), actor="key", key_id=KEY, action="create_job", subject=str(JOB),
            request_id="29907fa2b26643a5bee253ce0d660605", method="POST", path="/v1/jobs", address="192.0.2.7",
        ),
        UsageOut(
            since=_at(-43_200), until=_at(30), total=ON_CPU,
            items=[JobUsageOut(job_id=JOB, name="first", attempts=4, **ON_CPU.model_dump())],
        ),
        AttemptOut(
            kind="training", evaluation_id=None, run=1, number=1, worker="train@node-1", device="cpu",
            started_at=_at(1.1), ended_at=_at(14.9), device_s=829.0, outcome="finished",
        ),
        Healthy(),
    ]  # fmt: skip
