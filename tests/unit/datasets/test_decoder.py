"""The decoding process: what becomes of pictures that overtax it, of what it may touch, and of it."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from core.datasets import decoder as module
from core.datasets import ingest, pictures
from core.datasets.archives import Found
from core.datasets.decoder import Decoder, TooDemanding
from core.datasets.ingest import Upload, normalise_uploads
from core.datasets.pictures import Picture, contact_sheet, normalise
from core.errors import DatasetUnusable, InfrastructureError, StoreFull
from core.schemas.datasets import Rejection
from core.settings import settings
from tests.picture_files import encoded, png, pngs

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.settings import Settings

MIB = 1024 * 1024
DEADLINE_S = 20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces it")

# Stands in for the decoding process: it ends, hangs or talks nonsense when it is told to by a file's bytes.
PLAYED = """
import json, os, signal, struct, sys, time
def png(side):
    return b"\\x89PNG\\r\\n\\x1a\\n\\0\\0\\0\\x0dIHDR" + struct.pack(">II", side, side)
print('{"kind": "ready"}', flush=True)
for line in sys.stdin:
    request = json.loads(line)
    what = open(request["source"], "rb").read()
    if what == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == b"hang":
        time.sleep(600)
    if what == b"nonsense":
        print("I am a picture", flush=True)
    elif what == b"flood":
        while True:
            print("x" * 1000, end="", flush=True)
    elif what in (b"lie", b"link"):
        if what == b"link":
            os.symlink("/etc/passwd", request["target"])
        print('{"kind": "picture", "width": 32, "height": 32, "facts": {}}', flush=True)
    elif what in (b"page", b"other"):
        open(request["target"], "wb").write(b"<html>" * 9 if what == b"page" else png(33))
        print('{"kind": "picture", "width": 32, "height": 32, "facts": {}}', flush=True)
    elif what == b"huge":
        open(request["target"], "wb").write(png(100_000))
        print('{"kind": "picture", "width": 100000, "height": 100000, "facts": {}}', flush=True)
    elif what == b"full":
        print('{"kind": "disk", "errno": 28, "reason": "No space left on device"}', flush=True)
    else:
        if what.startswith(b"slow"):
            time.sleep(0.2)
        open(request["target"], "wb").write(png(32) + what)
        print('{"kind": "picture", "width": 32, "height": 32, "facts": {}}', flush=True)
"""


# Takes a fifth of a second for each large picture that it is told to read.
SLOW_READER = """
import json, sys, time
print('{"kind": "ready"}', flush=True)
for line in sys.stdin:
    request = json.loads(line)
    for source in request.get("sources") or [request["source"]]:
        time.sleep(0.2 * (len(open(source, "rb").read()) > 1000))
    open(request["target"], "wb").write(b"small")
    print('{"kind": "done"}', flush=True)
"""

WORDS = ["ended with -9", "longer than 0.5 s", "nonsense", "longer", "not do what", "not do what"]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have decoders run another program."""

    def play(program: str) -> None:
        package = tmp_path / "played" / "core" / "datasets"
        package.mkdir(parents=True)
        (package / "decode_process.py").write_text(program)
        monkeypatch.setattr(module, "_ENVIRONMENT", {"PYTHONPATH": str(tmp_path / "played")})

    return play


def is_gone(pid: int | None) -> bool:
    assert pid is not None
    return not Path(f"/proc/{pid}").exists()


def uploaded(folder: Path, files: dict[str, bytes]) -> list[Upload]:
    uploads = []
    for name, data in files.items():
        path = folder / f"{len(uploads)}.upload"
        path.write_bytes(data)
        uploads.append(Upload(name, path))
    return uploads


def test_what_ends_or_holds_up_the_process_is_too_demanding_and_the_rest_goes_on(
    tmp_path: Path, played: Callable[[str], None], limits: Callable[..., Settings]
) -> None:
    played(PLAYED)
    bad = {name: name.encode() for name in ("kill", "hang", "nonsense", "flood", "lie", "link")}
    files = {"a": b"a", "b": b"b"} | bad | {"c": b"c", "d": b"d"}
    result = normalise_uploads(
        uploaded(tmp_path, files), folder=tmp_path, limits=limits(decode_timeout_s=0.5)
    )
    assert [picture.name for picture in result.pictures] == ["a", "b", "c", "d"]
    assert [(r.name, r.code) for r in result.rejected] == [(name, "too_demanding") for name in bad]
    reasons = [rejection.reason for rejection in result.rejected]
    for reason, word in zip(reasons, WORDS, strict=True):
        assert word in reason


def test_many_demanding_pictures_end_the_upload(
    tmp_path: Path, played: Callable[[str], None], limits: Callable[..., Settings]
) -> None:
    played(PLAYED)
    files = {f"{i:02d}": b"kill" for i in range(12)} | {"a": b"a", "b": b"b", "c": b"c", "d": b"d"}
    with pytest.raises(DatasetUnusable, match="limits of time and memory") as raised:
        normalise_uploads(uploaded(tmp_path, files), folder=tmp_path, limits=limits(decode_timeout_s=5))
    assert len(raised.value.details["rejected"]) == 8


def test_a_picture_that_is_not_what_the_process_says_of_it_is_refused(
    tmp_path: Path, played: Callable[[str], None]
) -> None:
    """A page instead of a picture, one of another size, and one of more pixels than are taken."""
    played(PLAYED)
    bad = {name: name.encode() for name in ("page", "other", "huge")}
    good = {name: name.encode() for name in "abcd"}
    result = normalise_uploads(uploaded(tmp_path, bad | good), folder=tmp_path, limits=settings())
    assert [picture.name for picture in result.pictures] == list(good)
    assert [(r.name, r.code) for r in result.rejected] == [(name, "too_demanding") for name in bad]


def test_pictures_that_take_long_all_together_end_the_upload(
    tmp_path: Path, played: Callable[[str], None], limits: Callable[..., Settings]
) -> None:
    played(PLAYED)
    files = {f"{i:02d}": b"slow %d" % i for i in range(20)}
    uploads = uploaded(tmp_path, files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "_BUDGET_PER_PICTURE_S", 0.01)
        with pytest.raises(DatasetUnusable, match=r"longer than 0\.6 s, and the rest was not tried"):
            normalise_uploads(uploads, folder=tmp_path, limits=limits(decode_budget_s=0.4))
    assert len([upload for upload in uploads if upload.path.exists()]) > 10


def test_a_contact_sheet_of_many_large_pictures_has_the_time_that_it_takes(
    tmp_path: Path,
    played: Callable[[str], None],
    limits: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played(SLOW_READER)
    monkeypatch.setattr(pictures, "settings", lambda: limits(decode_timeout_s=0.7))
    large = tmp_path / "large.png"
    large.write_bytes(bytes(2_000))
    many = [Picture(f"{n}.png", large, 32, 32, 2_000, "") for n in range(6)]
    contact_sheet(many, target=tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").exists()
    assert not list(tmp_path.glob("sheet-*")), "what the sheet was made of should have made room"


def test_a_full_disk_is_the_service_s_fault(tmp_path: Path, played: Callable[[str], None]) -> None:
    played(PLAYED)
    with pytest.raises(StoreFull):
        normalise_uploads(uploaded(tmp_path, {"a": b"full"}), folder=tmp_path, limits=settings())


def test_a_process_that_cannot_start_is_the_service_s_fault(
    tmp_path: Path, played: Callable[[str], None]
) -> None:
    played("raise SystemExit('no Pillow here')")
    with pytest.raises(InfrastructureError, match=r"cannot be started .*no Pillow here"):
        normalise_uploads(uploaded(tmp_path, pngs(4)), folder=tmp_path, limits=settings())


def run(decoder: Decoder, data: bytes) -> Picture | Rejection:
    source = decoder.folder / "source"
    source.write_bytes(data)
    target = decoder.folder / "target.png"
    return normalise(Found("x", source), target=target, decoder=decoder, limits=settings())


@linux_only
def test_memory_is_limited_and_the_process_goes_on(tmp_path: Path, limits: Callable[..., Settings]) -> None:
    large = encoded(Image.new("1", (8_000, 7_900)), "PNG")
    with Decoder(tmp_path, limits=limits(decode_memory_bytes=300 * MIB)) as decoder:
        refused = run(decoder, large)
        assert isinstance(refused, Rejection)
        assert (refused.code, "memory" in refused.reason) == ("too_demanding", True)
        assert isinstance(run(decoder, png()), Picture)


def test_the_largest_pictures_fit_into_the_limit(tmp_path: Path) -> None:
    """Of the kind that takes most: turned and transparent."""
    side = int(settings().max_picture_pixels ** 0.5)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGBA", (side, side)), "PNG", exif=exif, compress_level=1)
    with Decoder(tmp_path, limits=settings()) as decoder:
        made = run(decoder, data)
        assert isinstance(made, Picture), made


@linux_only
def test_processor_time_is_limited_even_if_nobody_watches(tmp_path: Path) -> None:
    program = "from core.datasets.enclosure import limit_processor\nlimit_processor(0.2)\nwhile True: pass"
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == -24, "SIGXCPU"
    assert time.monotonic() - started < 60


@linux_only
def test_the_process_has_no_secrets_no_network_and_one_folder(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-Urn", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no user namespaces here")
    (tmp_path / "own").mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(png())
    with Decoder(tmp_path / "own", limits=settings()) as decoder:
        assert isinstance(run(decoder, png()), Picture)
        environment = Path(f"/proc/{decoder.pid}/environ").read_bytes()
        for name in (b"DATABASE_URL", b"BROKER_URL", b"STORAGE_URL", b"HOME"):
            assert name not in environment
        network = Path(f"/proc/{decoder.pid}/ns/net")
        assert network.readlink() != Path("/proc/self/ns/net").readlink()
        target = decoder.folder / "sheet.jpg"
        made = str(decoder.folder / "target.png")
        with pytest.raises(TooDemanding, match="Permission denied"):
            decoder.ask("contact_sheet", target=target, sources=[made, str(secret)])
        decoder.ask("contact_sheet", target=target, sources=[made])
        first = decoder.pid
        with pytest.raises(TooDemanding, match="Permission denied"):
            decoder.ask("contact_sheet", target=tmp_path / "outside.jpg", sources=[made])
        assert not (tmp_path / "outside.jpg").exists()
        assert is_gone(first)


TRUNCATING = """
import os, sys
from pathlib import Path
from core.datasets.enclosure import enclose
enclose(Path(sys.argv[1]))
os.truncate(sys.argv[1] + "/own", 0)
try:
    os.truncate(sys.argv[2], 0)
except PermissionError:
    print("kept")
"""


@linux_only
def test_what_lies_outside_its_folder_cannot_be_emptied(tmp_path: Path) -> None:
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 3:  # the version of Landlock
        pytest.skip("no Landlock here that knows of truncating")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "own").write_bytes(b"own")
    other = tmp_path / "other"
    other.write_bytes(b"other")
    command = [sys.executable, "-c", TRUNCATING, str(tmp_path / "folder"), str(other)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (told.stdout, other.read_bytes()) == ("kept\n", b"other")


FORKING = """
import os, sys
from core.datasets import enclosure
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
enclosure.limit_resources(memory_bytes=2**31, file_bytes=2**20)
try:
    os.fork()
except BlockingIOError:
    print("alone")
"""


@linux_only
def test_the_process_starts_no_other_one() -> None:
    told = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout == "alone\n"


# Leaves a child behind, which holds none of its pipes.
FATHER = """
import json, subprocess, sys
print('{"kind": "ready"}', flush=True)
for line in sys.stdin:
    request = json.loads(line)
    child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    open(request["target"], "w").write(str(child.pid))
    print('{"kind": "done"}', flush=True)
"""


@linux_only
def test_what_the_process_started_ends_with_it(tmp_path: Path, played: Callable[[str], None]) -> None:
    played(FATHER)
    with Decoder(tmp_path, limits=settings()) as decoder:
        decoder.ask("thumbnail", target=tmp_path / "pid", source="")
    child = Path("/proc") / (tmp_path / "pid").read_text()
    deadline = time.monotonic() + DEADLINE_S
    with suppress(FileNotFoundError, ProcessLookupError):
        # Z: it has ended, and nobody has asked yet how.
        while ") Z " not in (child / "stat").read_text():
            assert time.monotonic() < deadline, "the process left another one behind"
            time.sleep(0.02)


PARENT = """
import sys
from pathlib import Path
from core.datasets.decoder import Decoder
from core.settings import Settings
limits = Settings(database_url="unused://", broker_url="unused://", storage_url="unused://")
decoder = Decoder(Path(sys.argv[1]), limits=limits)
decoder.ask("normalise", source=sys.argv[2], target=Path(sys.argv[1]) / "x.png", max_bytes=10**6, max_pixels=10**6)
print(decoder.pid, flush=True)
sys.stdin.read()
"""


@linux_only
def test_the_process_dies_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(png())
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(tmp_path / "source")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + DEADLINE_S
    while not is_gone(pid):
        assert time.monotonic() < deadline, "the process outlived its parent"
        time.sleep(0.02)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_metadata_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    plain = png()
    bomb = zlib.compress(bytes(200 * MIB), 9)
    with Decoder(tmp_path, limits=settings()) as decoder:
        for body in (
            chunk(b"zTXt", b"Comment\0\0" + bomb),
            chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb),
            chunk(b"iCCP", b"profile\0\0" + bomb),
        ):
            result = run(decoder, plain[:33] + body + plain[33:])
            assert isinstance(result, Rejection)
            assert (result.code, "too large" in result.reason) == ("broken", True)
        # A profile is never looked into: what it holds does not matter.
        garbage = encoded(Image.new("RGB", (40, 36), "red"), "JPEG", icc_profile=os.urandom(3000))
        assert isinstance(run(decoder, garbage), Picture)
