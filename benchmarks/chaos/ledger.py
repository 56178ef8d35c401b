"""The finished cycles of all runs, one JSON object a line: a run goes on after the last one, and adds all up."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_SUMS = ("accepted", "duplicates", "lost", "orphans", "curves_compared", "curves_equal")


class Ledger:
    """Where finished cycles are kept.

    Args:
        path: of the file; made when the first cycle is finished.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def finished(self, *, seed: int, cycles: range) -> dict[int, dict[str, Any]]:
        """Those of a seed's cycles that are done, by number; of one that was run again, the last."""
        if not self._path.exists():
            return {}
        # A line that a kill cut off was not finished.
        lines = [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        found = [json.loads(line) for line in lines]
        return {line["cycle"]: line for line in found if line["seed"] == seed and line["cycle"] in cycles}

    def add(self, outcome: dict[str, Any]) -> None:
        """Write a finished cycle down."""
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
