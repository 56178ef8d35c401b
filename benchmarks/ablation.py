"""Ablations of the few-shot trainer: every variant, dataset and seed trained and evaluated; one JSON line a run.

    python -m benchmarks.ablation --suite table2 --pictures cats=FOLDER [name=FOLDER ...]
    python -m benchmarks.ablation --table

A line is appended to RESULTS/<suite>.jsonl when its run is finished, and RESULTS.md is written anew. What is there is
not run again, so an interrupted suite goes on where it was; the run that was interrupted begins anew. Seeds are the
outermost loop: an interrupted suite leaves a balanced table. Each run is a process of its own, so that one that
crashes does not end the suite. Equal time is equal only where nothing else runs beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from benchmarks import ablation_run, ablation_table
from benchmarks.ablation_results import answers, append, read_lines
from benchmarks.ablation_suites import SUITES, config_of
from core.errors import SlaeganError
from core.metrics.protocol import MetricProtocol, planned_protocol, resolve
from core.schemas.ticks import TrainingSpec
from core.schemas.training import EvaluationConfig, SlaeganConfig
from worker.process import ALLOCATOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Dataset:
    """A folder of pictures and what is in it."""

    name: str
    folder: Path
    hash: str
    pictures: int


@dataclass(frozen=True)
class Run:
    """One training of one variant, and how it will be judged; `seconds` is None where total_images ends it."""

    suite: str
    variant: str
    dataset: Dataset
    config: SlaeganConfig
    protocol: MetricProtocol
    seconds: float | None

    @property
    def name(self) -> str:
        return f"{self.suite}, seed {self.config.seed}, {self.dataset.name}, {self.variant}"

    def head(self) -> dict[str, Any]:
        """What is known of its result before it ran."""
        dataset = asdict(self.dataset)
        del dataset["folder"]
        return {
            "suite": self.suite,
            "variant": self.variant,
            "dataset": dataset,
            "seed": self.config.seed,
            "seconds": self.seconds,
            "protocol_hash": self.protocol.hash(),
            "config": self.config.model_dump(mode="json"),
        }


def read_dataset(text: str) -> Dataset:
    """Count and hash the pictures of `name=folder`.

    The hash is the sha256 over the files' own, in the order of their names: the order in which they are trained on.

    Raises:
        ValueError: it is not name=folder, or there is no such folder.
        DataFailed: there are too few pictures.
    """
    from core.training.data import picture_paths  # noqa: PLC0415  # torch: seconds of imports

    name, _, folder = text.partition("=")
    if not re.fullmatch(r"[\w-]+", name) or not folder:
        raise ValueError(f"{text!r} is not name=folder, with a name of letters, digits, _ and -")
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder")
    paths = picture_paths(Path(folder))
    digests = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return Dataset(name, Path(folder).resolve(), hashlib.sha256(digests.encode()).hexdigest(), len(paths))


def plan(options: argparse.Namespace, datasets: Sequence[Dataset]) -> Iterator[Run]:
    """All runs of a suite, interleaved: seed outermost, then dataset, then variant."""
    suite = SUITES[options.suite]
    asked = EvaluationConfig(generated=options.generated, precision="fp32")
    evaluation = resolve(asked, weights_dir=options.weights).model_dump()
    for seed in range(options.seeds):
        for dataset in datasets:
            for variant, settings in suite.variants.items():
                if options.variants and variant not in options.variants:
                    continue
                images = options.images if suite.equal_images else None
                config = config_of(
                    settings, seed=seed, width=options.width, evaluation=evaluation, images=images
                )
                protocol = planned_protocol(config, image_count=dataset.pictures)
                seconds = None if suite.equal_images else options.seconds
                yield Run(options.suite, variant, dataset, config, protocol, seconds)


def perform(run: Run, *, options: argparse.Namespace) -> dict[str, Any] | None:
    """Let a child train and evaluate; its result, or None where it failed (it said why on stderr)."""
    folder = options.work / run.suite / f"{run.dataset.name}-{run.variant.replace(' ', '')}-{run.config.seed}"
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    folder.mkdir(parents=True)
    training = TrainingSpec(
        config=run.config,
        images_dir=run.dataset.folder,
        dataset_hash=run.dataset.hash,
        work_dir=folder,
        cache_dir=options.work / "cache",
        weights_dir=options.weights,
        device=options.device,
        commit=_commit(),
    )
    spec = ablation_run.RunSpec(
        training=training,
        protocol=run.protocol.model_dump(mode="json"),
        seconds=run.seconds,
        threads=options.threads,
        parent_pid=os.getpid(),
    )
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json())
    command = [sys.executable, "-P", "-m", "benchmarks.ablation", "--run", str(path)]
    code = subprocess.run(command, env=_environment(), stdout=sys.stderr, check=False).returncode
    if code != 0:
        print(f"FAILED with exit code {code}: {run.name}; its files are in {folder}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads((folder / ablation_run.RESULT).read_text())
    shutil.rmtree(folder)
    return result


def _commit() -> str | None:
    """The git commit of this code; None where git does not tell. The service's own way needs its settings."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _environment() -> dict[str, str]:
    """The child imports this copy of the code, wherever the parent was started."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return ALLOCATOR | os.environ | {"PYTHONPATH": path}


def run_suite(options: argparse.Namespace, datasets: Sequence[Dataset]) -> int:
    """Do all that is not done; the exit code is 1 where a run failed."""
    results = options.results / f"{options.suite}.jsonl"
    lines, failures = read_lines(results), []
    runs = list(plan(options, datasets))
    for number, run in enumerate(runs, start=1):
        there = any(answers(line, run.head()) for line in lines)
        print(
            f"[{number}/{len(runs)}] {run.name}{': is there' if there else ''}", file=sys.stderr, flush=True
        )
        if there:
            continue
        measured = perform(run, options=options)
        if measured is None:
            failures.append(run.name)
            continue
        line = run.head() | measured | {"date": datetime.now(UTC).isoformat(timespec="seconds")}
        append(results, line)
        print(json.dumps(line), flush=True)
        ablation_table.write_page(options.results)
    if failures:
        print(f"{len(failures)} of {len(runs)} runs failed: {'; '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=SUITES, default="table2")
    parser.add_argument("--pictures", nargs="+", metavar="NAME=FOLDER", default=[], help="datasets")
    parser.add_argument("--variants", nargs="+", help="only these of the suite")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant: seeds 0, 1, ...")
    parser.add_argument("--seconds", type=float, default=240.0, help="training time of a run")
    parser.add_argument(
        "--images", type=int, default=8_000, help="pictures of a run, in suites of equal pictures"
    )
    parser.add_argument("--generated", type=int, default=1_000, help="pictures generated for KID and FID")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "docs" / "ablation", help="folder of the lines"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "ablation", help="scratch and caches")
    parser.add_argument("--weights", type=Path, default=platformdirs.user_cache_path("slaegan") / "weights")
    parser.add_argument("--table", action="store_true", help="only write the page of results")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in ("results", "work", "weights"):
        setattr(options, name, getattr(options, name).resolve())
    unknown = set(options.variants or ()) - SUITES[options.suite].variants.keys()
    if unknown:
        parser.error(f"{options.suite} has no variants {sorted(unknown)}")
    if not (options.pictures or options.table or options.run):
        parser.error("name at least one folder: --pictures name=folder")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.run:
        return ablation_run.main(options.run)
    if options.table:
        ablation_table.write_page(options.results)
        return 0
    try:
        datasets = [read_dataset(text) for text in options.pictures]
    except (ValueError, SlaeganError) as error:
        print(f"--pictures: {error}", file=sys.stderr)
        return 2
    return run_suite(options, datasets)


if __name__ == "__main__":
    sys.exit(main())
