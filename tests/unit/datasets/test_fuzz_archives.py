"""Mutated archives: whatever comes in, the answer is its files or a refusal."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.datasets.archives import Spent, unpack
from core.errors import ArchiveRejected
from core.settings import settings as service_settings
from tests.picture_files import pngs, zipped

if TYPE_CHECKING:
    from collections.abc import Callable

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}
MUTATIONS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
)
# The autouse fixture of this folder sets the environment once for all examples, which is what they need.
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def archive_file(kind: str) -> bytes:
    if kind == "zip":
        return zipped(pngs(5))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in pngs(5).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return PACKERS[kind](buffer.getvalue())


def mutated(data: bytes, mutations: list[tuple[float, int]], keep: float) -> bytes:
    changed = bytearray(data)
    for place, value in mutations:
        changed[int(place * len(changed))] = value
    return bytes(changed[: max(1, int(keep * len(changed)))])


@QUICK
@given(
    kind=st.sampled_from(["zip", *PACKERS]),
    mutations=MUTATIONS,
    keep=st.one_of(st.just(1.0), st.floats(0.1, 1)),
)
def test_mutated_archives(kind: str, mutations: list[tuple[float, int]], keep: float) -> None:
    with TemporaryDirectory() as name:
        outside, folder = Path(name), Path(name) / "unpacked"
        folder.mkdir()
        (outside / "archive").write_bytes(mutated(archive_file(kind), mutations, keep))
        try:
            result = unpack(
                outside / "archive", archive="x", folder=folder, limits=service_settings(), spent=Spent()
            )
        except ArchiveRejected as error:
            refusal = error.details
        else:
            refusal = {"reason": "none"}
            assert len(result.found) + len(result.rejected) <= 5
            assert all(found.path.parent == folder for found in result.found)
        assert refusal["reason"]
        assert {path.name for path in outside.iterdir()} == {"archive", "unpacked"}
