"""The API as a real server over a real database, a real broker and a store in a temporary folder."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.main import create_app
from api.server import serve
from core import broker, db, keys, storage
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fastapi import FastAPI
    from sqlalchemy.orm import Session

CACHED = (settings, db.sessions, storage.store, broker.celery_app)
URLS = {"database_url", "broker_url", "storage_url"}
START_S = 10
# Reading the certificates that plain HTTP has no use for takes longer than most tests.
CLIENT: dict[str, Any] = {"timeout": 60, "verify": False}


@dataclass(frozen=True)
class Api:
    """A running service; `url` takes raw sockets too."""

    url: httpx.URL
    app: FastAPI
    folder: Path

    @property
    def stored(self) -> list[str]:
        """Everything in the store."""
        return sorted(storage.store().keys("."))

    @property
    def scratch(self) -> list[Path]:
        """Everything in the folder of unfinished uploads."""
        return sorted((self.folder / "data" / "uploads").glob("*"))


class Person(httpx.Client):
    """A client with the key of a tenant."""

    tenant_id: UUID


@contextmanager
def running_api(folder: Path, **values: object) -> Iterator[Api]:
    """Serve with these settings over defaults fit for tests; one at a time, since settings belong to the process."""
    chosen: dict[str, object] = {
        "storage_url": (folder / "store").as_uri(),
        "data_dir": folder / "data",
        "weights_dir": folder / "weights",
        "store_reserve_bytes": 0,
        "stream_poll_s": 0.05,
        **values,
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in chosen.items():
            environment.setenv(("" if name in URLS else "SLAEGAN_") + name.upper(), str(value))
        for cached in CACHED:
            cached.cache_clear()
        app = create_app()
        try:
            with _served(app) as url:
                yield Api(url, app, folder)
        finally:
            db.sessions().kw["bind"].dispose()
            for cached in CACHED:
                cached.cache_clear()


@contextmanager
def _served(app: FastAPI) -> Iterator[httpx.URL]:
    server = serve(app, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the API did not start"  # noqa: PT018  # one fact
        time.sleep(0.01)
    try:
        host, port = server.servers[0].sockets[0].getsockname()
        yield httpx.URL(f"http://{host}:{port}")
    finally:
        server.should_exit = True
        thread.join(timeout=START_S)
        assert not thread.is_alive(), "the API did not stop"


@pytest.fixture(scope="module")
def api(module_database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service that the tests of a module share."""
    folder = tmp_path_factory.mktemp("api")
    with running_api(folder, database_url=module_database_url, broker_url=broker_url) as api:
        yield api


@pytest.fixture
def own_api(database_url: str, broker_url: str, tmp_path: Path) -> Callable[..., AbstractContextManager[Api]]:
    """Serve with settings of the test's own; only in modules that do not use `api`."""

    def make(**values: object) -> AbstractContextManager[Api]:
        return running_api(tmp_path, **{"database_url": database_url, "broker_url": broker_url, **values})

    return make


@contextmanager
def new_person(api: Api, *scopes: str, tenant_id: UUID | None = None) -> Iterator[Person]:
    """A client of a tenant, a new one if none is named, with a key of these scopes (all by default)."""
    with db.sessions()() as session:
        if tenant_id is None:
            tenant_id = uuid4()
            session.add(keys.Tenant(id=tenant_id, name=tenant_id.hex))
            session.flush()
        token = keys.create_key(session, tenant_id=tenant_id, name="test", scopes=scopes or keys.SCOPES)
        session.commit()
    with Person(base_url=api.url, headers={"Authorization": f"Bearer {token}"}, **CLIENT) as person:
        person.tenant_id = tenant_id
        yield person


@pytest.fixture
def owner(api: Api) -> Iterator[Person]:
    with new_person(api) as person:
        yield person


@pytest.fixture
def stranger(api: Api) -> Iterator[Person]:
    with new_person(api) as person:
        yield person


@pytest.fixture
def nobody(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, **CLIENT) as client:
        yield client


@pytest.fixture
def session(api: Api) -> Iterator[Session]:
    """On the database of the running service."""
    assert api.app is not None
    with db.sessions()() as session:
        yield session


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is the problem it should be, and return it."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:slaegan:error:{code}")
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["instance"] == response.request.url.path
    return body
