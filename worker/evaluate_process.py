"""The evaluating child: reads a specification, computes, tells the result as a tick, ends.

    python -P -m worker.evaluate_process SPEC.json --ticks-fd N --parent-pid P [--threads T]

SIGTERM ends it within a batch of pictures; there is nothing to save.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.parent import bind_to_parent
from core.schemas.ticks import EvaluationSpec, FinishedTick
from worker.child import emitter, parse_arguments, run_guarded

if TYPE_CHECKING:
    from types import FrameType

_NICENESS = 10


def main() -> int:
    """Run one evaluation; the exit code is 0 after a MetricsTick and a FinishedTick, else 1."""
    arguments = parse_arguments()
    bind_to_parent(arguments.parent_pid)
    signal.signal(signal.SIGTERM, _end)
    emit = emitter(arguments.ticks_fd)

    def work() -> None:
        spec = EvaluationSpec.model_validate_json(arguments.spec.read_bytes())
        if spec.device == "cpu":
            _step_back()
        # Threads that spin while they wait would take the cores from a training; OpenMP reads this once,
        # when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        import torch  # noqa: PLC0415  # seconds of imports, only once bound to the parent

        from core.metrics.evaluate import evaluate  # noqa: PLC0415  # likewise
        from core.metrics.reached import evaluate_backtracking  # noqa: PLC0415  # likewise

        # On CUDA, float32 is to be float32, and the same at every run.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        backtracking = spec.protocol.get("kind") == "backtracking"
        emit(evaluate_backtracking(spec) if backtracking else evaluate(spec))
        emit(FinishedTick())

    return run_guarded(work, emit=emit)


def _step_back() -> None:
    """Let a training on the same cores go first.

    Linux may share its cores between sessions, and every child has one of its own: there niceness counts within
    a session only, and the session has a niceness of its own (sched(7), autogroup). Where the kernel has no such
    groups, or allows no change (some sandboxes; without privileges one change in 0.1 s for the whole system), the
    evaluation runs as it is.
    """
    os.nice(_NICENESS)
    try:
        Path("/proc/self/autogroup").write_text(str(_NICENESS))
    except OSError as error:
        sys.stderr.write(f"evaluating at the session's own priority: {error}\n")


def _end(_number: int, _frame: FrameType | None) -> None:
    # SystemExit unwinds the stack, so that temporary files of caches are removed.
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
