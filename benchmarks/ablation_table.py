"""From the lines of an ablation to its page: means, spreads, and differences over paired seeds."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.ablation_results import read_lines
from benchmarks.ablation_suites import SUITES, Suite
from core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Line = dict[str, Any]

_INTRODUCTION = """\
# Ablations

Written by `make ablation` from the lines in [ablation/](ablation/), one a finished run; `benchmarks/ablation.py` says
how they are made. What is trained, and how it is measured: [method.md](method.md), [metrics.md](metrics.md).

How to read it:

- **Lower is better.** KID comes first, since it is unbiased; FID depends on the numbers of pictures on both sides.
- The reference is the training set itself, so both reward copying it. Neither compares across sections or datasets.
- `mean ± s.d.` is over seeds, the s.d. with n - 1. **A spread over few runs is itself poorly known**: the true s.d.
  behind that of three runs lies between half of it and six times it (95 %, were runs normally distributed).
- `Δ` is the variant minus the first variant of its table, mean ± s.d. over the seeds that both have (pairs). With three
  pairs a difference below 2.5 times its s.d. is not significant at 5 %, and a page makes many comparisons.
- A seed fixes the order of the pictures and the random draws. Networks of different shape draw different weights from
  it, and in equal time they see different numbers of pictures, so pairing need not take away much of the spread.
- Equal time means as many pictures as fit in it at the variant's speed, which was measured once, in alternation, on
  the otherwise idle machine ([speed.json](ablation/speed.json)). So a run repeats exactly, and what else the machine
  does cannot favour a variant. Time is training alone: preparation, snapshots and evaluation are not counted.
- Latents are mixed from the metadata bank where the variant has metadata, and are plain noise elsewhere: in that, such
  variants differ in protocol too.
"""
_HEAD = """\
| variant | n | images seen | 1000 · KID | FID | pairs | Δ 1000 · KID | Δ FID |
|---|--:|--:|--:|--:|--:|--:|--:|
"""


def write_page(results: Path) -> None:
    """Write the page of all suites beside the folder of their lines: docs/ablation.md for docs/ablation/."""
    sections = [
        section(name, suite, lines=read_lines(results / f"{name}.jsonl")) for name, suite in SUITES.items()
    ]
    with atomic_path(results.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join([_INTRODUCTION, *sections]))


def section(name: str, suite: Suite, *, lines: Sequence[Line]) -> str:
    """A suite: a table for every dataset, length of training, width and protocol."""
    groups: dict[str, dict[tuple[Any, ...], Line]] = {}
    for line in lines:
        # A later result of the same run takes the place of the earlier.
        groups.setdefault(_group(line), {})[line["variant"], line["seed"]] = line
    tables = [_table(suite, list(group.values())) for group in groups.values()]
    return "\n".join([f"## {name}\n\n{suite.about}\n", *(tables or ["No results yet.\n"])])


def _group(line: Line) -> str:
    """What runs share that stand in one table. Metadata has latents of its own kind, which the page says.

    What the protocol says of other metrics than those of the page does not matter.
    """
    other = ("latents", "lpips", "copies", "precision_recall")
    protocol = {name: value for name, value in line["protocol"].items() if not name.startswith(other)}
    images = line["config"]["total_images"] if line["seconds"] is None else None
    shared = [line["dataset"]["hash"], line["seconds"], images, line["config"]["width"], protocol]
    return json.dumps(shared, sort_keys=True)


def _table(suite: Suite, lines: Sequence[Line]) -> str:
    known = list(suite.variants)
    names = [*known, *sorted({line["variant"] for line in lines} - set(known))]
    by_variant = {name: {line["seed"]: line for line in lines if line["variant"] == name} for name in names}
    rows = [
        _row(name, by_variant[name], first={} if name == known[0] else by_variant[known[0]])
        for name in names
        if by_variant[name]
    ]
    dataset = lines[-1]["dataset"]
    heading = f"### {dataset['name']}, {dataset['pictures']} pictures"
    return f"{heading}\n\n{_HEAD}{''.join(rows)}\n{_conditions(suite, lines)}"


def _row(name: str, runs: dict[int, Line], *, first: dict[int, Line]) -> str:
    """One variant; `first` holds the runs to compare with, by seed, and is empty for the first variant itself."""
    seen = statistics.mean(run["images_seen"] for run in runs.values())
    pairs = sorted(runs.keys() & first.keys())
    cells = [
        *(name, str(len(runs)), f"{seen:,.0f}"),
        spread(1000 * run["kid"] for run in runs.values()),
        spread(run["fid"] for run in runs.values()),
        str(len(pairs)) if pairs else "",
        spread((1000 * (runs[seed]["kid"] - first[seed]["kid"]) for seed in pairs), sign="+"),
        spread((runs[seed]["fid"] - first[seed]["fid"] for seed in pairs), sign="+"),
    ]
    return f"| {' | '.join(cells)} |\n"


def spread(values: Iterable[float], *, sign: str = "") -> str:
    """Mean ± sample standard deviation; a single value has none, and no value is an empty cell."""
    numbers = list(values)
    if not numbers:
        return ""
    sd = f"{statistics.stdev(numbers):.2f}" if len(numbers) > 1 else "?"
    return f"{statistics.mean(numbers):{sign}.2f} ± {sd}"


def _conditions(suite: Suite, lines: Sequence[Line]) -> str:
    """The protocol, the length of training and the machines, with a warning where they are not the same."""
    line = lines[-1]
    config, protocol = line["config"], line["protocol"]
    length = f"{config['total_images']:,} pictures"
    if line["seconds"] is not None:
        length = f"the pictures of {line['seconds']:g} s on the whole machine"
    trained = [run["seconds_trained"] for run in lines]
    machines = sorted(
        {f"torch {x['torch']}, {x['device']}, {x['instruction_set']}, {x['threads']} threads" for x in lines}
    )
    hashes = sorted({run["protocol_hash"][:12] for run in lines})
    commits = sorted({(run["commit"] or "unknown")[:12] for run in lines})
    computed = ", ".join(sorted({run["precision"] for run in lines}))
    sentences = [
        f"Each run: {length} in {computed} (in these runs {min(trained):.0f} to {max(trained):.0f} s).",
        f"Networks: {config['resolution']}², width {config['width']:g}, batch {config['batch']}.",
        f"Pictures: {protocol['generated']:,} generated against {protocol['real']:,} real ones.",
        f"Protocol {', '.join(hashes)}: {protocol['extractor']} in {protocol['precision']};",
        f"KID over {protocol['kid_subsets']} subsets of {protocol['kid_subset_size']}.",
        f"Machine: {'; '.join(machines)}. Code: {', '.join(commits)}.",
    ]
    if len(machines) > 1:
        sentences.append("**These runs are not of one machine or number of threads.**")
    if differing := _differing(suite, lines):
        sentences.append(f"**These runs do not all share {', '.join(differing)}.**")
    return "\n".join(sentences) + "\n"


def _differing(suite: Suite, lines: Sequence[Line]) -> list[str]:
    """Keys outside the comparison whose values differ, among the runs that know them."""
    compared = {"seed", "total_images"}.union(*suite.variants.values())
    configs = [_flat(line["config"]) for line in lines]
    names = set().union(*configs) - compared
    values = {name: {json.dumps(config[name]) for config in configs if name in config} for name in names}
    return sorted(name for name in names if len(values[name]) > 1)


def _flat(config: Line) -> Line:
    """With evaluation.generated beside resolution, so that what is new in a part leaves the rest of it comparable."""
    flat = {name: value for name, value in config.items() if not isinstance(value, dict)}
    parts = {name: value for name, value in config.items() if isinstance(value, dict)}
    return flat | {
        f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()
    }
