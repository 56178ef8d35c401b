"""What a supervisor reads of its child."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.process import LOG_LINE_CHARS, READ_BYTES, _LogLines


def read(program: str) -> tuple[list[str], int]:
    """All lines that a program prints, and the most bytes that were kept of it between two reads."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines, found, most = _LogLines(process.stdout), list[str](), 0
        more = True
        while more:
            more = lines.fill()
            found += [line.decode() for line in lines.take()]
            most = max(most, len(lines._buffer))
    return found, most


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("print('one'); print('two')", ["one", "two"]),
        ("print('one'); print('the end', end='')", ["one", "the end"]),
        ("print(end='')", []),
        ("print()", [""]),
    ],
)
def test_no_line_is_lost(program: str, lines: list[str]) -> None:
    assert read(program)[0] == lines


def test_an_endless_line_takes_no_memory() -> None:
    found, most = read("for _ in range(500): print('x' * 10_000, end='')\nprint(); print('next')")
    assert len(found[0]) >= LOG_LINE_CHARS
    assert found[1:] == ["next"]
    assert most <= READ_BYTES
