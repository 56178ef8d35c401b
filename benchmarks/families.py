"""Every family at its defaults at 64 pixels, at equal wall time: what it costs, and what becomes of the pictures.

    python -m benchmarks.families --pictures emoji_faces=FOLDER cat_faces=FOLDER

Trains and evaluates as `benchmarks.ablation` does, suite `families`: what is finished is not run again. Then the table
of docs/families.md is written anew, between its two marks.
"""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import ablation
from benchmarks.ablation_results import read_lines
from benchmarks.ablation_run import ROOT
from benchmarks.ablation_speed import Speeds
from benchmarks.ablation_suites import FAMILY_SUITE, stages_of
from core.files import atomic_path
from core.schemas.families import parse_config

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Line = dict[str, Any]
PAGE = ROOT / "docs" / "families.md"
_BEGIN, _END = "<!-- families:begin -->", "<!-- families:end -->"
_COST = """\
| family | parameters, G + rest | pictures an iteration | TFLOP an iteration | s an iteration | peak MB |
|---|--:|--:|--:|--:|--:|
"""
_QUALITY = """\
| family | n | images seen | 1000 · KID | FID | recall | LPIPS | copy rate |
|---|--:|--:|--:|--:|--:|--:|--:|
"""


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = ablation.main(["--suite", "families", *given])
    results = ablation.parse(["--suite", "families", *given]).results
    write_table(PAGE, results=results)
    return code


def write_table(page: Path, *, results: Path) -> None:
    """Put the tables of all finished runs between the marks of a page."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    table = tables(read_lines(results / "families.jsonl"), Speeds(results / "speed.json"))
    with atomic_path(page) as temporary:
        temporary.write_text(f"{before}{_BEGIN}\n{table}{_END}{after}")


def tables(lines: Sequence[Line], speeds: Speeds) -> str:
    """What each family costs, then a table for every set of pictures and length of training."""
    if not lines:
        return "No results yet.\n"
    newest = {line["variant"]: line for line in lines}
    families = [family for family in FAMILY_SUITE.variants if family in newest]
    cost = "".join(_cost(family, newest[family], speeds) for family in families)
    groups: dict[tuple[str, float, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["dataset"]["hash"], line["seconds"], _protocol(line)), []).append(line)
    return "\n".join([_COST + cost, *(_quality(families, group) for group in groups.values())])


def _protocol(line: Line) -> str:
    """What runs of one table share, but for where latents come from."""
    return str(sorted((key, value) for key, value in line["protocol"].items() if key != "latents"))


def _cost(family: str, line: Line, speeds: Speeds) -> str:
    config = parse_config(line["config"])
    measured = [speeds.of(stage) for stage, _ in stages_of(config)]
    parameters = {name: count for name, count in line["parameters"].items() if count}
    generator = parameters.pop("generator")

    def each(form: str, key: str) -> str:
        known = [format(stage[key], form) for stage in measured if key in stage]
        return ", then ".join(known) if len(known) == len(measured) else ""

    cells = [
        *(family, f"{generator / 1e6:.2f} M + {sum(parameters.values()) / 1e6:.2f} M", str(config.shown)),
        *(each(".3f", "tflop"), each(".2f", "iteration_s"), each(",.0f", "peak_mb")),
    ]
    return f"| {' | '.join(cells)} |\n"


def _quality(families: Sequence[str], lines: Sequence[Line]) -> str:
    dataset, protocol = lines[-1]["dataset"], lines[-1]["protocol"]
    rows = [_row(family, [line for line in lines if line["variant"] == family]) for family in families]
    machines = sorted({f"{x['device']}, {x['instruction_set']}, {x['threads']} threads" for x in lines})
    trained = [line["seconds_trained"] for line in lines]
    return (
        f"### {dataset['name']}, {dataset['pictures']} pictures, {lines[-1]['seconds']:g} s of training\n\n"
        f"{_QUALITY}{''.join(rows)}\n"
        f"In these runs training took {min(trained):.0f} to {max(trained):.0f} s. {protocol['generated']:,} pictures "
        f"generated, {protocol['extractor']} in {protocol['precision']}. {'; '.join(machines)}.\n"
    )


def _row(family: str, lines: Sequence[Line]) -> str:
    if not lines:
        return ""

    def mean(key: str, form: str, *, factor: float = 1) -> str:
        values = [line[key] for line in lines if line.get(key) is not None]
        return format(factor * statistics.fmean(values), form) if values else ""

    cells = [
        *(family, str(len(lines)), mean("images_seen", ",.0f"), mean("kid", ".1f", factor=1000)),
        *(mean("fid", ".1f"), mean("recall", ".2f"), mean("lpips", ".2f"), mean("copy_rate", ".2f")),
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.exit(main())
