"""Under which account PostgreSQL runs: it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.local.binaries import postgres_binary
from client.local.children import child_environment, guarded
from core.errors import StackFailed

if TYPE_CHECKING:
    from client.local.folder import DataFolder


@dataclass(frozen=True)
class Account:
    """How to become the account that runs PostgreSQL.

    Attributes:
        prefix: what stands before a command; empty for an ordinary user.
        owner: uid and gid that must own the folder, where they are not the caller's.
    """

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None


def choose_account(folder: DataFolder) -> Account:
    """The account for PostgreSQL: oneself, or, as root, a user namespace, or else an account of the machine.

    A user namespace is best: files keep their owner, root, and a data folder below /root works.

    Raises:
        StackFailed: as root, neither way works here.
    """
    if os.geteuid() != 0:
        return Account()
    reasons = []
    for account in _candidates():
        if account.owner is not None:
            give(folder, owner=account.owner)
        reason = _refusal(account, folder)
        if reason is None:
            return account
        if account.owner is not None:
            give(folder, owner=(0, 0))
        reasons.append(f"{' '.join(account.prefix)}: {reason}")
    raise StackFailed(
        "PostgreSQL does not run as root, and no other way works here. Run `slaegan up` as an ordinary user, allow "
        f"user namespaces, or choose a --data folder (and a Python) that another account can reach. Tried: {reasons}",
        tried=reasons,
    )


def _candidates() -> list[Account]:
    # initdb looks its user up in the passwd database, so only uids that are in there will do.
    entries = {entry.pw_uid: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    named = {entry.pw_name: entry for entry in entries.values()}
    if not entries:
        return []
    inside = entries.get(1000) or next(iter(entries.values()))
    namespace = Account(
        ("unshare", "--user", f"--map-user={inside.pw_uid}", f"--map-group={inside.pw_gid}", "--")
    )
    dedicated = named.get("slaegan") or named.get("postgres") or named.get("nobody")
    if dedicated is None:
        return [namespace]
    return [namespace, dedicated_account(dedicated.pw_name)]


def dedicated_account(name: str) -> Account:
    """An account of this machine, entered with setpriv."""
    entry = pwd.getpwnam(name)
    prefix = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--")
    return Account(prefix, owner=(entry.pw_uid, entry.pw_gid))


def give(folder: DataFolder, *, owner: tuple[int, int]) -> None:
    """Make an account the owner of what PostgreSQL needs; root, who runs the rest, can still reach it all."""
    cluster = folder.postgres.rglob("*") if folder.postgres.exists() else iter(())
    for path in (folder.path, folder.parts_lock, folder.run, folder.postgres, *cluster):
        if path.exists():
            os.chown(path, *owner, follow_symlinks=False)


def _refusal(account: Account, folder: DataFolder) -> str | None:
    """Why a command cannot run under an account; None when it can."""
    command = [*account.prefix, *guarded([postgres_binary("initdb"), "--version"], lock=folder.parts_lock)]
    try:
        result = subprocess.run(
            command,
            cwd=folder.path,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError as error:
        return str(error)
    return (
        None
        if result.returncode == 0
        else (result.stderr.strip() or f"exit status {result.returncode}")[-300:]
    )
