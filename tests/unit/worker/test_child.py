from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from core.errors import DataFailed
from core.schemas.ticks import ErrorTick, FinishedTick, Tick
from core.training.checkpoint import save_state
from worker.child import emitter, parse_arguments, run_guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 20

# A grandchild bound to its parent, which tells its own id and then waits to be killed.
GRANDCHILD = """
import os, sys, time
from core.parent import bind_to_parent
bind_to_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), end="", flush=True)
sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_a_child_dies_with_a_killed_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, GRANDCHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        assert is_running(grandchild)
        parent.kill()
    deadline = time.monotonic() + DEADLINE_S
    while is_running(grandchild):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


def test_a_child_of_a_dead_parent_does_not_start() -> None:
    # In a process of its own: the signal that it asks for would stay with this one.
    nobody = subprocess.run(
        [sys.executable, "-c", GRANDCHILD, "1"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert nobody.returncode == 1
    assert nobody.stdout == ""
    assert "the parent 1 has ended" in nobody.stderr


def test_a_tick_is_one_line_of_json() -> None:
    reading, writing = os.pipe()
    emit = emitter(writing)
    emit(FinishedTick(images_seen=8))
    emit(ErrorTick(code="internal", message="two\nlines"))
    assert not os.get_inheritable(writing)
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert json.loads(lines.readline()) == {"tick": "finished", "images_seen": 8}
        assert json.loads(lines.readline())["message"] == "two\nlines"
        assert lines.readline() == ""


def guarded(work: Callable[[], None]) -> tuple[int, list[Tick]]:
    ticks: list[Tick] = []
    return run_guarded(work, emit=ticks.append), ticks


def fail(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_work_that_ends_well_says_nothing_more() -> None:
    assert guarded(lambda: None) == (0, [])


def test_a_known_error_becomes_a_tick() -> None:
    code, ticks = guarded(fail(DataFailed("7.png is damaged", file="7.png")))
    assert code == 1
    assert ticks == [ErrorTick(code="data_failed", message="7.png is damaged", details={"file": "7.png"})]


@pytest.mark.parametrize(
    "error",
    [MemoryError("no room"), torch.OutOfMemoryError("CUDA out of memory")],
    ids=lambda error: type(error).__name__,
)
def test_lack_of_memory_becomes_a_tick(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    code, (tick,) = guarded(fail(error))
    assert code == 1
    assert isinstance(tick, ErrorTick)
    assert tick.code == "out_of_memory"
    assert str(error) in tick.message
    assert "Traceback" in capsys.readouterr().err


def test_torchs_own_allocator_on_the_cpu_is_recognised() -> None:
    _, (tick,) = guarded(lambda: print(torch.empty(1 << 60)))  # noqa: T201  # the tensor must be used
    assert isinstance(tick, ErrorTick)
    assert tick.code == "out_of_memory"


def test_an_unknown_error_leaves_its_traceback_and_no_tick(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(fail(ZeroDivisionError("odd"))) == (1, [])
    assert "ZeroDivisionError: odd" in capsys.readouterr().err


def test_the_command_line() -> None:
    parsed = parse_arguments(["spec.json", "--ticks-fd", "3", "--parent-pid", "7"])
    assert (parsed.spec, parsed.ticks_fd, parsed.parent_pid, parsed.threads) == (Path("spec.json"), 3, 7, 0)
    assert parse_arguments(["s", "--ticks-fd", "3", "--parent-pid", "7", "--threads", "2"]).threads == 2


def _write_state(folder: Path) -> None:
    save_state(folder / "state.pt", {"x": torch.zeros(100_000)})


def _write_generator(folder: Path) -> None:
    save_file({"x": torch.zeros(100_000)}, folder / "generator.safetensors")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("write", [_write_state, _write_generator])
def test_a_full_disk_becomes_a_tick(
    write: Callable[[Path], None], small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, (tick,) = guarded(lambda: write(small_disk))
    assert isinstance(tick, ErrorTick)
    assert tick.code == "store_full"
    assert "No space left" in capsys.readouterr().err
