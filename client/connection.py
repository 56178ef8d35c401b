"""Where the service is, and with which key: what `slaegan up` leaves behind, and the command line finds."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from core.errors import InvalidRequest, Unauthenticated

FILE_NAME = "client.json"


@dataclass(frozen=True)
class Connection:
    """The address of the API and a key for it."""

    url: str
    key: str

    def __repr__(self) -> str:
        """Without the key: this text may end in a log."""
        return f"Connection(url={self.url!r})"


def default_data_folder() -> Path:
    """Where `slaegan up` keeps its data when nothing is said."""
    return platformdirs.user_data_path("slaegan")


def pointer() -> Path:
    """The file that names the data folder of the newest stack of this user."""
    return platformdirs.user_state_path("slaegan") / "current"


def load(folder: Path) -> Connection | None:
    """What the stack of a data folder left; None when there is nothing."""
    try:
        facts = json.loads((folder / FILE_NAME).read_text())
        return Connection(url=facts["url"], key=facts["key"])
    except (FileNotFoundError, NotADirectoryError):
        return None


def save(connection: Connection, *, folder: Path) -> None:
    """Leave the connection for the command line, readable by this user alone.

    Args:
        connection: the address and key of a running stack.
        folder: its data folder.
    """
    _write(folder / FILE_NAME, json.dumps(asdict(connection)))


def point_to(folder: Path) -> None:
    """Make a data folder the one that the command line uses when nothing is said."""
    pointer().parent.mkdir(parents=True, exist_ok=True)
    _write(pointer(), str(folder))


def find(*, url: str | None, key: str | None, data: Path | None) -> Connection:
    """The connection to use: what is given, then what the data folder says, then what the pointer leads to.

    Args:
        url: the API's address, if given.
        key: the API key, if given.
        data: a data folder, if given.

    Raises:
        Unauthenticated: no address or no key can be found.
        InvalidRequest: the address is none.
    """
    if url and not url.startswith(("http://", "https://")):
        raise InvalidRequest(f"The address {url!r} is none of http or https: write http:// before it.")
    if url and key:
        return Connection(url, key)
    folders = [data] if data else [*_pointed(), default_data_folder()]
    for folder in folders:
        found = load(folder)
        if found is not None and (not url or url.rstrip("/") == found.url):
            return Connection(url or found.url, key or found.key)
    raise Unauthenticated(
        f"No {'API key' if url else 'service'} is known (looked in {', '.join(map(str, folders))}): start one with "
        "`slaegan up`, or give --url and --key (or SLAEGAN_URL and SLAEGAN_API_KEY)."
    )


def known(*, url: str | None, key: str | None, data: Path | None) -> Connection:
    """As `find`, where what is not given may be in the environment: SLAEGAN_URL, SLAEGAN_API_KEY, SLAEGAN_DATA."""
    folder = os.environ.get("SLAEGAN_DATA")
    return find(
        url=url or os.environ.get("SLAEGAN_URL"),
        key=key or os.environ.get("SLAEGAN_API_KEY"),
        data=data or (Path(folder) if folder else None),
    )


def newest_data_folder() -> Path:
    """The data folder of the newest stack, or the default one."""
    return next(iter(_pointed()), default_data_folder())


def _pointed() -> list[Path]:
    try:
        return [Path(pointer().read_text().strip())]
    except FileNotFoundError:
        return []


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
