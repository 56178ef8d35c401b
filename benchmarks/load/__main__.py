"""Measure every target of the service: `python -m benchmarks.load`, or make load. About eight minutes on two cores.

A line of JSON for each target goes to stdout, progress to stderr. The exit status is 0 also where a target is missed;
it is another one only where nothing could be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load.figures import MeasurementFailed, Row
from benchmarks.load.jobs import burst, cancel, one_at_a_time
from benchmarks.load.many import many
from benchmarks.load.recovery import recovery
from benchmarks.load.requests import requests
from benchmarks.load.rig import QUICK, running, say
from benchmarks.load.streams import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load.rig import Rig

PARTS = ("requests", "burst", "idle", "streams", "cancel", "recovery", "list")


def main() -> int:
    """Measure what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="every part in little, with short leases: a try-out"
    )
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="some of the parts")
    parser.add_argument("--workers", type=int, default=2, help="for the burst")
    parser.add_argument("--jobs", type=int, help="for the burst: 1,000")
    parser.add_argument("--list", type=int, help="jobs to list among: 1,000,000")
    parser.add_argument("--folder", type=Path, default=Path("build/load"))
    options = parser.parse_args()
    quick = bool(options.quick)
    seconds = 1.0 if quick else 8.0
    jobs = options.jobs or (30 if quick else 1000)
    listed = options.list or (5_000 if quick else 1_000_000)
    parts: dict[str, Callable[[Rig], Iterator[Row]]] = {
        "requests": lambda rig: requests(rig, seconds=seconds),
        "burst": lambda rig: burst(rig, count=jobs, workers=options.workers),
        "idle": lambda rig: one_at_a_time(rig, count=5 if quick else 100),
        "streams": lambda rig: streams(rig, count=20 if quick else 500, seconds=2 if quick else 15),
        "cancel": cancel,
        "recovery": recovery,
        "list": lambda rig: many(rig, jobs=listed, seconds=0.5 if quick else 3),
    }
    try:
        with running(options.folder.absolute(), extra=QUICK if quick else {}) as rig:
            for name in PARTS:
                if name in options.only:
                    say(f"measuring: {name}")
                    for row in parts[name](rig):
                        print(json.dumps(row.as_json()), flush=True)
    except MeasurementFailed as error:
        say(f"Could not measure: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
