"""The evaluating child of chaos runs: cheap, or the real one, as the job's training was.

python -P -m benchmarks.chaos.evaluator SPEC.json --ticks-fd N --parent-pid P [--threads T]
"""

from __future__ import annotations

import sys
import time

from benchmarks.chaos.trainer import CHEAP_FROM
from benchmarks.chaos.walk import evaluate, picture, write_durably
from core.parent import bind_to_parent
from core.schemas.ticks import EvaluationSpec, FinishedTick, MetricsTick
from worker.child import emitter, parse_arguments, run_guarded

EVALUATION_S = 0.5


def main() -> int:
    """Run one evaluation; the exit code is 0 after a MetricsTick and a FinishedTick, else 1."""
    arguments = parse_arguments()
    bind_to_parent(arguments.parent_pid)
    spec = EvaluationSpec.model_validate_json(arguments.spec.read_bytes())
    if spec.config.seed < CHEAP_FROM:
        from worker.evaluate_process import main as evaluate_slaegan  # noqa: PLC0415  # only where it is wanted

        return evaluate_slaegan()
    emit = emitter(arguments.ticks_fd)

    def work() -> None:
        time.sleep(EVALUATION_S)
        metrics = evaluate(spec.generator.read_bytes(), protocol=spec.protocol)
        assert spec.work_dir is not None
        write_durably(spec.work_dir / "neighbours.png", picture(0))
        emit(MetricsTick(metrics=dict(metrics), protocol=spec.protocol, picture="neighbours.png"))
        emit(FinishedTick())

    return run_guarded(work, emit=emit)


if __name__ == "__main__":
    sys.exit(main())
