"""The finished cycles of all runs, one JSON object a line: a run goes on after the last one, and adds all up."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

_SUMS = ("accepted", "duplicates", "lost", "orphans", "curves_compared", "curves_equal")


@cache
def revision() -> str:
    """The commit of this code, with `-dirty` where it was changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


class Ledger:
    """Where finished cycles are kept.

    Args:
        path: of the file; made when the first cycle is finished.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def finished(self, *, seed: int, cycles: range) -> dict[int, dict[str, Any]]:
        """Those of a seed's cycles that are done, by number; of one that was run again, the last."""
        return {line["cycle"]: line for line in self._lines(seed) if line.get("cycle") in cycles}

    def left(self, *, seed: int) -> list[str]:
        """The violations that runs of a seed found after their last cycle, when all was to be at rest."""
        return [text for line in self._lines(seed) for text in line.get("left", ())]

    def _lines(self, seed: int) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        # A line that a kill cut off was not finished.
        lines = [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [found for found in map(json.loads, lines) if found["seed"] == seed]

    def add(self, outcome: dict[str, Any]) -> None:
        """Write a finished cycle, or what a run left, down."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(outcome) + "\n")


def total(cycles: list[dict[str, Any]], *, violations: list[str], faults: tuple[str, ...]) -> dict[str, Any]:
    """What a run prints last.

    Args:
        cycles: as the ledger holds them.
        violations: of the run as a whole, beside those of the cycles.
        faults: kinds to be named also where none struck.
    """
    struck: Counter[str] = Counter(dict.fromkeys(faults, 0))
    ended: Counter[str] = Counter()
    sums: Counter[str] = Counter(dict.fromkeys(_SUMS, 0))
    told = list(violations)
    for cycle in cycles:
        struck.update(cycle["faults"])
        ended.update(cycle["ended"])
        sums.update({name: cycle[name] for name in _SUMS})
        told += [f"cycle {cycle['cycle']} of seed {cycle['seed']}: {text}" for text in cycle["violations"]]
    return {
        "cycles": len(cycles),
        "violations": told,
        "faults": dict(sorted(struck.items())),
        "accepted": sums["accepted"],
        "ended": dict(sorted(ended.items())),
        "duplicates": sums["duplicates"],
        "lost": sums["lost"],
        "orphans": sums["orphans"],
        "longest_recovery_s": max((cycle["longest_recovery_s"] for cycle in cycles), default=0.0),
        "curves_compared": sums["curves_compared"],
        "curves_equal": sums["curves_equal"],
    }
