"""How long a training would take and how much memory, by what a tenant's earlier jobs took; never by a guess."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, cast, select

from core.jobs.tables import Job
from core.schemas.estimates import DeviceEstimate, EstimateOut

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.schemas.families import Config

# How far back to look, and how many of a device's jobs to take: drivers and machines change.
_LOOKED_AT = 200
_TAKEN = 20
# Before so many iterations a speed tells of caches that fill and of compilers that work.
_WARM_ITERATIONS = 20
# What an iteration costs does not depend on these.
_FREE = frozenset(
    {
        *("version", "seed", "held_out", "fit", "flips", "total_images", "freeze_discriminator"),
        *("evaluate_every_images", "checkpoint_every_images", "evaluation_backlog"),
        *("evaluation", "stopping", "alarms", "retention"),
    }
)


class _Measured(NamedTuple):
    config: dict[str, Any]
    images_per_s: float
    images_seen: int
    device: str
    memory_bytes: int | None


def estimate(session: Session, *, tenant_id: UUID, config: Config) -> EstimateOut:
    """What a training with this configuration would take on each kind of device that the tenant has trained on.

    Args:
        session: for one read.
        tenant_id: whose jobs count; no other tenant's speeds are told.
        config: what would be submitted.
    """
    wanted = config.model_dump(mode="json")
    jobs = [job for job in _measured(session, tenant_id=tenant_id, wanted=wanted) if _is_warm(job)]
    costly = wanted.keys() - _FREE
    same = [job for job in jobs if _agree(job.config, wanted, costly)]
    alike = [job for job in jobs if _agree(job.config, wanted, {*config.architecture, "batch"})]
    found = same or alike
    basis = "same" if same else "alike" if alike else None
    return EstimateOut(
        config=wanted, basis=basis, devices=_by_device(found, total_images=config.total_images)
    )


def _measured(session: Session, *, tenant_id: UUID, wanted: dict[str, Any]) -> list[_Measured]:
    """The tenant's newest jobs of the family at the resolution, with the speed they had last."""
    device = Job.facts["device"].astext
    memory = cast(Job.facts["peak_memory_bytes"].astext, BigInteger)
    query = (
        select(Job.config, Job.images_per_s, Job.images_seen, device, memory)
        .where(Job.tenant_id == tenant_id, Job.family == wanted["family"])
        .where(Job.config.contains({"resolution": wanted["resolution"]}))
        .where(Job.images_per_s > 0, device.is_not(None))
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(_LOOKED_AT)
    )
    return [_Measured(*row) for row in session.execute(query)]


def _is_warm(job: _Measured) -> bool:
    shown: int = job.config["batch"] * job.config.get("discriminator_steps", 1)
    return job.images_seen >= _WARM_ITERATIONS * shown


def _agree(one: dict[str, Any], other: dict[str, Any], names: Iterable[str]) -> bool:
    return all(one.get(name) == other.get(name) for name in names)


def _by_device(jobs: list[_Measured], *, total_images: int) -> list[DeviceEstimate]:
    devices: dict[str, list[_Measured]] = defaultdict(list)
    for job in jobs:
        if len(devices[job.device]) < _TAKEN:
            devices[job.device].append(job)
    estimates = [
        _estimated(device, measured, total_images=total_images) for device, measured in devices.items()
    ]
    return sorted(estimates, key=lambda each: -each.jobs)


def _estimated(device: str, jobs: list[_Measured], *, total_images: int) -> DeviceEstimate:
    speeds = [job.images_per_s for job in jobs]
    return DeviceEstimate(
        device=device,
        jobs=len(jobs),
        images_per_s=median(speeds),
        training_s=total_images / median(speeds),
        fastest_s=total_images / max(speeds),
        slowest_s=total_images / min(speeds),
        memory_bytes=max((job.memory_bytes for job in jobs if job.memory_bytes is not None), default=None),
    )
