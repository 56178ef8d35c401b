"""`slaegan up`: its processes start, die and recover as it promises."""

from __future__ import annotations

import os
import shutil
import signal
import site
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import redis
from sqlalchemy.orm import Session

from benchmarks.stack import free_port
from client.connection import load
from client.local import postgres, valkey
from client.local.account import choose_account
from client.local.children import guarded
from client.local.folder import DataFolder
from core.db import make_engine
from core.keys import authenticate
from tests.e2e.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Up

    Start = Callable[..., Up]

LISTENER = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("listening", flush=True)
    sys.stdin.read()
"""
PARTS = ("postgres", "valkey-server", "sleep")


def database(data: Path) -> str:
    sockets = DataFolder(data).existing_sockets()
    assert sockets is not None
    return postgres.url(sockets)


def note(data: Path, text: str) -> None:
    with postgres.connect(database(data)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (text text)")
        connection.execute("INSERT INTO notes VALUES (%s)", [text])


def notes(data: Path) -> list[str]:
    with postgres.connect(database(data)) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM notes")]


def modes(folder: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.parents)}


def test_start_modes_second_start_and_stop(start_up: Start, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o751)
    before = modes(parent)
    data = parent / "data"
    up = start_up(data).wait_ready()

    servers = [up.part("postgres"), up.part("valkey-server")]
    assert not [socket for server in servers for socket in server.net_connections("inet")]
    assert stat.S_IMODE((data / "run" / ".s.PGSQL.5432").stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "run" / "valkey.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "client.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    with postgres.connect(database(data)) as connection:
        assert connection.execute("SHOW server_version").fetchone()[0].startswith("18.")  # type: ignore[index]
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    with redis.Redis.from_url(valkey.url(data / "run")) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}

    second = start_up(data)
    assert second.process.wait(60) != 0
    assert f"already runs on {data} (pid {up.process.pid})" in second.text()

    assert up.stop(signal.SIGINT) == 0
    assert up.left() == []
    assert modes(parent) == before
    stopped = [
        line.split()[4]
        for line in (data / "logs" / "supervisord.log").read_text().splitlines()
        if " stopped: " in line
    ]
    assert stopped == ["idle", "valkey", "postgres"]


def test_killed_parts_are_restarted_and_shown(start_up: Start, tmp_path: Path) -> None:
    up = start_up(tmp_path / "data").wait_ready()
    note(up.data, "kept")
    before = {name: up.part(name).pid for name in PARTS}
    for name in PARTS:
        up.part(name).kill()
    for name in ("postgres", "valkey", "idle"):
        up.wait_for_text(f"{name} ended unexpectedly and was started again")
    assert up.text().count("ended unexpectedly") == len(PARTS)
    assert all(up.part(name).pid != pid for name, pid in before.items())
    postgres.wait_until_ready(database(up.data), check_alive=lambda: None, timeout_s=30)
    assert notes(up.data) == ["kept"]
    assert up.stop() == 0


def test_kill_9_leaves_nothing_and_the_next_start_recovers(start_up: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    port = free_port()
    for round_, victims in enumerate((("up",), ("supervisord",), ("up", "supervisord"))):
        up = start_up(data, port=port).wait_ready()
        note(data, f"round {round_}")
        processes = [up.supervisord(), *(up.part(name) for name in PARTS)]
        kill = {"up": up.process, "supervisord": up.supervisord()}
        for victim in victims:
            kill[victim].kill()
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == [], victims
        assert up.process.wait(30) != 0
        assert up.left() == []
    # An API that still stops: it holds the folder's lock, and listens.
    command = guarded([sys.executable, "-c", LISTENER, str(port)], lock=data / "parts.lock")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as leftover:
        assert leftover.stdout is not None
        leftover.stdout.readline()
        up = start_up(data, port=port)
        up.wait_until(lambda: "Waiting for" in up.text() or up.process.poll() is not None)
        assert "Waiting for the processes of the last run to end" in up.text()
    up.wait_ready()
    assert notes(data) == ["round 0", "round 1", "round 2"]
    assert up.stop() == 0


def test_interrupted_initdb_is_begun_anew(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    (folder.path / "postgres.new").mkdir()
    (folder.path / "postgres.new" / "PG_VERSION").write_text("18\n")
    postgres.initialise(folder, account=choose_account(folder))
    assert (folder.postgres / "global" / "pg_control").exists()
    assert not (folder.path / "postgres.new").exists()


def test_deep_and_odd_data_folder(start_up: Start, tmp_path: Path) -> None:
    data = tmp_path / ("deep" * 30) / "it's 100% odd; #1, $HOME"
    up = start_up(data).wait_ready()
    link = DataFolder(data).existing_sockets()
    assert link is not None
    assert link.is_symlink()
    assert stat.S_IMODE(link.parent.stat().st_mode) == 0o700
    note(data, "kept")
    up.process.kill()
    up.process.wait()
    # The next start uses the same link again, and a clean stop removes it.
    again = start_up(data).wait_ready()
    assert DataFolder(data).existing_sockets() == link
    assert notes(data) == ["kept"]
    assert again.stop() == 0
    assert not link.parent.exists()


def test_port_in_use_is_told_before_anything_starts(start_up: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = start_up(tmp_path / "data", port=port)
        assert up.process.wait(30) != 0
    assert f"Port {port} on 127.0.0.1 cannot be used" in up.text()
    assert not (tmp_path / "data" / "postgres").exists()


def test_a_folder_with_other_files_is_left_alone(start_up: Start, tmp_path: Path) -> None:
    data = tmp_path / "pictures"
    data.mkdir(mode=0o755)
    (data / "cat.png").write_bytes(b"")
    up = start_up(data)
    assert up.process.wait(30) != 0
    assert "holds other files" in up.text()
    assert list(data.iterdir()) == [data / "cat.png"]
    assert stat.S_IMODE(data.stat().st_mode) == 0o755


def test_servers_of_the_user_are_used(
    start_up: Start, tmp_path: Path, database_url: str, broker_url: str
) -> None:
    up = start_up(
        tmp_path / "data", extra={"DATABASE_URL": database_url, "BROKER_URL": broker_url}
    ).wait_ready()
    up.wait_until(
        lambda: [child.name() for child in up.supervisord().children()] == ["sleep"], what="sleep alone"
    )
    assert not (tmp_path / "data" / "postgres").exists()
    with postgres.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM api_keys").fetchone() == (1,)
    # Another stack on the same servers has a key of its own, and the first one's stays good.
    other = start_up(
        tmp_path / "other", extra={"DATABASE_URL": database_url, "BROKER_URL": broker_url}
    ).wait_ready()
    found = [load(stack.data) for stack in (up, other)]
    engine = make_engine(database_url)
    with Session(engine) as session:
        assert all(known and authenticate(session, known.key) for known in found)
    engine.dispose()
    assert other.stop() == 0
    assert up.stop() == 0


def test_signal_while_starting_stops_what_has_started(start_up: Start, tmp_path: Path) -> None:
    up = start_up(tmp_path / "data")
    up.wait_until((up.data / "run" / "supervisord.pid").exists, what="supervisord")
    assert up.stop() == 0
    assert "Ready" not in up.text()
    assert up.left() == []


# The interpreter's own folder may be closed to others (a pyenv below /root): it is shown at an open place, in a mount
# namespace of the test.
AS_OTHER = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every account can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="slaegan-test-", dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "python").mkdir()
        yield place


@pytest.fixture
def reachable_python(open_place: Path) -> tuple[list[str], str]:
    """A prefix for commands, and the interpreter that any account can run behind it."""
    shown = open_place / "python"
    prefix = ["unshare", "--mount", "sh", "-c", AS_OTHER, "sh", sys.base_prefix, str(shown)]
    if os.geteuid() != 0 or subprocess.run([*prefix, "true"], check=False).returncode != 0:
        pytest.skip("needs root and mount namespaces, to become other accounts")
    return prefix, str(shown / "bin" / "python3")


def as_environment(python: str) -> dict[str, str]:
    return {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *site.getsitepackages()]),
        # A shared libpython is looked up at the place where it was built, which is closed.
        "LD_LIBRARY_PATH": str(Path(python).parents[1] / "lib"),
    }


def test_as_an_ordinary_user(
    start_up: Start, open_place: Path, reachable_python: tuple[list[str], str]
) -> None:
    prefix, python = reachable_python
    home = open_place / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    data = home / "data"
    up = start_up(
        data, python=python, prefix=(*prefix, *become),
        extra=as_environment(python) | {"XDG_STATE_HOME": str(home)},
    ).wait_ready()  # fmt: skip
    assert {up.part(name).uids().real for name in PARTS} == {65534}
    assert up.stop() == 0
    assert up.left() == []


def test_as_root_without_user_namespaces(
    start_up: Start, tmp_path: Path, open_place: Path, reachable_python: tuple[list[str], str]
) -> None:
    prefix, python = reachable_python
    refusing = tmp_path / "bin" / "unshare"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho unshare: not permitted >&2\nexit 1\n")
    refusing.chmod(0o755)
    extra = as_environment(python) | {"PATH": f"{refusing.parent}:{os.environ['PATH']}"}
    # Only the test's own mount namespace comes from the real one.
    prefix = [str(shutil.which(prefix[0])), *prefix[1:]]

    data = open_place / "data"
    up = start_up(data, python=python, prefix=tuple(prefix), extra=extra).wait_ready()
    assert up.part("postgres").uids().real != 0
    assert up.part("valkey-server").uids().real == 0
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert up.stop() == 0

    # Below a folder that only root can enter, nothing can be done but say so.
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    up = start_up(closed / "data", python=python, prefix=tuple(prefix), extra=extra)
    assert up.process.wait(30) != 0
    assert "PostgreSQL does not run as root" in up.text()
    assert "unshare: not permitted" in up.text()
