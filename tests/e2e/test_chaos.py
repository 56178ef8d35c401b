"""The chaos harness finds nothing where nothing is wrong, and finds each bug that is planted here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.chaos.__main__ import run_cycle
from benchmarks.chaos.plan import TENANTS, Plan, Strike, Submission
from benchmarks.chaos.reference import References
from benchmarks.chaos.rig import SETTINGS, running
from benchmarks.chaos.trainer import CHEAP_FROM

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.slow, pytest.mark.alone]
ROOT = Path(__file__).parents[2]
CONFIG = {
    "resolution": 64, "batch": 4, "total_images": 160, "seed": CHEAP_FROM, "evaluation_backlog": None,
    "evaluate_every_images": 40, "checkpoint_every_images": 8,
    "evaluation": {"extractor": "vgg16", "precision": "fp32", "generated": 16, "lpips_pairs": 8},
    "stopping": {"plateau_evaluations": None, "collapse_share": None},
}  # fmt: skip


def cycle(
    folder: Path, *, strikes: Sequence[Strike] = (), modules: dict[str, str] | None = None, **config: Any
) -> dict[str, Any]:
    """One cycle of one job, on services of which some may have a planted bug."""
    job = Submission("chaos-0-1-0", TENANTS[0], config=CONFIG | config, at_s=0)
    planned = Plan(0, 1, (job,), tuple(strikes))
    with running(folder, modules=modules) as rig:
        outcome = run_cycle(rig, planned, references=References(folder), deadline_s=40)
        assert len(rig.survivors()) >= len(rig.names), "they are known by their mark while they run"
    assert rig.survivors() == []
    return outcome


def test_a_cycle_without_bugs_violates_nothing(tmp_path: Path) -> None:
    outcome = cycle(tmp_path, strikes=[Strike("kill_supervisor", "state stored", 0.0)])
    assert outcome["violations"] == []
    assert outcome["faults"] == {"kill_supervisor": 1}
    assert outcome["ended"] == {"succeeded": 1}
    assert (outcome["curves_compared"], outcome["curves_equal"]) == (1, 1)
    assert outcome["longest_recovery_s"] > float(SETTINGS["SLAEGAN_LEASE_S"]) - 1


def test_a_write_without_the_fencing_token_is_found(tmp_path: Path) -> None:
    """A worker that was frozen within a transaction finds its connection gone, and by its own clock stops unasked."""
    for number in range(3):
        outcome = cycle(
            tmp_path / str(number),
            strikes=[Strike("freeze_worker", "state stored", 0.0)],
            modules={"train": "tests.e2e.planted.unfenced"},
            total_images=800,  # long enough for both attempts to write at once
        )
        assert outcome["faults"] == {"freeze_worker": 1}
        if any("of attempt 1, while the job was" in text for text in outcome["violations"]):
            return
    pytest.fail(f"Three frozen workers wrote nothing that was found: {outcome}")


def test_an_acknowledgement_before_the_commit_is_found(tmp_path: Path) -> None:
    outcome = cycle(tmp_path, modules={"api": "tests.e2e.planted.early_answer"})
    assert outcome["lost"] == 1
    assert any("was accepted and is not there" in text for text in outcome["violations"])


def test_a_row_before_its_file_is_found(tmp_path: Path) -> None:
    outcome = cycle(tmp_path, modules={"train": "tests.e2e.planted.early_row"})
    assert any("has no file" in text for text in outcome["violations"])


@pytest.mark.timeout(600)
def test_fifteen_cycles_of_chaos_violate_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.chaos",
        "--cycles",
        "15",
        "--seed",
        "15",
        "--folder",
        tmp_path,
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["cycles"], told["violations"], told["lost"], told["duplicates"], told["orphans"]) == (
        15, [], 0, 0, 0,
    )  # fmt: skip
    assert told["curves_compared"] == told["curves_equal"] > 0
    assert sum(told["faults"].values()) > 20
