"""Ablations of the few-shot trainer: every variant, dataset and seed trained and evaluated; one JSON line a run.

    python -m benchmarks.ablation --suite table2 --pictures cats=FOLDER [name=FOLDER ...]
    python -m benchmarks.ablation --table

A line is appended to RESULTS/<suite>.jsonl when its run is finished, and RESULTS.md is written anew. What is there is
not run again, so an interrupted suite goes on where it was; the run that was interrupted begins anew. Seeds are the
outermost loop: an interrupted suite leaves a balanced table. Each run is a process of its own, so that one that
crashes does not end the suite. Equal time means as many pictures as fit in it at a speed that is measured once, in
alternation, with nothing else running (RESULTS/speed.json): the runs themselves may share the machine (--jobs).
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
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from benchmarks import ablation_run, ablation_table
from benchmarks.ablation_results import answers, append, read_lines, same_run
from benchmarks.ablation_run import ROOT
from benchmarks.ablation_speed import Speeds
from benchmarks.ablation_suites import ALL_SUITES, config_of, of_length, stages_of
from core.errors import SlaeganError
from core.metrics.protocol import MetricProtocol, planned_protocol, resolve
from core.schemas.judging import EvaluationConfig
from core.schemas.ticks import TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.schemas.families import Config


@dataclass(frozen=True)
class Dataset:
    """A folder of pictures and what is in it."""

    name: str
    folder: Path
    hash: str
    pictures: int


@dataclass(frozen=True)
class Run:
    """One training of one variant, and how it will be judged; `seconds` is None where it was not planned by time."""

    suite: str
    variant: str
    dataset: Dataset
    config: Config
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
            "protocol": self.protocol.model_dump(mode="json"),
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
    suite = ALL_SUITES[options.suite]
    asked = EvaluationConfig(generated=options.generated, precision="fp32")
    evaluation = resolve(asked, weights_dir=options.weights).model_dump()

    def config(variant: str, *, seed: int = 0, **length: int) -> Config:
        settings = suite.variants[variant]
        return config_of(settings, seed=seed, width=options.width, evaluation=evaluation, **length)

    variants = [name for name in suite.variants if not options.variants or name in options.variants]
    stages = {variant: stages_of(config(variant)) for variant in variants}
    images = {variant: [options.images] for variant in variants}
    if not suite.equal_images:
        speeds = Speeds(options.results / "speed.json")
        speeds.measure((one for every in stages.values() for one, _ in every), weights_dir=options.weights)
        images = {
            variant: [speeds.images(one, seconds=share * options.seconds) for one, share in every]
            for variant, every in stages.items()
        }
    seconds = None if suite.equal_images else options.seconds
    for seed in range(options.seeds):
        for dataset in datasets:
            for variant in variants:
                planned = of_length(config(variant, seed=seed), images[variant])
                protocol = planned_protocol(planned, image_count=dataset.pictures)
                yield Run(options.suite, variant, dataset, planned, protocol, seconds)


def perform(run: Run, *, name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Let a child train and evaluate; its result, or None where it failed (it said why on stderr)."""
    print(name, file=sys.stderr, flush=True)
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
        threads=0 if options.jobs == 1 else max(1, (os.cpu_count() or 1) // options.jobs),
        parent_pid=os.getpid(),
    )
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json())
    command = [sys.executable, "-P", "-m", "benchmarks.ablation", "--run", str(path)]
    code = subprocess.run(command, env=ablation_run.environment(), stdout=sys.stderr, check=False).returncode
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


def run_suite(options: argparse.Namespace, datasets: Sequence[Dataset]) -> int:
    """Do all that is not done; the exit code is 1 where a run failed."""
    results = options.results / f"{options.suite}.jsonl"
    lines = {path: read_lines(path) for path in [results, *options.results.glob("*.jsonl")]}
    runs, failures, waiting = list(plan(options, datasets)), [], {}

    def report(run: Run, measured: dict[str, Any]) -> None:
        line = measured | run.head()
        append(results, line)
        print(json.dumps(line), flush=True)
        ablation_table.write_page(options.results)

    with ThreadPoolExecutor(options.jobs) as pool:
        for number, run in enumerate(runs, start=1):
            name, head = f"[{number}/{len(runs)}] {run.name}", run.head()
            if any(answers(line, head) for line in lines[results]):
                print(f"{name}: is there", file=sys.stderr, flush=True)
            elif same := [line for every in lines.values() for line in every if same_run(line, head)]:
                print(f"{name}: is there under another name", file=sys.stderr, flush=True)
                report(run, same[0])
            else:
                waiting[pool.submit(perform, run, name=name, options=options)] = run
        for done in as_completed(waiting):
            measured, run = done.result(), waiting[done]
            if measured is None:
                failures.append(run.name)
            else:
                report(run, measured | {"date": datetime.now(UTC).isoformat(timespec="seconds")})
    if failures:
        print(f"{len(failures)} of {len(runs)} runs failed: {'; '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=ALL_SUITES, default="table2")
    parser.add_argument("--pictures", nargs="+", metavar="NAME=FOLDER", default=[], help="datasets")
    parser.add_argument("--variants", nargs="+", help="only these of the suite")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant: seeds 0, 1, ...")
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="training time of a run on the whole machine"
    )
    parser.add_argument(
        "--images", type=int, default=8_000, help="pictures of a run, in suites of equal pictures"
    )
    parser.add_argument("--generated", type=int, default=1_000, help="pictures generated for KID and FID")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side; they share the cores evenly")
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
    unknown = set(options.variants or ()) - ALL_SUITES[options.suite].variants.keys()
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
