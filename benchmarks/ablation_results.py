"""The lines of an ablation: one JSON object a finished run, on the disk before the next run begins."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ("suite", "variant", "dataset", "seconds")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last one without its end was torn by an interruption, and does not count."""
    content = path.read_bytes() if path.is_file() else b""
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def append(path: Path, line: dict[str, Any]) -> None:
    """Append a line in place of a torn one; it is fsynced on return."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.is_file() else b""
    with path.open("ab") as file:
        file.truncate(content.rfind(b"\n") + 1)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def same_run(line: dict[str, Any], head: dict[str, Any]) -> bool:
    """Whether a result is that of a planned run, by whatever name: the same configuration, pictures and protocol.

    Configurations and protocols agree in every key that both know: a key that a later version added does not make old
    results void, a changed default does.

    Args:
        line: a result.
        head: dataset, protocol and config of the run.
    """
    return (
        line["dataset"]["hash"] == head["dataset"]["hash"]
        and _agree(line["protocol"], head["protocol"])
        and _agree(line["config"], head["config"])
    )


def _agree(then: Any, now: Any) -> bool:
    if isinstance(then, dict) and isinstance(now, dict):
        return all(_agree(then[name], now[name]) for name in then.keys() & now.keys())
    return bool(then == now)


def answers(line: dict[str, Any], head: dict[str, Any]) -> bool:
    """Whether a result is that of a planned run, by its own name."""
    return all(line[name] == head[name] for name in _NAMES) and same_run(line, head)
