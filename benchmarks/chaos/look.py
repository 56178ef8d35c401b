"""What a chaos run sees of the database: a quick view while faults strike, whole stories when all is over."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from client.local import postgres

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

Row = dict[str, Any]
FINAL = ("succeeded", "failed", "cancelled")

_VIEW = """
select j.id, j.name, j.status, j.attempt, j.run, j.worker,
  (select coalesce(array_agg(e.type order by e.seq), '{}') from job_events e where e.job_id = j.id) as events,
  (select coalesce(array_agg(v.worker), '{}') from evaluations v
    where v.job_id = j.id and v.status = 'running') as evaluators,
  (select count(*) from evaluations v where v.job_id = j.id) as evaluations,
  (select count(*) from checkpoints c where c.job_id = j.id and c.kind = 'state') as states
from jobs j where j.name like %s order by j.name
"""
_FILES = """
select storage_key, sha256 from checkpoints c join jobs j on j.id = c.job_id where j.name like %(name)s
union all
select storage_key, sha256 from samples s join jobs j on j.id = s.job_id where j.name like %(name)s
union all
select picture_key, picture_sha256 from evaluations v join jobs j on j.id = v.job_id
  where j.name like %(name)s and picture_key is not null
union all
select storage_key, sha256 from log_chunks l join jobs j on j.id = l.job_id where j.name like %(name)s
"""
_LEASES = """
select lease_token from jobs where lease_token is not null and worker like %(worker)s
union all
select lease_token from evaluations where lease_token is not null and worker like %(worker)s
"""


@dataclass(frozen=True)
class View:
    """One job at one moment; `evaluators` are the workers that evaluate its snapshots now."""

    id: UUID
    name: str
    status: str
    attempt: int
    run: int
    worker: str | None
    events: list[str]
    evaluators: list[str | None]
    evaluations: int
    states: int


@dataclass(frozen=True)
class Story:
    """Everything that the database holds of one job, as rows."""

    job: Row
    events: Sequence[Row] = ()
    evaluations: Sequence[Row] = ()
    losses: Sequence[Row] = ()
    logs: Sequence[Row] = ()
    checkpoints: Sequence[Row] = ()
    deliveries: Sequence[Row] = ()
    attempts: Sequence[Row] = ()

    @property
    def name(self) -> str:
        return str(self.job["name"])


@dataclass
class Database:
    """A connection that is made again whenever the server has been away.

    Args:
        url: of the service's database.
        store: the folder of the service's store.
    """

    url: str
    store: Path
    _connection: psycopg.Connection | None = field(default=None)

    def views(self, cycle: str) -> list[View] | None:
        """The jobs whose names begin with a cycle's; None while the database is away."""
        try:
            return [View(**row) for row in self._rows(_VIEW, [f"{cycle}-%"])]
        except psycopg.OperationalError:
            return None

    def files(self, cycle: str) -> dict[str, str] | None:
        """The sha256 of each file that a row of the cycle's jobs names; None while the database is away."""
        try:
            rows = self._rows(_FILES, {"name": f"{cycle}-%"})
        except psycopg.OperationalError:
            return None
        return {row["storage_key"]: row["sha256"] for row in rows}

    def leases(self, worker: str) -> frozenset[UUID] | None:
        """The tokens under which workers of such a name hold jobs and evaluations; None while the database is away."""
        try:
            rows = self._rows(_LEASES, {"worker": worker})
        except psycopg.OperationalError:
            return None
        return frozenset(row["lease_token"] for row in rows)

    def stories(self, cycle: str) -> list[Story]:
        """All rows of the cycle's jobs. Raises psycopg.OperationalError while the database is away."""
        jobs = self._rows("select * from jobs where name like %s order by name", [f"{cycle}-%"])
        return [self._story(job) for job in jobs]

    def stored_keys(self) -> set[str]:
        """The keys of all files that a row of any job names, and of all pictures."""
        query = """
            select storage_key from checkpoints union all select storage_key from samples
            union all select storage_key from pictures
            union all select storage_key from log_chunks
            union all select picture_key from evaluations where picture_key is not null
        """
        return {row["storage_key"] for row in self._rows(query, None)}

    def has_open_webhooks(self, cycle: str) -> bool:
        """Whether a webhook of the cycle's jobs is still on its way."""
        query = """
            select 1 from webhook_deliveries d join jobs j on j.id = d.job_id
            where j.name like %s and d.status in ('pending', 'delivering') limit 1
        """
        return bool(self._rows(query, [f"{cycle}-%"]))

    def _story(self, job: Row) -> Story:
        def of(table: str, order: str) -> list[Row]:
            return self._rows(
                f"select * from {table} where job_id = %s order by {order}",  # noqa: S608  # names of our own
                [job["id"]],
            )

        moved = [
            line for chunk in of("log_chunks", "first_seq") for line in self._lines(chunk["storage_key"])
        ]
        return Story(
            job,
            events=of("job_events", "seq"),
            evaluations=of("evaluations", "images_seen"),
            losses=of("losses", "images_seen"),
            logs=[*moved, *of("log_lines", "seq")],
            checkpoints=of("checkpoints", "images_seen"),
            deliveries=of("webhook_deliveries", "event_seq"),
            attempts=of("job_attempts", "started_at"),
        )

    def _lines(self, key: str) -> list[Row]:
        """The log lines of a chunk in the store, as the rows that they were; none of a file that is not there."""
        try:
            packed = (self.store / key).read_bytes()
        except FileNotFoundError:  # That is told as a row without a file.
            return []
        lines = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
        return [line | {"at": datetime.fromisoformat(line["at"])} for line in lines]

    def _rows(self, query: str, parameters: Any) -> list[Row]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = postgres.connect(self.url)
            with self._connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(query, parameters).fetchall()
        except psycopg.OperationalError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
