"""Walls around the process that decodes pictures: limits everywhere; on Linux also Landlock, and no network."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
import sysconfig
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OPEN_FILES = 64
_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PR_SET_NO_NEW_PRIVS = 38
# linux/landlock.h; the numbers of the system calls are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8
_EVERY_FILE_RIGHT = (1 << 13) - 1  # of the first version; later ones add refinements
_TRUNCATE, _TRUNCATE_VERSION = 1 << 14, 3  # without it, files may be emptied that may not be written
_EVERY_TCP_RIGHT, _TCP_VERSION = 0b11, 4
_EVERY_SCOPE, _SCOPE_VERSION = 0b11, 6  # abstract sockets, signals to processes outside


def limit_resources(*, memory_bytes: int, file_bytes: int) -> None:
    """Bound what this process may take, and have it start no other and no thread.

    Args:
        memory_bytes: of address space, which counts libraries too; Linux only, since elsewhere it is not enforced.
        file_bytes: of any file that it writes.
    """
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getuid() != 0:  # Root has no such limit.
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def limit_processor(seconds: float) -> None:
    """Let this process compute for so long from now; then it is killed (SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def enclose(folder: Path) -> None:
    """Leave this process one folder to write in, Python's own files to read, no network, and nobody to signal.

    What the kernel does not know, or a container does not allow, is left out: the limits hold without it.

    Args:
        folder: of the upload.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return
    truncate = _TRUNCATE if version >= _TRUNCATE_VERSION else 0
    handled = struct.pack(
        "QQQ",
        _EVERY_FILE_RIGHT | truncate,
        _EVERY_TCP_RIGHT if version >= _TCP_VERSION else 0,
        _EVERY_SCOPE if version >= _SCOPE_VERSION else 0,
    )
    size = 8 if version < _TCP_VERSION else 16 if version < _SCOPE_VERSION else 24
    ruleset = libc.syscall(_CREATE_RULESET, handled, size, 0)
    if ruleset < 0:
        return
    own = _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | truncate
    _allow(libc, ruleset, str(folder), own)
    for path in _libraries():
        _allow(libc, ruleset, path, _READ_FILE | _READ_DIR)
    libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _libraries() -> set[str]:
    """Where modules and shared libraries are that Python loads when they are first needed."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return {sysconfig.get_path(name) for name in names} | {"/usr/lib", "/usr/lib64", "/lib", "/lib64"}


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    with suppress(FileNotFoundError):
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
        os.close(beneath)
