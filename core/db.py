"""The database: one engine a process, sessions, migrations."""

from __future__ import annotations

from datetime import datetime
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from alembic import command
from alembic.config import Config
from pydantic_core import from_json
from sqlalchemy import DateTime, Engine, MetaData, create_engine, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from core.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.pool import Pool


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
        pool_pre_ping=True,
        # A page of fifty jobs holds two hundred pieces of JSON: the standard library takes twice as long to read it.
        json_deserializer=from_json,
        connect_args={"connect_timeout": 5},
        **pooling,
    )
    if idle_s is not None:
        limit = f"set idle_in_transaction_session_timeout = {round(1000 * idle_s)}"

        @event.listens_for(engine, "connect")
        def _limit(connection: Any, _: object) -> None:
            connection.execute(limit)
            connection.commit()

    return engine


@cache
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
    """Bring a database to a revision; `base` takes everything down again.

    Args:
        url: postgresql+psycopg://…
        revision: head, base, or a revision's id.
    """
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["url"] = url
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


if __name__ == "__main__":
    migrate(settings().database_url)
