"""Evaluate one claimed snapshot: fetch generator and pictures, supervise the child, post the metrics once."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec
from uuid import uuid4

from core import tracing
from core.datasets.files import DatasetFiles, fetch_images
from core.datasets.held_out import split
from core.errors import InfrastructureError, from_code
from core.evaluations import service
from core.files import sha256_of
from core.garbage.names import clear
from core.jobs import filenames, lease
from core.jobs.workers import drain_of
from core.schemas.families import parse_config
from core.schemas.ticks import ErrorTick, EvaluationSpec, MetricsTick, Tick
from core.settings import settings
from core.storage import remove, store
from worker.artifacts import put
from worker.holding import holding
from worker.process import Child
from worker.supervisor import Ending, LeaseKeeper, supervise, write
from worker.training import scratch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.evaluations.service import Claim
    from worker.stopping import Flag

logger = logging.getLogger(__name__)
P = ParamSpec("P")


class _Remember:
    """An evaluation's only effect is its result, posted at the end."""

    result: MetricsTick | None = None

    def carry_out(self, ticks: list[Tick], log: list[str]) -> None:
        for tick in ticks:
            if isinstance(tick, MetricsTick):
                self.result = tick
        for line in log:
            logger.info("%s", line)


def evaluate(claim: Claim, *, worker: str, stop: Flag) -> None:
    """Hold one evaluation from its claim to its end.

    Args:
        claim: committed.
        worker: this worker's name.
        stop: set when the worker should end.
    """

    def beat(session: Session, due: bool) -> lease.Wish:  # noqa: FBT001  # a callback's two positions
        if due:
            service.heartbeat(session, claim, lease_s=settings().lease_s)
        return lease.Wish.HAND_BACK if drain_of(session, worker) == "hand_back" else lease.Wish.GO_ON

    with holding(
        f"Evaluation {claim.evaluation_id}",
        lose=lambda error, most, pause_s: _end(
            service.lose, claim, error, max_attempts=most, pause_s=pause_s
        ),
        give_up=lambda error: _end(service.give_up, claim, error),
    ):
        try:
            with LeaseKeeper(beat) as keeper:
                _evaluate(claim, keeper=keeper, work_dir=scratch(worker), stop=stop)
        finally:
            shutil.rmtree(scratch(worker), ignore_errors=True)


def _evaluate(claim: Claim, *, keeper: LeaseKeeper, work_dir: Path, stop: Flag) -> None:
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    child = Child(
        settings().evaluate_module,
        _specify(claim, work_dir=work_dir),
        work_dir=work_dir,
        threads=settings().evaluation_threads or settings().threads,
        environment=tracing.environment(),
    )
    effects = _Remember()
    try:
        ending = supervise(child, effects=effects, keeper=keeper, stop=stop)
    finally:
        child.close()
    result: Any = effects.result
    if result is not None and child.return_code == 0:
        _post(claim, result, work_dir=work_dir)
    elif isinstance(child.last, ErrorTick):
        raise from_code(child.last.code, child.last.message, **child.last.details)
    elif ending in (Ending.STOPPED, Ending.DRAINED):
        write(service.hand_back, claim)
    else:
        how = f"The evaluating process ended with code {child.return_code}."
        raise InfrastructureError(how, last_lines=list(child.last_lines))


def _post(claim: Claim, result: MetricsTick, *, work_dir: Path) -> None:
    """Store the picture, then write the row that names it and the metrics; a file without a row is removed again."""
    picture = None
    key = f"jobs/{claim.job_id}/{claim.run}/picture-{claim.images_seen:010d}-{uuid4().hex[:8]}.png"
    if result.picture is not None:
        filename = filenames.picture(claim.job_id, kind=claim.kind, images_seen=claim.images_seen)
        try:
            picture = put(work_dir / result.picture, key=key, filename=filename)
        except InfrastructureError as error:
            # The numbers took minutes or hours and are worth more than the picture of them.
            logger.warning("Evaluation %s is posted without its picture: %s", claim.evaluation_id, error)
    try:
        _end(service.post, claim, result.metrics, picture)
    finally:
        if result.picture is not None:  # also where the store took it, and its answer was lost
            clear([key])


def _end(
    work: Callable[Concatenate[Session, Claim, P], list[str]], claim: Claim, *args: P.args, **kwargs: P.kwargs
) -> None:
    """Write how an evaluation ended, then delete the files that need not be kept any longer. Raises LeaseLost."""
    remove(write(work, claim, *args, **kwargs), store=store())


def _specify(claim: Claim, *, work_dir: Path) -> EvaluationSpec:
    cache_dir = settings().data_dir.absolute() / "cache"
    every = write(DatasetFiles.of, claim.dataset_id)
    config = parse_config(claim.config)
    files, held_out = split(every, share=config.held_out)
    generator = work_dir / "generator.safetensors"
    store().fetch(claim.generator_key, generator)
    if sha256_of(generator) != claim.generator_sha256:
        raise InfrastructureError(
            f"The stored generator {claim.generator_key} is damaged: its sha256 differs."
        )
    return EvaluationSpec(
        generator=generator,
        images_dir=fetch_images(files, store(), cache_dir=cache_dir),
        held_out_dir=None if held_out is None else fetch_images(held_out, store(), cache_dir=cache_dir),
        dataset_hash=files.learned_hash(with_labels=config.needs_labels),
        config=config,
        protocol=claim.protocol,
        cache_dir=cache_dir,
        weights_dir=settings().weights_dir.absolute(),
        device="cpu" if settings().device == "cpu" else "cuda:0",
        work_dir=work_dir,
        classes=files.classes if config.needs_labels else (),
        labels=files.labels if config.needs_labels else None,
        held_out_labels=held_out.labels if held_out is not None and config.needs_labels else None,
    )
