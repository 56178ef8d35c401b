from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from core.db import make_engine, migrate
from core.tables import Base


def test_up_down_up(database_url: str) -> None:
    engine = make_engine(database_url)
    migrate(database_url, revision="base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    migrate(database_url)
    assert set(Base.metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_migrations_and_tables_say_the_same(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()
