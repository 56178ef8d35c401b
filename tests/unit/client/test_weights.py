"""`slaegan weights` against a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from typer.testing import CliRunner

from client.commands import weights
from client.local.weights import fetch_weights, weights_files
from core.errors import InvalidRequest, WeightsMissing
from core.weights import ALEXNET, CATALOGUE, INCEPTION_FILES, VGG16_FILE, VGG16_SHA256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.schemas.judging import Extractor

BODY = bytes(range(256)) * 4096
NAME = INCEPTION_FILES[0]


class Handler(BaseHTTPRequestHandler):
    """Gives `body`, redirected to, but breaks off after `limit` bytes as often as `breaks` says."""

    body = BODY
    limit = 300_000
    breaks: ClassVar[list[None]] = []
    tag = '"version 1"'
    takes_ranges = True
    asked: ClassVar[list[tuple[str | None, str | None]]] = []

    def do_GET(self) -> None:
        if self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path != "/elsewhere":
            self.send_error(404)
            return
        asked, same = self.headers.get("Range"), self.headers.get("If-Range")
        self.asked.append((asked, same))
        start = 0
        if asked and self.takes_ranges and same == self.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        rest = self.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.tag)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.breaks:
            self.breaks.pop()
            rest = rest[: self.limit]
        self.wfile.write(rest)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests look at `asked` instead."""


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, *, path: str = "/file", **changes: object
) -> Iterator[type[Handler]]:
    """A server of what Inception's weights shall be."""
    handler = type("Changed", (Handler,), {"breaks": [], "asked": [], **changes})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        _published_at(f"http://127.0.0.1:{server.server_address[1]}{path}", monkeypatch)
        try:
            yield handler
        finally:
            server.shutdown()
            thread.join()


def _published_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = CATALOGUE["inception_v3"]._replace(url=url, sha256=hashlib.sha256(BODY).hexdigest())
    monkeypatch.setitem(CATALOGUE, "inception_v3", known)


@pytest.fixture(autouse=True)
def _at_once_and_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_download_that_breaks_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, breaks=[None, None]) as handler:
        result = CliRunner().invoke(weights.app, ["fetch", "inception_v3", "--folder", str(tmp_path / "new")])
        assert handler.asked == [
            (None, None),
            ("bytes=300000-", handler.tag),
            ("bytes=600000-", handler.tag),
        ]
        assert result.stdout.strip() == str(tmp_path / "new" / NAME)
        assert fetch_weights("inception_v3", tmp_path / "new") == tmp_path / "new" / NAME
        assert len(handler.asked) == 3, "what is there and right is not fetched again"
    assert (tmp_path / "new" / NAME).read_bytes() == BODY
    assert left(tmp_path / "new") == {NAME}


@pytest.mark.parametrize("tag", ['"version 1"', '"version 2"'])
def test_another_run_goes_on_with_the_same_version_only(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = serving(monkeypatch, breaks=[None] * 5, limit=1_000)
    with broken, pytest.raises(WeightsMissing, match="broke off 5 times"):
        fetch_weights("inception_v3", tmp_path)
    part = tmp_path / f"{NAME}.part"
    assert part.read_bytes() == BODY[:5_000], "what came is kept"
    if tag != Handler.tag:
        part.write_bytes(b"of the other version")
    with serving(monkeypatch, tag=tag) as handler:
        fetch_weights("inception_v3", tmp_path)
        (asked,) = handler.asked
    assert asked[1] == '"version 1"'
    assert (tmp_path / NAME).read_bytes() == BODY
    assert left(tmp_path) == {NAME}


@pytest.mark.parametrize("changes", [{"takes_ranges": False}, {"tag": 'W/"weak"'}])
def test_a_server_that_cannot_go_on_begins_anew(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, breaks=[None], **changes) as handler:
        fetch_weights("inception_v3", tmp_path)
        assert [asked for asked, _ in handler.asked] == [None, "bytes=300000-"]
        assert handler.tag != handler.asked[1][1] or not handler.takes_ranges
    assert (tmp_path / NAME).read_bytes() == BODY


def test_other_bytes_are_refused_and_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = BODY[:-1] + b"x"
    with serving(monkeypatch, body=other), pytest.raises(WeightsMissing) as caught:
        fetch_weights("inception_v3", tmp_path)
    assert hashlib.sha256(other).hexdigest() in caught.value.message
    assert hashlib.sha256(BODY).hexdigest() in caught.value.message
    assert left(tmp_path) == set()


def test_an_address_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, path="/gone"), pytest.raises(WeightsMissing, match="/gone answered 404"):
        fetch_weights("inception_v3", tmp_path)


def test_a_closed_network_says_what_to_do_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        _published_at(url, monkeypatch)
        with pytest.raises(WeightsMissing) as caught:
            fetch_weights("inception_v3", tmp_path)
    for wanted in (url, str(tmp_path), NAME, hashlib.sha256(BODY).hexdigest()):
        assert wanted in caught.value.message


def test_weights_without_a_published_hash_are_for_the_user_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"dinov2_vits14_pretrain\.pth yourself"):
        fetch_weights("dinov2_vits14", tmp_path)


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    result = CliRunner().invoke(weights.app, ["fetch", "vgg16", "vgg19", "--folder", str(tmp_path)])
    assert isinstance(result.exception, InvalidRequest)
    assert "'vgg19'; there are inception_v3, vgg16, alexnet" in result.exception.message
    assert left(tmp_path) == set(), "nothing is fetched before all names are known"


def test_all_are_listed_and_what_is_there_is_verified(tmp_path: Path, weights_dir: Path) -> None:
    (tmp_path / VGG16_FILE).symlink_to(weights_dir / VGG16_FILE)
    (tmp_path / "dinov2_vits14_pretrain.pth").write_bytes(b"weights")
    found = {file.extractor: file for file in weights_files(tmp_path)}
    assert tuple(found) == tuple(CATALOGUE)
    assert (found["vgg16"].state, found["vgg16"].sha256) == ("here", VGG16_SHA256)
    dinov2 = found["dinov2_vits14"]
    assert (dinov2.state, dinov2.size_bytes) == ("unverified", 7)
    assert dinov2.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert {file.state for name, file in found.items() if name not in {"vgg16", "dinov2_vits14"}} == {
        "missing"
    }

    listed = CliRunner().invoke(weights.app, ["list", "--folder", str(tmp_path)]).stdout
    for known in CATALOGUE.values():
        assert known.source in listed or known.files[0] in listed
    good = CliRunner().invoke(weights.app, ["verify", "--folder", str(tmp_path)])
    assert (good.exit_code, str(dinov2.sha256) in good.stdout) == (0, True)
    (tmp_path / ALEXNET.file).write_bytes(b"damaged")
    bad = CliRunner().invoke(weights.app, ["verify", "--folder", str(tmp_path)])
    assert bad.exit_code == 1
    (line,) = [line for line in bad.stdout.splitlines() if "wrong" in line]
    assert ALEXNET.file in line


@pytest.mark.parametrize("extractor", ["vgg16", "alexnet"])
def test_the_command_finds_the_services_folder(
    extractor: Extractor, tmp_path: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-P", "-m", "client.cli", "weights", "fetch", extractor]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("SLAEGAN_WEIGHTS_DIR", str(weights_dir))
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (0, f"{weights_dir / CATALOGUE[extractor].files[0]}\n")
    (tmp_path / CATALOGUE[extractor].files[0]).touch()
    monkeypatch.setenv("SLAEGAN_WEIGHTS_DIR", str(tmp_path))
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "sha256" in bad.stderr
