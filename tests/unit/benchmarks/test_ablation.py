from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.ablation import main, read_dataset
from benchmarks.ablation_results import answers, append, read_lines, same_run
from benchmarks.ablation_speed import Speeds, speed_key
from benchmarks.ablation_suites import SUITES, config_of
from benchmarks.ablation_table import spread, write_page
from core.errors import DataFailed
from core.metrics.protocol import planned_protocol

ROOT = Path(__file__).parents[3]
EVALUATION = {"extractor": "vgg16", "precision": "fp32", "generated": 16}


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of a few random colours."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(8):
        colours = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        colours.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


class Ablation:
    """The command on two variants with the smallest networks, from a folder that is not the repository."""

    def __init__(self, folder: Path, *, weights_dir: Path) -> None:
        self.folder, self.results = folder, folder / "results" / "stabilisers.jsonl"
        self.results.parent.mkdir()
        speeds = {}
        for variant, iteration_s in (("default", 0.25), ("cutout", 0.125)):
            config = config_of(
                SUITES["stabilisers"].variants[variant], seed=0, width=0.125, evaluation=EVALUATION
            )
            speeds[speed_key(config)] = {"iteration_s": iteration_s, "of": 1}
        (self.results.parent / "speed.json").write_text(json.dumps(speeds))
        self.options = [
            *("--suite", "stabilisers", "--variants", "default", "cutout", "--seeds", "1", "--seconds", "1"),
            *("--generated", "16", "--width", "0.125", "--weights", str(weights_dir)),
            *("--results", "results", "--work", "work"),
        ]

    def start(self, *pictures: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.ablation", *self.options, "--pictures", *pictures],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *pictures: str) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, the lines it printed, stderr."""
        process = self.start(*pictures)
        out, err = process.communicate(timeout=120)
        return process.returncode, [json.loads(line) for line in out.splitlines()], err


def wait_for(condition: Any, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_suite_goes_on_where_it_was_interrupted_and_after_a_failure(
    images_dir: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation = Ablation(tmp_path, weights_dir=weights_dir)
    pictures = f"tiny={images_dir}"
    process = ablation.start(pictures)
    second = tmp_path / "work" / "stabilisers" / "tiny-cutout-0" / "spec.json"
    page = tmp_path / "results.md"  # written when the first run's line is printed
    wait_for(lambda: (second.is_file() and page.is_file()) or process.poll() is not None, timeout_s=90)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=20)  # at the end of stderr, which the run's process has too
    assert process.returncode == -signal.SIGTERM, err
    (first,) = read_lines(ablation.results)
    assert json.loads(out) == first
    assert second.is_file()

    broken = tmp_path / "broken"
    broken.mkdir()
    for number in range(4):
        (broken / f"{number}.png").write_bytes(b"no picture")
    code, printed, err = ablation.run(f"broken={broken}", pictures)
    assert code == 1, err
    assert err.count("FAILED with exit code 1") == 2
    assert "DataFailed: " in err
    assert "2 of 4 runs failed" in err
    assert "tiny, default: is there" in err
    lines = read_lines(ablation.results)
    assert lines == [first, *printed]
    assert [line["variant"] for line in lines] == ["default", "cutout"]
    assert not list((tmp_path / "work" / "stabilisers").glob("tiny-*"))
    for line in lines:
        assert line["seconds"] == 1
        assert line["seconds_trained"] > 0
        assert line["images_seen"] == {"default": 32, "cutout": 64}[line["variant"]]
        assert line["dataset"] == {"name": "tiny", "hash": read_dataset(pictures).hash, "pictures": 8}
        assert line["config"]["metadata_dropout"] == 0
        assert line["protocol"]["generated"] == 16
        assert line["fid"] > 0
        assert np.isfinite([line["kid"], line["kid_sd"], line["lpips"]]).all()
        assert (line["torch"], line["threads"]) == (torch.__version__, torch.get_num_threads())
    assert f"| default | 1 | {first['images_seen']:,} | {1000 * first['kid']:.2f} ± ? |" in page.read_text()

    monkeypatch.chdir(tmp_path)
    assert main([*ablation.options, "--pictures", pictures]) == 0
    assert read_lines(ablation.results) == lines


def test_runs_of_equal_time_have_the_pictures_that_fit_in_it(
    weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.ablation_speed.ITERATIONS", 5)
    variants = [{"decoders": False, "metadata": False}, {"decoders": False, "metadata": True}]
    small, large = (config_of(v, seed=0, width=0.125, evaluation=EVALUATION) for v in variants)
    path = tmp_path / "results" / "speed.json"
    speeds = Speeds(path)
    speeds.measure([small], weights_dir=weights_dir)
    (known,) = json.loads(path.read_text()).values()
    assert known["iteration_s"] > 0
    assert known["of"] == 5
    assert speeds.images(small, seconds=100 * known["iteration_s"]) == 800
    assert speeds.images(small, seconds=0) == 8
    another_seed = small.model_copy(update={"seed": 7, "total_images": 16})
    speeds.measure([another_seed], weights_dir=tmp_path / "nothing is measured, so nothing is read")
    assert speeds.images(another_seed, seconds=100 * known["iteration_s"]) == 800
    with pytest.raises(KeyError):
        speeds.images(large, seconds=1)


def a_line(variant: str, seed: int, *, kid: float, fid: float, images_seen: int = 8_000) -> dict[str, Any]:
    """A result of Table 2 on a hundred pictures."""
    config = config_of(SUITES["table2"].variants[variant], seed=seed, width=0.5, evaluation=EVALUATION)
    protocol = planned_protocol(config, image_count=100)
    return {
        "suite": "table2",
        "variant": variant,
        "dataset": {"name": "hundred", "hash": "0123", "pictures": 100},
        "seed": seed,
        "seconds": 240.0,
        "protocol_hash": protocol.hash(),
        "config": config.model_dump(mode="json"),
        "seconds_trained": 240.1,
        "images_seen": images_seen,
        "fid": fid,
        "kid": kid,
        "kid_sd": 0.001,
        "lpips": 0.4,
        "protocol": protocol.model_dump(mode="json"),
        "commit": "89abcdef" * 5,
        "torch": "2.14.0",
        "device": "cpu",
        "instruction_set": "AVX2",
        "threads": 2,
        "precision": "float32",
        "date": "2026-01-01T00:00:00+00:00",
    }


def table_of(folder: Path, lines: list[dict[str, Any]]) -> str:
    for line in lines:
        append(folder / "ablation" / f"{line['suite']}.jsonl", line)
    write_page(folder / "ablation")
    return (folder / "ablation.md").read_text()


# KID 10, 12, 14 and 8, 11, 11 thousandths: differences -2, -1, -3; FID differences -10, 0, -20.
BASE = [
    a_line("base", seed, kid=kid, fid=fid, images_seen=seen)
    for seed, kid, fid, seen in [(0, 0.010, 100, 8_000), (1, 0.012, 110, 8_104), (2, 0.014, 120, 8_196)]
]
BOTH = [
    a_line("+ both", seed, kid=kid, fid=fid)
    for seed, kid, fid in [(0, 0.008, 90), (1, 0.011, 110), (2, 0.011, 100)]
]


def test_the_table_has_means_spreads_and_paired_differences(tmp_path: Path) -> None:
    page = table_of(tmp_path, [*BOTH, *BASE])
    assert "### hundred, 100 pictures" in page
    base = "| base | 3 | 8,100 | 12.00 ± 2.00 | 110.00 ± 10.00 |  |  |  |"
    both = "| + both | 3 | 8,000 | 10.00 ± 1.73 | 100.00 ± 10.00 | 3 | -2.00 ± 1.00 | -10.00 ± 10.00 |"
    assert f"{base}\n{both}\n" in page
    assert "16 generated against 100 real" in page
    assert "torch 2.14.0, cpu, AVX2, 2 threads" in page
    assert "Code: 89abcdef89ab." in page
    assert "**These" not in page
    assert page.count("No results yet.") == len(SUITES) - 1


def test_only_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    page = table_of(tmp_path, [*BASE[:2], *BOTH[1:]])
    assert "| + both | 2 | 8,000 | 11.00 ± 0.00 | 105.00 ± 7.07 | 1 | -1.00 ± ? | +0.00 ± ? |" in page


def test_a_later_result_of_the_same_run_takes_the_place_of_the_earlier(tmp_path: Path) -> None:
    page = table_of(tmp_path, [a_line("base", 2, kid=9, fid=9), *BASE])
    assert "| base | 3 | 8,100 | 12.00 ± 2.00 |" in page


def test_runs_of_another_length_have_a_table_of_their_own(tmp_path: Path) -> None:
    page = table_of(tmp_path, [*BASE, BOTH[0] | {"seconds": 480.0}])
    assert page.count("### hundred, 100 pictures") == 2
    assert "| + both | 1 | 8,000 | 8.00 ± ? | 90.00 ± ? |  |  |  |" in page


def test_the_page_warns_of_runs_that_do_not_compare(tmp_path: Path) -> None:
    changed = BASE[1]["config"] | {"learning_rate": 1e-3}
    page = table_of(tmp_path, [BASE[0], BASE[1] | {"config": changed, "threads": 4}])
    assert "not of one machine" in page
    assert "do not all share learning_rate.**" in page


def test_a_torn_line_is_none_and_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "ablation" / "table2.jsonl"
    append(path, BASE[0])
    with path.open("a") as file:
        file.write(json.dumps(BASE[1])[:-20])
    assert read_lines(path) == [BASE[0]]
    append(path, BASE[2])
    assert read_lines(path) == [BASE[0], BASE[2]]


def test_a_result_answers_the_run_with_its_settings_only() -> None:
    line, config = BASE[0], BASE[0]["config"]
    assert answers(line, line)
    assert answers(line | {"config": {k: v for k, v in config.items() if k != "ema"}}, line)
    assert not answers(line | {"config": config | {"ema": "constant"}}, line)
    assert not answers(line | {"seconds": 2.0}, line)
    assert not answers(line | {"dataset": line["dataset"] | {"hash": "4567"}}, line)
    assert not answers(BASE[1], line)
    assert not answers(BOTH[0], line)
    assert not answers(line | {"variant": "another name"}, line)
    assert same_run(line | {"variant": "another name", "suite": "another suite"}, line)
    assert not same_run(BASE[1], line)


def test_a_spread_is_the_sample_deviation() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0]) == "2.50 ± 1.29"  # the root of 5/3


@pytest.mark.parametrize("suite", SUITES)
def test_variants_are_configurations_and_all_different(suite: str) -> None:
    configs = [
        config_of(settings, seed=0, width=0.5, evaluation=EVALUATION)
        for settings in SUITES[suite].variants.values()
    ]
    assert len(set(configs)) == len(configs) >= 2


def test_a_dataset_is_known_by_its_bytes(images_dir: Path, tmp_path: Path) -> None:
    for path in images_dir.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    mine, theirs = read_dataset(f"a={images_dir}"), read_dataset(f"b={tmp_path}")
    assert (mine.hash, mine.pictures) == (theirs.hash, 8)
    (tmp_path / "7.png").write_bytes((tmp_path / "6.png").read_bytes())
    assert read_dataset(f"b={tmp_path}").hash != mine.hash


@pytest.mark.parametrize("text", ["cats", "=folder", "a/b=folder", "cats=no-such-folder"])
def test_what_names_no_dataset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        read_dataset(text)


def test_a_folder_of_too_few_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFailed):
        read_dataset(f"none={tmp_path}")
