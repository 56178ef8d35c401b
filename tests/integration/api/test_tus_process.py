"""Resumable uploads to the API as a process, with the client tuspy: also when that process is killed."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tusclient.client import TusClient

from core.db import make_engine
from core.keys import ensure_local_key
from tests.integration.api.conftest import CLIENT
from tests.integration.api.test_process import running
from tests.picture_files import pngs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
LENGTH = 24 * MIB
CHUNK = 10 * MIB


def archive() -> bytes:
    """Pictures, and much that is none; another time it has other bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as written:
        for name, data in pngs(4).items():
            written.writestr(name, data)
        written.writestr("noise.bin", os.urandom(LENGTH))
    return buffer.getvalue()


class Slow(io.BytesIO):
    """A body that stops halfway until it is let go on."""

    def __init__(self, data: bytes, *, stop_at: int) -> None:
        super().__init__(data)
        self._stop_at = stop_at
        self.let_go = threading.Event()

    def __iter__(self) -> Any:
        while chunk := self.read(64 * 1024):
            if self.tell() > self._stop_at:
                self.let_go.wait(60)
            yield chunk


def client_of(url: str, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}", "Tus-Resumable": "1.0.0"}
    return httpx.Client(base_url=url, headers=headers, **CLIENT)


def test_a_kill_in_the_middle_of_a_patch_loses_little_and_corrupts_nothing(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    key, data = ensure_local_key(database_url), archive()
    servers: dict[str, Any] = {
        "database_url": database_url,
        "broker_url": broker_url,
        "store_reserve_bytes": 0,
    }

    def uploader(url: str, at: str | None) -> Any:
        tus = TusClient(f"{url}/v1/uploads", headers={"Authorization": f"Bearer {key}"})
        return tus.uploader(
            file_stream=io.BytesIO(data),
            url=None if at is None else f"{url}{at}",
            chunk_size=CHUNK,
            metadata={"filename": "cats.zip"},
        )

    with running(tmp_path, **servers) as (process, url), client_of(url, key) as client:
        begun = uploader(url, None)
        begun.upload_chunk()
        assert begun.offset == CHUNK
        at = begun.url.removeprefix(url)
        body = Slow(data[CHUNK:], stop_at=9 * MIB)
        headers = {
            "Upload-Offset": str(CHUNK),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(data) - CHUNK),
        }

        def send() -> None:
            with client_of(url, key) as other, pytest.raises(httpx.TransportError):
                other.patch(at, content=body, headers=headers)

        sending = threading.Thread(target=send)
        sending.start()
        wait_until(lambda: int(client.head(at).headers["upload-offset"]) > CHUNK, patience_s=60)
        counted = int(client.head(at).headers["upload-offset"])
        process.kill()
        process.wait()
        body.let_go.set()
        sending.join(timeout=60)
        assert not sending.is_alive()

    [file] = (tmp_path / "data" / "resumable").iterdir()
    assert file.stat().st_size >= counted
    with file.open("ab") as longer:
        longer.write(b"what the kernel had not got round to")
    with running(tmp_path, **servers) as (_, url), client_of(url, key) as client:
        resumed = uploader(url, at)
        assert counted <= resumed.offset < len(data)
        resumed.upload()
        assert file.read_bytes() == data
        dataset = client.post(f"{at}/dataset", timeout=120).json()
        assert (dataset["name"], dataset["image_count"]) == ("cats", 4)
        assert not file.exists()
    engine = make_engine(database_url)
    with engine.connect() as connection:
        row = connection.exec_driver_sql("select received_bytes, dataset_id::text from uploads").one()
    engine.dispose()
    assert tuple(row) == (len(data), dataset["id"])


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123  # no file
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc here")  # noqa: PTH110
def test_memory_does_not_grow_with_an_upload(tmp_path: Path, database_url: str, broker_url: str) -> None:
    """An archive is taken with less than 200 MiB; of 512 MiB, too, with SLAEGAN_TEST_UPLOAD_MIB=512."""
    size_mib = int(os.environ.get("SLAEGAN_TEST_UPLOAD_MIB", "128"))
    path, noise = tmp_path / "big.zip", os.urandom(32 * MIB)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as written:
        for name, picture in pngs(20).items():
            written.writestr(name, picture)
        for i in range(size_mib // 32):
            written.writestr(f"noise-{i}.bin", noise)
    assert path.stat().st_size > size_mib * MIB
    key = ensure_local_key(database_url)
    servers: dict[str, Any] = {
        "database_url": database_url,
        "broker_url": broker_url,
        "store_reserve_bytes": 0,
    }
    with running(tmp_path, **servers) as (process, url), client_of(url, key) as client:
        before = peak_bytes(process.pid)
        with path.open("rb") as file:
            form = client.post("/v1/datasets", files={"files": ("big.zip", file)}, timeout=300)
        after_form = peak_bytes(process.pid)
        at = client.post("/v1/uploads", headers={"Upload-Length": str(path.stat().st_size)}).headers[
            "location"
        ]
        with path.open("rb") as file:
            head = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
            assert client.patch(at, content=file, headers=head, timeout=300).status_code == 204
        finalised = client.post(f"{at}/dataset", timeout=300)
        peak = peak_bytes(process.pid)
    path.unlink()  # pytest keeps the folders of three runs.
    for made in (form, finalised):
        assert (made.status_code, made.json()["image_count"]) == (201, 20)
        assert len(made.json()["rejected"]) == size_mib // 32
    figures = f"{size_mib} MiB: peak {before / MIB:.0f}, {after_form / MIB:.0f}, {peak / MIB:.0f} MiB"
    assert peak < 200 * MIB, figures
    assert peak - before < 48 * MIB, figures
