"""PostgreSQL in the data folder: its cluster, its command line, its readiness. No TCP, sockets only."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

from client.local.binaries import postgres_binary
from client.local.children import child_environment, guarded
from client.local.programs import Program
from core.errors import StackFailed
from core.files import fsync

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.local.account import Account
    from client.local.folder import DataFolder

USER = "slaegan"
MAJOR = "18"


def initialise(folder: DataFolder, *, account: Account) -> None:
    """Make the cluster, unless it exists; complete or absent, whatever interrupts this.

    Everybody who reaches the socket is trusted: it lies in a folder of mode 0700.

    Raises:
        StackFailed: initdb failed, or the cluster is of another major version.
    """
    version = folder.postgres / "PG_VERSION"
    if version.exists():
        if (found := version.read_text().strip()) != MAJOR:
            raise StackFailed(
                f"The cluster in {folder.postgres} is of PostgreSQL {found}, the server is {MAJOR}: dump it with the "
                "old version, or start with another data folder."
            )
        return
    fresh = folder.path / "postgres.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    command = [
        postgres_binary("initdb"), "-D", str(fresh), "-U", USER, "--auth=trust", "--encoding=UTF8",
        "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
    ]  # fmt: skip
    result = subprocess.run(
        [*account.prefix, *guarded(command, lock=folder.parts_lock)],
        cwd=folder.path, env=child_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode != 0:
        raise StackFailed(f"initdb failed in {fresh}: {result.stderr.strip()[-500:]}")
    fresh.rename(folder.postgres)
    fsync(folder.path)


def program(folder: DataFolder, *, sockets: Path, account: Account, durable: bool = True) -> Program:
    """The server, in the foreground.

    Args:
        folder: holds the cluster.
        sockets: where the socket goes.
        account: who runs it.
        durable: False only for tests: a crash of the machine may then lose data.
    """
    options = {
        "listen_addresses": "", "unix_socket_directories": str(sockets), "unix_socket_permissions": "0700",
        "max_connections": "200", "log_line_prefix": "%m [%p] ",
    }  # fmt: skip
    if not durable:
        options |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    server = [postgres_binary("postgres"), "-D", str(folder.postgres)]
    for name, value in options.items():
        server += ["-c", f"{name}={value}"]
    # SIGINT is the "fast" shutdown: sessions are ended, then comes a checkpoint, which takes its time.
    return Program(
        "postgres",
        tuple(server),
        group="database",
        prefix=account.prefix,
        stop_signal="SIGINT",
        stop_wait_s=120,
    )


def url(sockets: Path, *, database: str = "slaegan") -> str:
    """The address for SQLAlchemy and psycopg 3."""
    address = URL.create("postgresql+psycopg", username=USER, database=database, query={"host": str(sockets)})
    return address.render_as_string(hide_password=False)


def connect(url: str) -> psycopg.Connection:
    """A plain connection in autocommit, for administration."""
    conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=5)


def wait_until_ready(url: str, *, check_alive: Callable[[], None], timeout_s: float = 600) -> None:
    """Wait until the server takes connections; crash recovery of a large cluster takes minutes.

    Args:
        url: of any database.
        check_alive: raises when there is nothing to wait for any more.
        timeout_s: how long.

    Raises:
        StackFailed: not in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connect(url).close()
        except psycopg.OperationalError as error:
            check_alive()
            if time.monotonic() > deadline:
                raise StackFailed(
                    f"PostgreSQL takes no connections after {timeout_s:g} s: {error}"
                ) from error
            time.sleep(0.1)
        else:
            return


def ensure_database(sockets: Path, *, name: str = "slaegan") -> None:
    """Create the database, unless it exists."""
    with connect(url(sockets, database="postgres")) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
