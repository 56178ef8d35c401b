"""Kill anything, lose nothing: `python -m benchmarks.chaos --cycles 200 --seed 1`, or make chaos CYCLES=200 SEED=1.

Progress goes to stderr, one JSON object to stdout at the end; the exit status is 1 where an invariant was violated.
A run that was interrupted goes on after its last finished cycle; `--anew` begins again, `--cycle N` runs one cycle.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.chaos import garbage, plan
from benchmarks.chaos.cycle import Cycle
from benchmarks.chaos.ledger import Ledger, total
from benchmarks.chaos.plan import METRICS_FAULTS, OTHER_FAULTS, REAL, STORE_FAULTS, WORKER_FAULTS
from benchmarks.chaos.reference import References
from benchmarks.chaos.rig import running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.chaos.rig import Rig

_SAID_S = 8.0


def main() -> int:
    """Run what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__)
    parser.add_argument("--cycles", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycle", type=int, help="run only this one, again if it was run")
    parser.add_argument("--anew", action="store_true", help="forget what earlier runs of this seed finished")
    parser.add_argument("--real-every", type=int, default=10, help="0: cheap trainings only")
    parser.add_argument("--folder", type=Path, default=Path("build/chaos"))
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if options.anew:
        (folder / "cycles.jsonl").unlink(missing_ok=True)
    cycles = (
        range(1, options.cycles + 1) if options.cycle is None else range(options.cycle, options.cycle + 1)
    )
    ledger = Ledger(folder / "cycles.jsonl")
    done = ledger.finished(seed=options.seed, cycles=cycles)
    todo = [number for number in cycles if number not in done or options.cycle is not None]
    violations: list[str] = []
    while todo:
        todo, left = _run(folder, todo, ledger=ledger, seed=options.seed, real_every=options.real_every)
        violations += left
    finished = ledger.finished(seed=options.seed, cycles=cycles)
    faults = (*WORKER_FAULTS, *METRICS_FAULTS, *OTHER_FAULTS, *STORE_FAULTS)
    result = total([finished[number] for number in cycles], violations=violations, faults=faults)
    print(json.dumps(result))
    return 1 if result["violations"] else 0


def _run(
    folder: Path, todo: Sequence[int], *, ledger: Ledger, seed: int, real_every: int
) -> tuple[list[int], list[str]]:
    """Run cycles on one stack, until all are done or one was violated: the next one then gets a fresh stack.

    Returns:
        The cycles that are still to be run, and what was left: files without a row, processes after the stop.
    """
    remaining = list(todo)
    references = References(folder)
    with running(folder) as rig:
        _say(f"the stack runs, its logs are in {rig.services.folder}")
        if not rig.store_is_small:
            _say("the store cannot be a disk of its own here (that needs root), so it is never filled")
        requests = rig.requests()
        while remaining:
            number = remaining.pop(0)
            planned = plan.draw(seed, number, real_every=real_every, requests=requests)
            if any(submission.config is REAL for submission in planned.submissions):
                references.make_real(rig)
            outcome = run_cycle(rig, planned, references=references)
            ledger.add(outcome)
            if outcome["violations"]:
                break
        left = garbage.left(rig)
    left += [f"{process} is left after the stop" for process in _after_stop(rig)]
    for text in left:
        _say(f"VIOLATED: {text}")
    return remaining, left


def run_cycle(rig: Rig, planned: plan.Plan, *, references: References, **options: Any) -> dict[str, Any]:
    """Run one cycle and say how it went; the logs of a violated one are kept in failed/.

    Args:
        rig: the running stack.
        planned: what happens.
        references: of undisturbed curves.
        options: of Cycle.
    """
    sizes = {path: path.stat().st_size for path in rig.logs()}
    outcome = Cycle(rig, planned, references, **options).run()
    struck = ", ".join(f"{count} {kind}" for kind, count in outcome["faults"].items())
    missed = "".join(f", missed {name}" for name in outcome["missed"])
    ended = ", ".join(f"{count} {state}" for state, count in outcome["ended"].items())
    _say(f"cycle {planned.number} of seed {planned.seed}, {outcome['seconds']} s: {struck}{missed}; {ended}")
    for text in outcome["violations"]:
        _say(f"  VIOLATED: {text}")
    if outcome["violations"]:
        kept = rig.folder / "failed" / f"{planned.seed}-{planned.number}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        (kept / "outcome.json").write_text(json.dumps(outcome, indent=1))
        stories = [{"job": story.job, "events": story.events, "evaluations": story.evaluations}
                   for story in rig.database.stories(planned.cycle)]  # fmt: skip
        (kept / "stories.json").write_text(json.dumps(stories, indent=1, default=str))
        for path in rig.logs():
            with path.open("rb") as log:
                log.seek(sizes.get(path, 0))
                (kept / path.name).write_bytes(log.read())
        _say(f"  its logs are in {kept}; `--seed {planned.seed} --cycle {planned.number}` runs it again")
    return outcome


def _after_stop(rig: Rig) -> list[str]:
    """Processes that survive the stack; children of stopped workers get a moment to end."""
    deadline = time.monotonic() + _SAID_S
    while (left := rig.survivors()) and time.monotonic() < deadline:
        time.sleep(0.1)
    names = []
    for process in left:
        names.append(f"process {process.pid} ({process.name()})")
        process.kill()
    return names


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
