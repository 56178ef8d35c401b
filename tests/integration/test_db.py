from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from core import db

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = db.make_engine(database_url)
    yield made
    made.dispose()


def end_connections(database_url: str) -> None:
    """As a restart of the server does."""
    other = db.make_engine(database_url, poolclass=NullPool)
    with other.connect() as connection:
        connection.execute(
            text(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        )


def test_connections_that_rested_are_made_anew_when_the_server_was_away(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "RESTED_S", 0.0)
    with engine.connect() as one, engine.connect() as two:
        pids = {connection.scalar(text("select pg_backend_pid()")) for connection in (one, two)}
    end_connections(database_url)
    with engine.connect() as one, engine.connect() as two:
        assert not pids & {connection.scalar(text("select pg_backend_pid()")) for connection in (one, two)}


def test_a_connection_that_was_just_used_is_not_asked(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So one that broke meanwhile fails the first who uses it, and nobody after that."""
    monkeypatch.setattr(db, "RESTED_S", 60.0)
    with engine.connect() as connection:
        connection.scalar(text("select 1"))
    end_connections(database_url)
    with pytest.raises(OperationalError), engine.connect() as connection:
        connection.scalar(text("select 1"))
    with engine.connect() as connection:
        assert connection.scalar(text("select 1")) == 1


def test_pings_follow_rests(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pings = 0
    ask = engine.dialect.do_ping

    def counted(connection: object) -> bool:
        nonlocal pings
        pings += 1
        return ask(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.dialect, "do_ping", counted)
    for rested_s, expected in ((60.0, 0), (0.0, 3)):
        monkeypatch.setattr(db, "RESTED_S", rested_s)
        for _ in range(3):
            with engine.connect() as connection:
                connection.scalar(text("select 1"))
        assert pings == expected
