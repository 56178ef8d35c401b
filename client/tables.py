"""Jobs and datasets as tables on the terminal. What users named is text: rich reads no markup in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import dropwhile
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from client.verdict import fid_text
from core.schemas.usage import DayUsageOut, JobUsageOut

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

    from core.keys.operators import TenantFacts
    from core.schemas.audit import AuditEntryOut
    from core.schemas.datasets import DatasetOut, ImageOut
    from core.schemas.evaluations import EvaluationOut
    from core.schemas.jobs import CheckpointOut, JobOut, LossOut, Point, SampleOut, WorkerOut
    from core.schemas.keys import KeyOut
    from core.schemas.uploads import UploadOut
    from core.schemas.usage import AttemptOut, DeviceTime, UsageOut
    from core.schemas.webhooks import DeliveryOut


def jobs_table(jobs: Iterable[JobOut]) -> Table:
    """A job a row: state, progress, the best snapshot's FID and the last one's, alarms in red."""
    table = Table("id", "name", "status", "images", "best", "last", "alarms", "created", box=None)
    for job in jobs:
        done = f"{job.images_seen}/{job.total_images}"
        best, last = (fid_text(point) if point else "" for point in (job.best, job.latest))
        alarms = ", ".join(alarm.kind.replace("_", " ").upper() for alarm in job.alarms)
        cells = (str(job.id), job.name, job.status.value, done, best, last, alarms, _moment(job.created_at))
        _add(table, *cells, style="bold red" if job.alarms else "")
    return table


def datasets_table(datasets: Iterable[DatasetOut]) -> Table:
    """A version of a dataset a row: its size, and how many classes its pictures have, if any."""
    table = Table("id", "name", "version", "pictures", "classes", "MB", "created", box=None)
    for dataset in datasets:
        size = f"{dataset.size_bytes / 1e6:.1f}"
        created = _moment(dataset.created_at)
        classes = str(len(dataset.classes)) if dataset.classes else ""
        numbers = str(dataset.version), str(dataset.image_count), classes, size
        _add(table, str(dataset.id), dataset.name, *numbers, created)
    return table


def workers_table(workers: Iterable[WorkerOut]) -> Table:
    """A worker a row; of jobs only your own are named."""
    table = Table("name", "kind", "device", "state", "job", "last seen", box=None)
    for worker in workers:
        state = "alive" if worker.alive else "gone"
        if worker.drain is not None:
            state += ", drained" if worker.drain == "finish" else ", drained at once"
        job = str(worker.current_job_id or "")
        _add(table, worker.name, worker.kind, worker.device, state, job, _moment(worker.last_heartbeat_at))
    return table


def keys_table(keys: Iterable[KeyOut]) -> Table:
    """A key a row, without its token."""
    table = Table("id", "name", "begins with", "scopes", "state", "created", "last used", box=None)
    for key in keys:
        used = _moment(key.last_used_at) if key.last_used_at is not None else "never"
        scopes = ", ".join(key.scopes)
        _add(table, str(key.id), key.name, key.hint or "", scopes, _state(key), _moment(key.created_at), used)
    return table


def tenants_table(tenants: Iterable[TenantFacts]) -> Table:
    """A tenant a row."""
    table = Table("name", "live keys", "created", "last seen", box=None)
    for tenant in tenants:
        seen = _moment(tenant.last_used_at) if tenant.last_used_at is not None else "never"
        _add(table, tenant.name, str(tenant.live_keys), _moment(tenant.created_at), seen)
    return table


def usage_table(told: UsageOut) -> Table:
    """A job or a day a row, then the sum."""
    kinds = sorted(told.total.by_device)
    table = Table("what", "training", "evaluation", "together", *kinds, box=None)
    for item in (*_since_the_first(told), told.total):
        match item:
            case JobUsageOut():
                what = f"{item.job_id} {item.name}"
            case DayUsageOut():
                what = str(item.day)
            case _:
                what = "all"
        seconds = (
            item.training_s,
            item.evaluation_s,
            item.device_s,
            *(item.by_device.get(k, 0) for k in kinds),
        )
        _add(table, what, *map(_duration, seconds), style="bold" if item is told.total else "")
    return table


def _since_the_first(told: UsageOut) -> Iterable[DeviceTime]:
    """Without the days before the first on which anything ran."""
    items: list[DeviceTime] = [*told.items]
    return dropwhile(lambda item: isinstance(item, DayUsageOut) and not item.device_s, items)


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _add(table: Table, *cells: str, style: str = "") -> None:
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _state(key: KeyOut) -> str:
    if key.revoked_at is not None:
        return f"revoked {_moment(key.revoked_at)}"
    if key.expires_at is None:
        return "good"
    word = "until" if key.expires_at > datetime.now(UTC) else "ended"
    return f"{word} {_moment(key.expires_at)}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def points_table(points: Iterable[Point]) -> Table:
    """A snapshot a row: its numbers, and under which extractor."""
    columns = ("fid", "kid", "kid_sd", "precision", "recall", "lpips", "copy_rate")
    table = Table("images", "status", *columns, "extractor", box=None)
    for point in points:
        numbers = [_number(getattr(point, name)) for name in columns]
        extractor = str(point.protocol.get("extractor", ""))
        _add(table, str(point.images_seen), point.status, *numbers, extractor)
    return table


def losses_table(losses: list[LossOut]) -> Table:
    """A stretch of the training a row, the mean of each loss."""
    names = sorted({name for one in losses for name in one.losses})
    table = Table("images", *names, box=None)
    for one in losses:
        _add(table, str(one.images_seen), *(_number(one.losses.get(name)) for name in names))
    return table


def attempts_table(attempts: Iterable[AttemptOut]) -> Table:
    """A hold of a device a row."""
    table = Table("what", "run", "number", "worker", "device", "began", "for", "outcome", box=None)
    for one in attempts:
        numbers = (str(one.run), str(one.number))
        outcome = one.outcome or "running"
        device, began = one.device or "", _moment(one.started_at)
        _add(table, one.kind, *numbers, one.worker, device, began, _duration(one.device_s), outcome)
    return table


def checkpoints_table(checkpoints: Iterable[CheckpointOut]) -> Table:
    """A checkpoint a row."""
    table = Table("id", "kind", "images", "MB", "pinned", "sha256", "created", box=None)
    for one in checkpoints:
        size, pinned = f"{one.size_bytes / 1e6:.1f}", "yes" if one.pinned else ""
        _add(
            table,
            str(one.id),
            one.kind,
            str(one.images_seen),
            size,
            pinned,
            one.sha256,
            _moment(one.created_at),
        )
    return table


def samples_table(samples: Iterable[SampleOut]) -> Table:
    """A picture of a snapshot a row."""
    table = Table("id", "kind", "images", "kB", "created", box=None)
    for one in samples:
        size = f"{one.size_bytes / 1e3:.0f}"
        _add(table, str(one.id), one.kind, str(one.images_seen), size, _moment(one.created_at))
    return table


def evaluations_table(evaluations: Iterable[EvaluationOut]) -> Table:
    """An evaluation on demand a row."""
    table = Table("id", "kind", "images", "status", "LPIPS", "created", box=None)
    for one in evaluations:
        lpips = _number((one.metrics or {}).get("lpips"))
        _add(table, str(one.id), one.kind, str(one.images_seen), one.status, lpips, _moment(one.created_at))
    return table


def images_table(images: Iterable[ImageOut]) -> Table:
    """A picture of a dataset a row."""
    table = Table("position", "name", "size", "kB", "class", box=None)
    for one in images:
        size, kilobytes = f"{one.width} x {one.height}", f"{one.size_bytes / 1e3:.0f}"
        _add(table, str(one.position), one.name, size, kilobytes, one.label or "")
    return table


def uploads_table(uploads: Iterable[UploadOut]) -> Table:
    """A large upload a row."""
    table = Table("id", "file", "received", "of MB", "status", "dataset", "kept until", box=None)
    for one in uploads:
        sizes = (f"{one.received_bytes / 1e6:.1f}", f"{one.length_bytes / 1e6:.1f}")
        made = str(one.dataset_id or "")
        _add(table, str(one.id), one.filename, *sizes, one.status, made, _moment(one.expires_at))
    return table


def deliveries_table(deliveries: Iterable[DeliveryOut]) -> Table:
    """A message of a job a row."""
    table = Table("id", "event", "status", "tries", "answer", "why", "to", "created", box=None)
    for one in deliveries:
        answer = str(one.last_status_code or "")
        told = (one.event, one.status, str(one.attempts), answer, one.last_error or "", one.url)
        _add(table, str(one.id), *told, _moment(one.created_at))
    return table


def audit_table(entries: Iterable[AuditEntryOut]) -> Table:
    """A change a row."""
    table = Table("when", "action", "what", "who", "from", box=None)
    for one in entries:
        what, who = one.path or one.subject or "", str(one.key_id or one.actor)
        _add(table, _moment(one.created_at), one.action, what, who, one.address or "")
    return table


def facts_table(thing: BaseModel, *, left_out: set[str] | None = None) -> Table:
    """A field a row, without those that are empty; what has parts is JSON."""
    table = Table.grid(padding=(0, 2))
    for name, value in thing.model_dump(mode="json", exclude=left_out).items():
        if value not in (None, "", [], {}):
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
            _add(table, name, text)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
