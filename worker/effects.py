"""What a training's ticks do: artifacts go to the store first, then rows and events in one transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from core.broker import wake
from core.errors import InfrastructureError
from core.evaluations import service as evaluations
from core.garbage.names import clear
from core.jobs import filenames, records
from core.jobs.lease import fenced
from core.jobs.retention import KEPT_STATES
from core.logs.shipping import ship_tail, tail_length
from core.schemas.ticks import (
    FactsTick,
    PreparingTick,
    ProgressTick,
    SnapshotTick,
    StateTick,
    Tick,
    WarningTick,
)
from core.settings import settings
from core.storage import remove, store
from worker.artifacts import put
from worker.supervisor import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from core.jobs.records import StoredFile
    from core.metrics.protocol import MetricProtocol
    from core.schemas.training import TrainingConfig

logger = logging.getLogger(__name__)


class TrainingEffects:
    """The effects of one attempt.

    Args:
        attempt: every write is fenced by it.
        config: of the job.
        protocol: under which its snapshots will be evaluated.
        work_dir: where the child leaves its files.
    """

    def __init__(
        self, attempt: Attempt, *, config: TrainingConfig, protocol: MetricProtocol, work_dir: Path
    ) -> None:
        self._attempt = attempt
        self._config, self._protocol = config, protocol
        self._work_dir = work_dir
        self._ship_at = settings().log_chunk_lines

    def carry_out(self, ticks: list[Tick], log: list[str]) -> None:
        """Carry out what the child said since the last call, in its order."""
        progress: list[ProgressTick] = []
        prepared: list[str] = []
        for tick in ticks:
            if isinstance(tick, ProgressTick):
                progress.append(tick)
                continue
            self._record(progress)
            progress = []
            match tick:
                case PreparingTick():
                    prepared.append(f"{tick.done} of {tick.total} pictures are prepared")
                case FactsTick():
                    write(records.record_facts, self._attempt, tick.facts)
                case StateTick():
                    self._keep_state(tick)
                case SnapshotTick():
                    self._keep_snapshot(tick)
                case WarningTick():
                    remove(write(records.record_warning, self._attempt, tick), store=store())
        self._record(progress)
        if prepared or log:
            self._record_log(prepared + log)

    def _record(self, progress: list[ProgressTick]) -> None:
        if not progress:
            return
        losses = {tick.images_seen: tick.losses for tick in progress}
        newest = progress[-1]
        write(
            lambda session: records.record_progress(
                session,
                self._attempt,
                images_seen=newest.images_seen,
                images_per_s=newest.images_per_s,
                losses=losses,
                peak_memory_bytes=newest.peak_memory_bytes,
            )
        )

    def _record_log(self, log: list[str]) -> None:
        def rows(session: Session) -> int:
            last = records.record_log(session, self._attempt, log)
            return tail_length(session, self._attempt.job_id, log_seq=last)

        waiting = write(rows)
        if waiting >= self._ship_at:
            # A store that takes nothing is asked again when as much has come once more.
            taken = self.ship_log(at_least=settings().log_chunk_lines)
            self._ship_at = settings().log_chunk_lines + (0 if taken else waiting)

    def ship_log(self, *, at_least: int = 1) -> bool:
        """Move the log's tail to the store. Raises LeaseLost.

        Args:
            at_least: so many lines make a chunk; fewer stay in the database.

        Returns:
            Whether the store took it. If not, the lines stay in the database, to be read and to be moved later: by
            this attempt, the next, or the garbage collection once the job is over.
        """
        try:
            ship_tail(
                self._attempt.job_id,
                run=self._attempt.run,
                attempt=self._attempt.number,
                hold=lambda session: fenced(session, self._attempt),
                transact=write,
                folder=self._work_dir,
                at_least=at_least,
            )
        except (InfrastructureError, OSError) as error:
            logger.warning("The log of job %s stays in the database: %s", self._attempt.job_id, error)
            return False
        return True

    def _keep_state(self, tick: StateTick) -> None:
        file = self._put(tick.state, kind="state", images_seen=tick.images_seen)

        def rows(session: Session) -> list[str]:
            records.record_checkpoint(
                session, self._attempt, file, kind="state", images_seen=tick.images_seen
            )
            return records.forget_states(session, self._attempt, keep=KEPT_STATES)

        self._commit(rows, [file])

    def _keep_snapshot(self, tick: SnapshotTick) -> None:
        generator = self._put(tick.generator, kind="generator", images_seen=tick.images_seen)
        pictures = {
            kind: self._put(name, kind=kind, images_seen=tick.images_seen)
            for kind, name in {"grid": tick.grid, **tick.extras}.items()
        }

        def rows(session: Session) -> list[str]:
            forgotten: list[str] = []
            checkpoint_id = records.record_checkpoint(
                session, self._attempt, generator, kind="generator", images_seen=tick.images_seen
            )
            if checkpoint_id is not None:
                evaluations.plan(
                    session,
                    job_id=self._attempt.job_id,
                    run=self._attempt.run,
                    images_seen=tick.images_seen,
                    checkpoint_id=checkpoint_id,
                    protocol=self._protocol.model_dump(mode="json"),
                    protocol_hash=self._protocol.hash(),
                )
                forgotten = evaluations.skip_overtaken(
                    session, job_id=self._attempt.job_id, run=self._attempt.run, config=self._config
                )
            for kind, picture in pictures.items():
                records.record_sample(
                    session, self._attempt, picture, images_seen=tick.images_seen, kind=kind
                )
            return forgotten

        self._commit(rows, [generator, *pictures.values()])
        wake("metrics")

    def _commit(self, rows: Callable[[Session], list[str]], files: list[StoredFile]) -> None:
        """Write the rows of stored files, then delete the files that no row names.

        Those are what `rows` returns, and new files whose rows an earlier attempt had left already or that came too
        late. Rows are asked for each of them: a commit whose answer was lost has been made all the same.
        """
        keys = [file.key for file in files]
        try:
            keys += write(rows)
        finally:
            clear(keys)

    def _put(self, name: str, *, kind: str, images_seen: int) -> StoredFile:
        """Move one of the child's files to the store; raises as `put` does."""
        source = self._work_dir / name
        attempt = self._attempt
        # A name of its own, since a training that went back comes by the same age twice.
        name = f"{kind}-{images_seen:010d}-{attempt.number}-{uuid4().hex[:8]}{source.suffix}"
        key = f"jobs/{attempt.job_id}/{attempt.run}/{name}"
        if kind in {"generator", "state"}:
            filename = filenames.checkpoint(
                attempt.job_id, kind=kind, images_seen=images_seen, suffix=source.suffix
            )
        else:
            filename = filenames.sample(attempt.job_id, kind=kind, images_seen=images_seen)
        return put(source, key=key, filename=filename)
