"""The training child: reads a specification, trains, tells its progress in ticks, saves and ends on SIGTERM.

python -P -m worker.train_process SPEC.json --ticks-fd N --parent-pid P [--threads T]
"""

from __future__ import annotations

import signal
import sys
from threading import Event

from core.parent import bind_to_parent
from core.schemas.ticks import TrainingSpec
from worker.child import emitter, parse_arguments, run_guarded


def main() -> int:
    """Run one training; the exit code is 0 when it finished or was stopped, else 1."""
    arguments = parse_arguments()
    bind_to_parent(arguments.parent_pid)
    stop = Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    emit = emitter(arguments.ticks_fd)

    def work() -> None:
        spec = TrainingSpec.model_validate_json(arguments.spec.read_bytes())
        import torch  # noqa: PLC0415  # seconds of imports, only once bound to the parent

        from core.training.train import train  # noqa: PLC0415  # likewise

        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        train(spec, emit=emit, should_stop=stop.is_set)

    return run_guarded(work, emit=emit)


if __name__ == "__main__":
    sys.exit(main())
