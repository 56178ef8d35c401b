"""The data folder of one stack: its layout, its locks, and a place for its sockets."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from core.errors import StackFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

# sockaddr_un holds 108 bytes with the final NUL. The longest socket name of ours is the one that supervisord binds
# before it renames it: supervisor.sock.<pid>, 23 bytes, and a slash.
_SOCKET_FOLDER_BYTES = 107 - 24
# libpq takes a comma for a list of hosts, PostgreSQL quotes its own way: only plain names go into socket addresses.
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_MARK = "up.lock"


class DataFolder:
    """Everything of a stack: `postgres/ store/ scratch/ logs/ run/`, two locks and client.json.

    `up.lock` is held by the one `slaegan up` of the folder. `parts.lock` is held, shared, by every process that
    was started under it (client.local.guard), so a start can tell when the last run's processes are all gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links the user chose
        self.postgres = self.path / "postgres"
        self.store = self.path / "store"
        self.scratch = self.path / "scratch"
        self.logs = self.path / "logs"
        self.run = self.path / "run"
        self.client_json = self.path / "client.json"
        self.parts_lock = self.path / "parts.lock"

    def create(self) -> None:
        """Make the folder and what is in it, for its owner alone; nothing outside it changes its mode.

        Raises:
            StackFailed: the folder holds files of someone else's making, or cannot be written.
        """
        try:
            if self.path.is_dir() and not self.exists() and any(self.path.iterdir()):
                raise StackFailed(
                    f"The folder {self.path} holds other files: give a new or empty one with --data, since its "
                    "mode becomes 0700 and everything in it belongs to the stack."
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)
            (self.path / _MARK).touch(mode=0o600)
            self.parts_lock.touch(mode=0o600)
            for folder in (self.store, self.scratch, self.logs, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackFailed(f"The data folder {self.path} cannot be used: {error}.") from error

    def exists(self) -> bool:
        """Whether there is a data folder of a stack here."""
        return (self.path / _MARK).exists()

    def is_held(self) -> bool:
        """Whether a `slaegan up` runs on this folder now."""
        if not self.exists():
            return False
        descriptor = os.open(self.path / _MARK, os.O_RDWR)
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; a second holder is told who has it.

        Raises:
            StackFailed: another process holds the folder.
        """
        descriptor = os.open(self.path / _MARK, os.O_RDWR)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                raise StackFailed(
                    f"`slaegan up` already runs on {self.path} (pid {pid}). Stop it first, or use another folder "
                    "with --data."
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def key_name(self) -> str:
        """What the API key of this folder's stack is called in a database that several machines may share."""
        return f"local {socket.gethostname()}:{self.path}"

    def has_leftovers(self) -> bool:
        """Whether a process of an earlier run is left."""
        descriptor = os.open(self.parts_lock, os.O_RDWR)
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def wait_for_leftovers(self, *, timeout_s: float) -> bool:
        """Wait until no process of an earlier run is left; when the time is up, kill those that are.

        Returns:
            Whether there was anything to wait for.
        """
        descriptor = os.open(self.parts_lock, os.O_RDWR)
        try:
            waited = False
            deadline = time.monotonic() + timeout_s
            while not _try_lock(descriptor):
                waited = True
                if time.monotonic() > deadline:
                    for process in holders(self.parts_lock):
                        process.kill()
                time.sleep(0.1)
            return waited
        finally:
            os.close(descriptor)

    def sockets(self) -> Path:
        """A folder for sockets: `run/` itself, or, where its path is too long or odd, a private link to it.

        The link lies in a folder of mode 0700 under the system's temporary folder, whose name is kept in
        `run/sockets`, so that the next start uses it again instead of leaving another one behind.
        """
        if (there := self.existing_sockets()) is not None:
            return there
        link = Path(tempfile.mkdtemp(prefix="slaegan-")) / "run"
        if not _fits(link):
            raise StackFailed(
                f"Neither {self.run} nor {link} can hold a unix socket (plain characters, {_SOCKET_FOLDER_BYTES} "
                "bytes at most): choose a shorter --data, or a shorter TMPDIR."
            )
        link.symlink_to(self.run)
        (self.run / "sockets").write_text(str(link))
        return link

    def existing_sockets(self) -> Path | None:
        """What `sockets` gives, if that is there already; changes nothing."""
        if _fits(self.run):
            return self.run
        note = self.run / "sockets"
        if note.exists():
            link = Path(note.read_text())
            if _is_private(link.parent) and link.is_symlink() and link.readlink() == self.run:
                return link
        return None

    def forget_sockets(self) -> None:
        """Remove the link that `sockets` made, if it made one."""
        note = self.run / "sockets"
        if note.exists():
            link = Path(note.read_text())
            if _is_private(link.parent) and link.is_symlink():
                link.unlink()
                link.parent.rmdir()
            note.unlink()


def holders(lock: Path) -> list[psutil.Process]:
    """The other processes that have a file open, as far as this user may see."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(file.path == str(lock) for file in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue  # It ended meanwhile, or is another user's.
    return found


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) <= _SOCKET_FOLDER_BYTES and _PLAIN.fullmatch(str(folder)) is not None


def _is_private(folder: Path) -> bool:
    try:
        facts = folder.lstat()
    except FileNotFoundError:
        return False
    mine_alone = facts.st_uid == os.getuid() and stat.S_IMODE(facts.st_mode) == stat.S_IRWXU
    return stat.S_ISDIR(facts.st_mode) and mine_alone
