from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from core.schemas.jobs import METRICS
from core.schemas.ticks import TICK, ErrorTick, EvaluationSpec, FinishedTick, MetricsTick, Tick

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_S = 60


class Evaluator:
    """A real evaluating child on a pipe."""

    def __init__(self, spec: EvaluationSpec, folder: Path) -> None:
        file = folder / "spec.json"
        file.write_text(spec.model_dump_json())
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "worker.evaluate_process", str(file)),
                *("--ticks-fd", str(writing), "--parent-pid", str(os.getpid()), "--threads", "1"),
            ],
            pass_fds=[writing],
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(writing)
        self._lines = os.fdopen(reading)

    def end(self) -> tuple[int, list[Tick], str]:
        _, log = self.process.communicate(timeout=DEADLINE_S)
        with self._lines as lines:
            return self.process.returncode, [TICK.validate_json(line) for line in lines], log


def test_a_result_comes_as_ticks(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    code, ticks, log = Evaluator(evaluation_spec, tmp_path).end()
    assert code == 0, log
    metrics, finished = ticks
    assert isinstance(metrics, MetricsTick)
    # Six pictures make no halves and have no classes, none is held out, and VGG-16 gives no Inception Score.
    others = ("held_out", "halves", "inception", "intra_fid")
    elsewhere = {name for name in METRICS if any(other in name for other in others)}
    assert set(metrics.metrics) == set(METRICS) - elsewhere
    assert metrics.protocol == evaluation_spec.protocol
    assert isinstance(finished, FinishedTick)


def test_a_failure_comes_as_a_tick(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    spec = evaluation_spec.model_copy(update={"protocol": evaluation_spec.protocol | {"generated": 17}})
    code, ticks, log = Evaluator(spec, tmp_path).end()
    assert code == 1, log
    (error,) = ticks
    assert isinstance(error, ErrorTick)
    assert error.code == "configuration_failed"
    assert error.details == {"differing": {"generated": {"planned": 17, "here": 16}}}


def test_sigterm_ends_it_and_leaves_no_file(evaluation_spec: EvaluationSpec, tmp_path: Path) -> None:
    evaluation = evaluation_spec.config.evaluation.model_copy(update={"generated": 50_000})
    config = evaluation_spec.config.model_copy(update={"evaluation": evaluation})
    protocol = evaluation_spec.protocol | {"generated": 50_000, "copies": 500}  # hours of work
    update = {"config": config, "protocol": protocol, "cache_dir": tmp_path / "cache"}
    spec = evaluation_spec.model_copy(update=update)
    child = Evaluator(spec, tmp_path)
    deadline = time.monotonic() + DEADLINE_S
    while not list(spec.cache_dir.glob("features-*")):  # then it is about to generate
        assert time.monotonic() < deadline, "it never extracted the real features"
        time.sleep(0.02)
    # It steps back in favour of a training.
    assert os.getpriority(os.PRIO_PROCESS, child.process.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
    child.process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    code, ticks, log = child.end()
    assert (code, ticks) == (128 + signal.SIGTERM, []), log
    assert time.monotonic() - sent < 10
    assert not list(spec.cache_dir.glob(".*"))
