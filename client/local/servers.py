"""PostgreSQL and Valkey alone, as children of this process: for tests and benchmarks."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.local import postgres, valkey
from client.local.account import choose_account
from client.local.children import child_environment, guarded
from client.local.folder import DataFolder
from core.errors import StackFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from client.local.programs import Program


@dataclass(frozen=True)
class Servers:
    """Where the two servers listen."""

    database_url: str
    broker_url: str


@contextmanager
def running_servers(data_dir: Path, *, durable: bool = False) -> Iterator[Servers]:
    """Run both servers in a data folder; they end with the block, or with this process, however it ends.

    Call it from the main thread: the parent-death signal follows the thread that starts a child.

    Args:
        data_dir: made if missing.
        durable: False trades safety against a crash of the machine for speed.

    Raises:
        StackFailed: a server does not start; the message names its log.
    """
    folder = DataFolder(data_dir)
    folder.create()
    with folder.locked():
        account = choose_account(folder)
        postgres.initialise(folder, account=account)
        sockets = folder.sockets()
        servers = Servers(postgres.url(sockets), valkey.url(sockets))
        database = postgres.program(folder, sockets=sockets, account=account, durable=durable)
        try:
            with (
                _child(database, folder=folder) as database_alive,
                _child(valkey.program(sockets), folder=folder) as broker_alive,
            ):
                postgres.wait_until_ready(
                    postgres.url(sockets, database="postgres"), check_alive=database_alive
                )
                postgres.ensure_database(sockets)
                valkey.wait_until_ready(servers.broker_url, check_alive=broker_alive)
                yield servers
        finally:
            folder.forget_sockets()


@contextmanager
def _child(program: Program, *, folder: DataFolder) -> Iterator[Callable[[], None]]:
    log = folder.logs / f"{program.name}.log"
    command = guarded(program.command, lock=folder.parts_lock, death=program.stop_signal)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*program.prefix, *command], cwd=folder.scratch, env=child_environment(),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip

    def check_alive() -> None:
        if process.poll() is not None:
            raise StackFailed(
                f"{program.name} ended with status {process.returncode}: {log.read_text()[-500:]}"
            )

    try:
        yield check_alive
    finally:
        process.send_signal(signal.Signals[program.stop_signal])
        try:
            process.wait(program.stop_wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
