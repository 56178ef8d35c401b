"""Where database, broker and store are: those of a stack's data folder, and those that an operator's command uses."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from client.connection import newest_data_folder
from client.local import postgres, valkey
from client.local.folder import DataFolder
from client.local.programs import external_urls
from core.errors import StackFailed

if TYPE_CHECKING:
    from pathlib import Path


def own_urls(folder: DataFolder, *, sockets: Path) -> dict[str, str]:
    """The three URLs of the servers and the store inside a data folder, by the names of their settings."""
    return {
        "DATABASE_URL": postgres.url(sockets),
        "BROKER_URL": valkey.url(sockets),
        "STORAGE_URL": f"file://{quote(str(folder.store))}",
    }


def operator_environment(data: Path | None) -> dict[str, str]:
    """What an operator's command needs in its environment to be on a service's own database, broker and store.

    The three URLs of the environment, if all are set; else those of the local stack that runs on a data folder, which
    uses the ones of the environment too where it was started with them, and that stack's SLAEGAN_DATA_DIR.

    Args:
        data: the data folder; None: that of the newest stack.

    Raises:
        StackFailed: no stack runs there, and the environment does not name all three.
    """
    external = external_urls()
    if len(external) == len(("DATABASE_URL", "BROKER_URL", "STORAGE_URL")):
        return external
    folder = DataFolder(data or newest_data_folder())
    sockets = folder.existing_sockets() if folder.is_held() else None
    if sockets is None:
        raise StackFailed(
            f"No stack runs on {folder.path}: start it with `slaegan up`, name another folder with --data, or set "
            "DATABASE_URL, BROKER_URL and STORAGE_URL, all three, to those of the service."
        )
    return {**own_urls(folder, sockets=sockets), **external, "SLAEGAN_DATA_DIR": str(folder.scratch)}
