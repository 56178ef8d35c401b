"""The database: one engine a process, sessions, migrations."""

from __future__ import annotations

import time
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from alembic import command
from alembic.config import Config
from pydantic_core import from_json
from sqlalchemy import DateTime, Engine, MetaData, create_engine, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from core.once import Once
from core.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry, Pool

RESTED_S = 1.0


class Base(DeclarativeBase):
    """All tables; names of constraints follow one rule, so that migrations can address them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
    }


def make_engine(url: str, *, poolclass: type[Pool] | None = None, idle_s: float | None = None) -> Engine:
    """An engine that notices dead connections, and gives up on an absent server after 5 s.

    Args:
        url: postgresql+psycopg://…
        poolclass: NullPool for a process that forks.
        idle_s: the server ends a connection that does nothing for so long in an open transaction. Else a process that
            is stopped, or a machine that hangs, keeps the rows that it has locked.
    """
    pooling: dict[str, Any] = {"poolclass": poolclass} if poolclass else {"pool_size": 10, "max_overflow": 20}
    engine = create_engine(
        url,
        # A page of fifty jobs holds two hundred pieces of JSON: the standard library takes twice as long to read it.
        json_deserializer=from_json,
        connect_args={"connect_timeout": 5},
        **pooling,
    )
    _ping_rested(engine)
    if idle_s is not None:
        limit = f"set idle_in_transaction_session_timeout = {round(1000 * idle_s)}"

        @event.listens_for(engine, "connect")
        def _limit(connection: Any, _: object) -> None:
            connection.execute(limit)
            connection.commit()

    return engine


def _ping_rested(engine: Engine) -> None:
    """Ask a connection that has rested whether it still lives, before it is used.

    SQLAlchemy's own pool_pre_ping asks every time, which is a fourth of what a look at a job costs the server. Within
    so short a rest a connection breaks as rarely as within a request.
    """

    @event.listens_for(engine, "connect")
    def _made(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkin")
    def _rests(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _is_alive(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        if time.monotonic() - record.info["used_at"] > RESTED_S:
            try:
                engine.dialect.do_ping(connection)
            except psycopg.Error as error:
                raise InvalidatePoolError from error  # the pool makes all its connections anew, and this one first


@Once
def sessions() -> sessionmaker[Session]:
    """The session factory of this process, on the configured database; made on first use, after any fork."""
    # A transaction of ours lasts milliseconds. Others wait for the rows of one that hangs: the sweep, too.
    idle_s = max(1, settings().lease_s / 4)
    return sessionmaker(make_engine(settings().database_url, idle_s=idle_s), expire_on_commit=False)


def reading() -> Session:
    """A session for reads alone: each statement sees what is committed when it begins, as in any session of ours.

    No transaction is begun, so none is rolled back: that saves two questions to the server, and closing asks nothing.
    """
    factory = sessions()
    return factory(bind=_without_transactions(factory))


@lru_cache(1)
def _without_transactions(factory: sessionmaker[Session]) -> Engine:
    engine: Engine = factory.kw["bind"]
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def migrate(url: str, *, revision: str = "head") -> None:
    """Bring a database forward.

    Args:
        url: postgresql+psycopg://…
        revision: head, or a later revision's id.
    """
    command.upgrade(_migrations(url), revision)


def take_back(url: str, *, revision: str = "base") -> None:
    """Bring a database back to an earlier revision; `base` takes everything down."""
    command.downgrade(_migrations(url), revision)


def _migrations(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["url"] = url
    return config


if __name__ == "__main__":
    migrate(settings().database_url)
