"""The whole embedded stack: started in order, watched, stopped in order."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from client import connection
from client.connection import Connection
from client.local import postgres, valkey
from client.local.account import choose_account
from client.local.children import child_environment
from client.local.programs import count_cuda_devices, service_programs
from client.local.supervisord import Supervisord
from client.local.urls import own_urls
from core.db import make_engine, migrate
from core.errors import StackFailed
from core.keys import authenticate, ensure_local_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from client.local.folder import DataFolder
    from client.local.place import Place
    from client.local.programs import Program

_READY_TIMEOUT_S = 180
_SAY_FAILING_S = 5
_GIVE_UP_S = 30
_LEFTOVERS_TIMEOUT_S = 45  # a little more than a part gets to stop
_POLL_S = 0.2


class Stack:
    """The running programs of one data folder; `running_stack` makes it."""

    def __init__(
        self, supervisord: Supervisord, *, folder: DataFolder, place: Place, say: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.place = place
        self._supervisord = supervisord
        self._say = say
        self._pids: dict[str, int] = {}
        self._failing_since: dict[str, float] = {}
        self._failing_said: set[str] = set()

    def check(self) -> None:
        """Report in a line each program that ended and was started again, or that does not come up.

        Raises:
            StackFailed: supervisord itself is gone.
        """
        self._require_supervisord()
        for name, state in self._supervisord.states().items():
            log = self.folder.logs / f"{name}.log"
            before, now = self._pids.get(name, 0), state["pid"]
            if state["statename"] == "RUNNING":
                if before not in (0, now):
                    self._say(f"{name} ended unexpectedly and was started again (pid {now}). Log: {log}")
                self._failing_since.pop(name, None)
                self._failing_said.discard(name)
            elif state["statename"] in ("BACKOFF", "FATAL"):
                since = self._failing_since.setdefault(name, time.monotonic())
                if time.monotonic() - since > _SAY_FAILING_S and name not in self._failing_said:
                    self._failing_said.add(name)
                    self._say(f"{name} does not start; trying again. Log: {log}")
            if before == 0 or state["statename"] == "RUNNING":
                self._pids[name] = now

    def start(self, programs: Sequence[Program]) -> None:
        """Start programs, without waiting for them."""
        for program in programs:
            self._supervisord.start(program.name)

    def wait_for_supervisord(self, *, check_stop: Callable[[], None]) -> None:
        """Wait until programs can be started."""
        while not self._supervisord.answers():
            check_stop()
            self._require_supervisord()
            time.sleep(_POLL_S)

    def check_start(self) -> None:
        """As `check`, but what does not come up for a while ends the start.

        Raises:
            StackFailed: with the last words of that program.
        """
        self.check()
        for name, since in self._failing_since.items():
            if time.monotonic() - since > _GIVE_UP_S:
                log = self.folder.logs / f"{name}.log"
                raise StackFailed(f"{name} does not start. The end of {log}:\n{_tail(log)}")

    def wait_for_api(self, *, check_stop: Callable[[], None]) -> None:
        """Wait until the API says that it is ready.

        Raises:
            StackFailed: not in time.
        """
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while (answer := _readiness(self.place.url)) is not None:
            check_stop()
            self.check_start()
            if time.monotonic() > deadline:
                log = self.folder.logs / "api.log"
                raise StackFailed(f"The API is not ready after {_READY_TIMEOUT_S} s ({answer}). Log: {log}")
            time.sleep(_POLL_S)

    def _require_supervisord(self) -> None:
        if (status := self._supervisord.process.poll()) is not None:
            raise StackFailed(
                f"supervisord ended (status {status}), and the stack with it: start it again. "
                f"Logs: {self.folder.logs}"
            )


@contextmanager
def running_stack(
    folder: DataFolder,
    *,
    place: Place,
    say: Callable[[str], None],
    check_stop: Callable[[], None],
    services: Sequence[Program] | None = None,
    external: Mapping[str, str],
) -> Iterator[Stack]:
    """Run the stack while the block lasts; at its end everything is stopped in order, and no process is left.

    Call it from the main thread: the parent-death signal follows the thread that starts a child.

    Args:
        folder: made if missing; held by this process alone.
        place: where the API listens.
        say: shows a line to the user.
        check_stop: raises when the user wants to stop; called while the start waits for something.
        services: what to run beside the servers; by default the API, the workers and beat.
        external: servers of the user, to be used instead of the bundled ones, by the names of their settings.

    Raises:
        StackFailed: what prevents the start, and what to do about it.
    """
    folder.create()
    with folder.locked():
        if folder.has_leftovers():
            say("Waiting for the processes of the last run to end …")
            folder.wait_for_leftovers(timeout_s=_LEFTOVERS_TIMEOUT_S)
        # Only now: the last run's API listened on the port while it was stopping.
        place.require_free()
        if services is None:
            services = service_programs(cuda_devices=count_cuda_devices())
        try:
            with _supervised(
                folder, place=place, say=say, services=services, external=external, check_stop=check_stop
            ) as stack:
                yield stack
        finally:
            # Whatever is left now lost its supervisor by force, and was told to end.
            folder.wait_for_leftovers(timeout_s=_LEFTOVERS_TIMEOUT_S)
            folder.forget_sockets()


@contextmanager
def _supervised(
    folder: DataFolder,
    *,
    place: Place,
    say: Callable[[str], None],
    services: Sequence[Program],
    external: Mapping[str, str],
    check_stop: Callable[[], None],
) -> Iterator[Stack]:
    sockets = folder.sockets()
    urls = {**own_urls(folder, sockets=sockets), **external}
    servers = _own_servers(folder, sockets=sockets, external=external)
    programs = [*servers.values(), *services]
    environment = _environment(folder, urls=urls, place=place)
    supervisord = Supervisord(programs, folder=folder, sockets=sockets, environment=environment)
    try:
        stack = Stack(supervisord, folder=folder, place=place, say=say)
        _bring_up(
            stack, urls=urls, sockets=sockets, servers=servers, services=services, check_stop=check_stop
        )
        yield stack
    finally:
        say("Stopping: trainers save their state first, which may take 40 s …")
        supervisord.stop()


def _bring_up(
    stack: Stack,
    *,
    urls: dict[str, str],
    sockets: Path,
    servers: dict[str, Program],
    services: Sequence[Program],
    check_stop: Callable[[], None],
) -> None:
    def check() -> None:
        check_stop()
        stack.check_start()

    stack.wait_for_supervisord(check_stop=check_stop)
    stack.start(list(servers.values()))
    if "postgres" in servers:
        postgres.wait_until_ready(postgres.url(sockets, database="postgres"), check_alive=check)
        postgres.ensure_database(sockets)
    if "valkey" in servers:
        valkey.wait_until_ready(urls["BROKER_URL"], check_alive=check)
    key = _migrated(urls["DATABASE_URL"], folder=stack.folder)
    check_stop()
    stack.start(services)
    if any(program.name == "api" for program in services):
        stack.wait_for_api(check_stop=check_stop)
    connection.save(Connection(stack.place.url, key), folder=stack.folder.path)


def _own_servers(folder: DataFolder, *, sockets: Path, external: Mapping[str, str]) -> dict[str, Program]:
    """The servers that the user does not bring."""
    servers = {}
    if "DATABASE_URL" not in external:
        account = choose_account(folder)
        postgres.initialise(folder, account=account)
        servers["postgres"] = postgres.program(folder, sockets=sockets, account=account)
    if "BROKER_URL" not in external:
        servers["valkey"] = valkey.program(sockets)
    return servers


def _environment(folder: DataFolder, *, urls: dict[str, str], place: Place) -> dict[str, str]:
    return {
        # The stack serves one user, whose webhooks may well go to a program on this machine.
        "SLAEGAN_WEBHOOK_PRIVATE_ADDRESSES": "true",
        **child_environment(),
        **urls,
        "SLAEGAN_DATA_DIR": str(folder.scratch),
        "SLAEGAN_HOST": place.host,
        "SLAEGAN_PORT": str(place.port),
    }


def _migrated(url: str, *, folder: DataFolder) -> str:
    """Migrate the database; the key for the command line: the known one while it is good, else a new one."""
    try:
        migrate(url)
        engine = make_engine(url)
        known = connection.load(folder.path)
        with Session(engine) as session:
            good = known is not None and authenticate(session, known.key) is not None
        engine.dispose()
        # A database may serve the stacks of several machines and folders: each renews its own key alone.
        return known.key if known and good else ensure_local_key(url, name=folder.key_name())
    except (SQLAlchemyError, CommandError) as error:
        raise StackFailed(f"The database cannot be brought up to date: {error}") from error


def _readiness(url: str) -> str | None:
    """Why the API is not ready; None when it is."""
    try:
        # No proxy of the environment stands between this machine and itself.
        response = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
    except httpx.TransportError as error:
        return str(error)
    return None if response.is_success else response.text[:500]


def _tail(log: Path, *, size_bytes: int = 1_500) -> str:
    return log.read_bytes()[-size_bytes:].decode(errors="replace") if log.exists() else ""
