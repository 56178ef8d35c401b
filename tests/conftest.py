"""Real servers for all tests: one PostgreSQL and one Valkey a session, a fresh migrated database a test or module."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import platformdirs
import pytest
import redis
from psycopg import sql
from sqlalchemy import make_url

from client.local import postgres
from client.local.servers import Servers, running_servers
from core.db import migrate
from core.weights import ensure_vgg16

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running_servers(tmp_path_factory.mktemp("servers") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def postgres_url(servers: Servers) -> str:
    """An empty database of the session's server, for administration; make others with CREATE DATABASE."""
    return servers.database_url


@pytest.fixture(scope="session")
def broker_url(servers: Servers) -> str:
    return servers.broker_url


@pytest.fixture
def empty_broker_url(broker_url: str) -> str:
    """The broker with nothing in it."""
    with redis.Redis.from_url(broker_url) as client:
        client.flushall()
    return broker_url


@pytest.fixture(scope="session")
def _migrated_template(postgres_url: str) -> str:
    name = "migrated_template"
    with postgres.connect(postgres_url) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(_with_database(postgres_url, name))
    return name


@pytest.fixture
def database_url(postgres_url: str, _migrated_template: str) -> Iterator[str]:
    """A migrated database of this test alone."""
    with _copy(postgres_url, _migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str, _migrated_template: str) -> Iterator[str]:
    """A migrated database that the tests of one module share."""
    with _copy(postgres_url, _migrated_template) as url:
        yield url


@contextmanager
def _copy(postgres_url: str, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with postgres.connect(postgres_url) as connection:
        connection.execute(create)
        yield _with_database(postgres_url, name)
        # FORCE: engines of the test may still hold pooled connections.
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """The user's folder of pretrained weights, with VGG-16 in it: fetched once a machine, not once a run."""
    default = platformdirs.user_cache_path("slaegan") / "weights"
    folder = Path(os.environ.get("SLAEGAN_WEIGHTS_DIR", default)).absolute()
    ensure_vgg16(folder)
    return folder
