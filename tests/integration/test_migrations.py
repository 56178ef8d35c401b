from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from client.local import postgres
from core.datasets.files import DatasetFiles
from core.datasets.tables import Dataset, StoredPicture
from core.db import make_engine, migrate, take_back
from core.tables import Base


def test_up_down_up(database_url: str) -> None:
    engine = make_engine(database_url)
    take_back(database_url)
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


_OLD_PICTURES = """
insert into tenants (id, name) select (%(tenants)s)[n], n::text from generate_series(1, 2) n;
insert into datasets (id, tenant_id, name, image_count, size_bytes, content_hash, rejected, created_at)
select (%(datasets)s)[n], (%(tenants)s)[1 + n / 3], 'd', 4, 4, '', '[]', now() - n * interval '1 day'
from generate_series(1, 3) n;
insert into dataset_images (dataset_id, position, name, storage_key, sha256, width, height, size_bytes)
select (%(datasets)s)[n], position, position || '.png', 'datasets/' || n || '/' || position || '.png',
  'hash-' || position + n %% 2, 40, 36, 7
from generate_series(1, 3) n, generate_series(0, 3) position;
"""


def test_old_pictures_become_one_of_each_for_a_tenant(database_url: str) -> None:
    take_back(database_url)
    migrate(database_url, revision="0008")
    tenants, datasets = [uuid4() for _ in range(2)], [uuid4() for _ in range(3)]
    engine = make_engine(database_url)
    with postgres.connect(database_url) as connection:
        for statement in _OLD_PICTURES.strip().split(";\n")[:3]:
            connection.execute(statement.rstrip(";"), {"tenants": tenants, "datasets": datasets})
    migrate(database_url)
    with Session(engine) as session:
        # The first tenant's datasets have the hashes 1 to 4 and, a day older, 0 to 3; the second's has 1 to 4.
        stored = session.execute(select(StoredPicture).order_by(StoredPicture.sha256)).scalars().all()
        assert [p.storage_key for p in stored if p.tenant_id == tenants[0]] == [
            *(f"datasets/2/{n}.png" for n in range(4)), "datasets/1/3.png"
        ]  # fmt: skip
        assert [p.storage_key for p in stored if p.tenant_id == tenants[1]] == [
            f"datasets/3/{n}.png" for n in range(4)
        ]
        for number, dataset_id in enumerate(datasets, start=1):
            images = DatasetFiles.of(session, dataset_id).images
            assert [image.sha256 for image in images] == [f"hash-{n + number % 2}" for n in range(4)]
            dataset = session.get_one(Dataset, dataset_id)
            assert (dataset.series_id, dataset.version, dataset.added_count) == (dataset_id, 1, 4)
    with pytest.raises(CommandError, match=r"more than one dataset holds: 3\."):
        take_back(database_url)
    with Session(engine) as session:  # Nothing was taken back: the three are still shared.
        assert len(DatasetFiles.of(session, datasets[0]).images) == 4
        session.get_one(Dataset, datasets[0]).deleted_at = datetime.now(tz=UTC)
        session.commit()
    take_back(database_url, revision="0011")
    with postgres.connect(database_url) as connection:
        kept = connection.execute(
            "select storage_key from dataset_images where dataset_id = %s order by position", [datasets[1]]
        )
        assert [key for (key,) in kept] == [f"datasets/2/{n}.png" for n in range(4)]
    take_back(database_url)
    engine.dispose()
