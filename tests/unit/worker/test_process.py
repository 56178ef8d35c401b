from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from core.schemas.sent import Frozen
from core.schemas.ticks import FinishedTick
from core.settings import settings
from worker.process import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# It says that it is done, closes all that its parent reads, and ends a moment later.
LINGERING = """
import os, sys, time
ticks_fd = int(sys.argv[sys.argv.index("--ticks-fd") + 1])
os.write(ticks_fd, b'{"tick": "finished", "images_seen": 8}\\n')
for descriptor in (ticks_fd, 1, 2):
    os.close(descriptor)
time.sleep(0.3)
"""


class Nothing(Frozen):
    """What the child should do."""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "lingering.py").write_text(LINGERING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL"):
        monkeypatch.setenv(name, "none")
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_a_child_that_ends_after_its_pipes_do_is_not_waited_for_longer(tmp_path: Path) -> None:
    child = Child("lingering", Nothing(), work_dir=tmp_path, threads=1)
    ticks = []
    patience_s = 60.0
    began = time.monotonic()
    while not child.over:
        ticks += child.read(patience_s)[0]
    assert time.monotonic() - began < patience_s / 2
    assert child.return_code == 0
    assert ticks == [FinishedTick(images_seen=8)]
    child.close()


def test_a_child_that_goes_on_without_its_pipes_can_still_be_told_to_end(tmp_path: Path) -> None:
    (tmp_path / "lingering.py").write_text(LINGERING.replace("0.3", "600"))
    child = Child("lingering", Nothing(), work_dir=tmp_path, threads=1)
    while child.last is None:
        child.read(60)
    assert child.read(0.05) == ([], [])
    assert not child.over
    child.close()
    assert child.over
