"""Train one claimed job: fetch its pictures and its last state, supervise the child, end the attempt."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import tracing
from core.datasets.conditional import require_labels
from core.datasets.files import DatasetFiles, fetch_images
from core.datasets.held_out import split
from core.errors import DatabaseUnavailable, DataFailed, LeaseLost, SlaeganError, StoreUnavailable
from core.files import sha256_of
from core.jobs import lease, records
from core.jobs.service import submitted_with
from core.jobs.tables import Checkpoint
from core.metrics.protocol import planned_protocol
from core.schemas.families import parse_config
from core.schemas.ticks import TrainingSpec
from core.settings import settings
from core.storage import as_disk_error, remove, store
from core.version import commit
from worker import outcome
from worker.effects import TrainingEffects
from worker.process import Child
from worker.spans import TracedEffects
from worker.supervisor import Ending, LeaseKeeper, supervise, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core.jobs.lease import Attempt
    from core.schemas.training import TrainingConfig
    from worker.stopping import Flag

logger = logging.getLogger(__name__)
# Pictures in memory at a time, of a job that has run out of it once: batch normalisation needs two.
SMALL_PARTS = 2


def train(attempt: Attempt, *, worker: str, stop: Flag) -> None:
    """Hold one attempt from its claim to its end. Whatever happens is on the job's record when this returns.

    Args:
        attempt: claimed and committed.
        worker: this worker's name; its scratch folder is named so.
        stop: set when the worker should end.
    """

    def beat(session: Session, due: bool) -> lease.Wish:  # noqa: FBT001  # a callback's two positions
        if due:
            lease.heartbeat(session, attempt, lease_s=settings().lease_s)
        return lease.wish(session, attempt)

    try:
        with LeaseKeeper(beat) as keeper:
            _train(attempt, keeper=keeper, work_dir=scratch(worker), stop=stop)
    except LeaseLost as error:
        logger.warning("Attempt %d of job %s stops: %s", attempt.number, attempt.job_id, error)
    finally:
        shutil.rmtree(scratch(worker), ignore_errors=True)


def scratch(worker: str) -> Path:
    """The folder of a worker's present child; what a killed predecessor left there is of no use."""
    return settings().data_dir.absolute() / "scratch" / worker


def _train(attempt: Attempt, *, keeper: LeaseKeeper, work_dir: Path, stop: Flag) -> None:
    kills_before = outcome.oom_kills()
    last_lines: Sequence[str] = ()
    try:
        shutil.rmtree(work_dir, ignore_errors=True)
        work_dir.mkdir(parents=True)
        config = parse_config(attempt.config)
        every = write(DatasetFiles.of, attempt.dataset_id)
        require_labels(every, config=config)
        files, held_out = split(every, share=config.held_out)
        protocol = planned_protocol(
            config,
            image_count=files.count,
            held_out=0 if held_out is None else held_out.count,
            classes=files.classes,
            labels=files.labels,
        )
        effects = TrainingEffects(attempt, config=config, protocol=protocol, work_dir=work_dir)
        with tracing.span("prepare"):
            spec = _specify(attempt, config=config, files=files, work_dir=work_dir)
        child = Child(
            settings().train_module,
            spec,
            work_dir=work_dir,
            threads=settings().threads,
            environment=tracing.environment(),
        )
        traced = TracedEffects(effects)
        last_lines = child.last_lines
        try:
            ending = supervise(child, effects=traced, keeper=keeper, stop=stop)
        finally:
            child.close()
            traced.end()
        tracing.note(ending=ending.value)
        # A worker that must go has little time: the next attempt moves the log.
        if ending not in {Ending.STOPPED, Ending.DRAINED, Ending.CANCELLED}:
            effects.ship_log()
        outcome.conclude(attempt, child, ending, memory_ran_out=outcome.oom_kills() > kills_before)
    except LeaseLost:
        raise
    except SlaeganError as error:
        outcome.give_up(attempt, error, last_lines=last_lines)
    except OSError as error:
        outcome.give_up(attempt, as_disk_error(error, settings().data_dir), last_lines=last_lines)
    except DBAPIError as error:
        away = DatabaseUnavailable(f"The database failed: {error.orig}")
        outcome.give_up(attempt, away, last_lines=last_lines)
    except Exception as error:
        logger.exception(
            "Attempt %d of job %s met an error that is not its own.", attempt.number, attempt.job_id
        )
        outcome.give_up(attempt, SlaeganError(f"{type(error).__name__}: {error}"), last_lines=last_lines)


def _specify(
    attempt: Attempt, *, config: TrainingConfig, files: DatasetFiles, work_dir: Path
) -> TrainingSpec:
    cache_dir = settings().data_dir.absolute() / "cache"
    images_dir = fetch_images(files, store(), cache_dir=cache_dir)
    resume = _resume(attempt, work_dir=work_dir)
    return TrainingSpec(
        config=config,
        images_dir=images_dir,
        dataset_hash=files.learned_hash(with_labels=config.needs_labels),
        work_dir=work_dir,
        cache_dir=cache_dir,
        weights_dir=settings().weights_dir.absolute(),
        device="cpu" if settings().device == "cpu" else "cuda:0",
        resume=resume,
        init_from=None if resume else _init_from(attempt, work_dir=work_dir),
        micro_batch=min(SMALL_PARTS, config.batch) if attempt.out_of_memory else None,
        commit=commit(),
        classes=files.classes if config.needs_labels else (),
        labels=files.labels if config.needs_labels else None,
    )


def _resume(attempt: Attempt, *, work_dir: Path) -> Path | None:
    """Fetch the newest whole training state; a damaged one is discarded and the one before is used.

    One that the store does not give is passed over, and its row stays: the store may only be away.

    Raises:
        StoreUnavailable: the store gives none of them.
    """
    target = work_dir / "resume.state"
    states = write(records.latest_states, attempt.job_id, run=attempt.run)
    away = None
    for state in states:
        try:
            store().fetch(state.storage_key, target)
        except StoreUnavailable as error:
            logger.warning("The state of %d images cannot be fetched: %s", state.images_seen, error)
            away = error
            continue
        found = sha256_of(target)
        if found == state.sha256:
            write(records.record_resume, attempt, state)
            return target
        write(records.discard_damaged, attempt, state, found=found)
        remove([state.storage_key], store=store())
    if away is not None:
        raise away
    return None


def _init_from(attempt: Attempt, *, work_dir: Path) -> Path | None:
    """Fetch the checkpoint to begin from, where the job was submitted with one.

    Raises:
        DataFailed: it is damaged or deleted: random weights instead would be another training.
    """
    checkpoint_id = write(submitted_with, attempt.job_id)
    if checkpoint_id is None:
        return None
    checkpoint = write(Session.get, Checkpoint, checkpoint_id)
    if checkpoint is None:
        raise DataFailed(
            f"The checkpoint {checkpoint_id} to begin from is deleted.", checkpoint_id=str(checkpoint_id)
        )
    target = work_dir / "init.checkpoint"
    store().fetch(checkpoint.storage_key, target)
    if sha256_of(target) != checkpoint.sha256:
        raise DataFailed(
            f"The checkpoint {checkpoint.id} to begin from is damaged in the store: its sha256 differs.",
            checkpoint_id=str(checkpoint.id),
        )
    return target
