"""The load harness itself: every part in little, on a stack of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import clean_environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MEASURED = {
    "GET /v1/jobs/{id}": 4,
    "POST /v1/jobs": 2,
    "30 jobs submitted at once": 2,
    "jobs whose child does nothing": 1,
    "submit to claimed": 2,
    "20 streams": 4,
    "cancel": 1,
    "SIGTERM": 1,
    "kill -9": 3,
    "list among 3000 jobs": 8,
}


def test_a_quick_run_measures_every_target_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "load"
    command = [sys.executable, "-m", "benchmarks.load", "--quick", "--list", "3000", "--folder", str(folder)]
    run = subprocess.run(
        command, cwd=ROOT, env=clean_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert all(list(row) == ["target", "figure", "goal", "pass"] for row in rows)
    found = {start: sum(row["target"].startswith(start) for row in rows) for start in MEASURED}
    assert found == MEASURED
    assert len(rows) == sum(MEASURED.values())
    # How fast this machine is says nothing here; what must not happen on a slow one either does.
    counted = [
        row for row in rows if row["target"].endswith(("lost", "doubled")) or "images" in row["target"]
    ]
    assert len(counted) == 6
    assert all(row["pass"] for row in counted), counted
    assert not (folder / "data").exists(), "the servers' data is removed"
