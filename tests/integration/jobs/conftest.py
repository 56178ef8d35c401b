from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session, sessionmaker

from core.broker import celery_app
from core.datasets.tables import Dataset, DatasetImage, StoredPicture
from core.db import make_engine, sessions
from core.jobs import service
from core.keys import Tenant
from core.schemas.slaegan import SlaeganConfig
from core.settings import settings
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core.jobs.tables import Job

Sessions = sessionmaker[Session]


@pytest.fixture
def db(database_url: str) -> Iterator[Sessions]:
    engine = make_engine(database_url)
    yield sessionmaker(engine, expire_on_commit=False)
    engine.dispose()


@pytest.fixture
def tenant_id(db: Sessions) -> UUID:
    tenant = Tenant(id=uuid4(), name="owner")
    with db.begin() as session:
        session.add(tenant)
    return tenant.id


@pytest.fixture
def submit(db: Sessions, tenant_id: UUID) -> Callable[..., Job]:
    """Queues a job on a dataset of four pictures that only the database knows."""

    def submit(**arguments: object) -> Job:
        with db.begin() as session:
            dataset = Dataset(
                id=uuid4(), tenant_id=tenant_id, name="d", image_count=4, size_bytes=4, content_hash="0" * 64
            )
            session.add(dataset)
            session.flush()
            hashes = [uuid4().hex * 2 for _ in range(4)]
            session.add_all(
                StoredPicture(
                    tenant_id=tenant_id,
                    sha256=sha256,
                    storage_key=f"pictures/{sha256}.png",
                    width=64,
                    height=64,
                    size_bytes=1,
                )
                for sha256 in hashes
            )
            session.flush()
            session.add_all(
                DatasetImage(
                    dataset_id=dataset.id, position=n, tenant_id=tenant_id, sha256=sha256, name=f"{n}.png"
                )
                for n, sha256 in enumerate(hashes)
            )
            config = SlaeganConfig(resolution=64)
            values = {"name": "a job", "priority": 0, "config": config, **arguments}
            return service.create(
                session,
                tenant_id=tenant_id,
                dataset_id=dataset.id,
                **values,  # type: ignore[arg-type]
            )

    return submit


@pytest.fixture
def _worker_settings(
    database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The settings of a worker on the test's database, with a store of its own."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", broker_url)
    monkeypatch.setenv("STORAGE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("SLAEGAN_STORE_RESERVE_BYTES", "0")
    caches = (settings, sessions, store, celery_app)
    for cached in caches:
        cached.cache_clear()
    yield
    sessions().kw["bind"].dispose()
    for cached in caches:
        cached.cache_clear()
