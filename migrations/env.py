"""Alembic's entry: the engine is built here, since a socket's `%2F` in a URL breaks Alembic's config parser."""

from alembic import context

from core.db import make_engine
from core.settings import settings
from core.tables import Base

engine = make_engine(context.config.attributes.get("url") or settings().database_url)
try:
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
        with context.begin_transaction():
            # Two starts at once must not migrate at once; the lock ends with the transaction.
            connection.exec_driver_sql("select pg_advisory_xact_lock(7305391)")
            context.run_migrations()
finally:
    engine.dispose()
