"""How an attempt's end becomes its job's next state: done, handed back, tried again within a budget, or failed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import (
    InfrastructureError,
    OutOfMemory,
    SlaeganError,
    StoreFull,
    TrainerCrashed,
    from_code,
)
from core.jobs import endings
from core.schemas.ticks import ErrorTick, FinishedTick, StoppedTick
from core.settings import settings
from worker.supervisor import Ending, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.jobs.lease import Attempt
    from worker.process import Child

_VMSTAT = Path("/proc/vmstat")


def conclude(attempt: Attempt, child: Child, ending: Ending, *, memory_ran_out: bool) -> None:
    """Write how the attempt ended. A finished training counts as finished, even if it was told to stop.

    Args:
        attempt: under whose lease.
        child: ended.
        ending: why.
        memory_ran_out: the kernel has killed some process for want of memory meanwhile.

    Raises:
        LeaseLost: another attempt has the job.
    """
    if ending is Ending.CANCELLED:
        write(endings.end_cancelled, attempt)
    elif child.return_code == 0 and isinstance(child.last, FinishedTick):
        write(endings.finish, attempt)
    elif isinstance(child.last, ErrorTick):
        error = from_code(child.last.code, child.last.message, **child.last.details)
        give_up(attempt, error, last_lines=child.last_lines)
    elif ending is Ending.EARLY:
        # Also where it was killed because saving took too long: what it has made so far is to be kept.
        write(endings.finish, attempt)
    elif ending in (Ending.STOPPED, Ending.PAUSED, Ending.DRAINED):
        write(endings.hand_back, attempt, reason=ending.value)
    elif isinstance(child.last, StoppedTick):
        # It saved its state and ended as it does when told to, but not by this worker.
        _lose(
            attempt,
            TrainerCrashed("The training process was told to stop by somebody else."),
            child.last_lines,
        )
    else:
        _ended_without_a_word(attempt, child, memory_ran_out=memory_ran_out)


def give_up(attempt: Attempt, error: SlaeganError, *, last_lines: Sequence[str] = ()) -> None:
    """End an attempt by an error: what its surroundings caused is tried again within a budget, all else fails the job.

    A full disk fails it at once: nobody empties that within minutes, and the job can be retried from its last state.

    Raises:
        LeaseLost: another attempt has the job.
    """
    if isinstance(error, OutOfMemory):
        write(endings.run_out_of_memory, attempt, error, last_lines=last_lines)
    elif isinstance(error, InfrastructureError) and not isinstance(error, StoreFull):
        _lose(attempt, error, last_lines)
    else:
        write(endings.fail, attempt, error, last_lines=last_lines)


def oom_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory; 0 where it does not say."""
    if not _VMSTAT.exists():
        return 0
    facts = dict(line.split(maxsplit=1) for line in _VMSTAT.read_text().splitlines())
    return int(facts.get("oom_kill", 0))


def _ended_without_a_word(attempt: Attempt, child: Child, *, memory_ran_out: bool) -> None:
    code = child.return_code or 0
    if code >= 0:
        error = TrainerCrashed(f"The training process ended with code {code}.")
        write(endings.fail, attempt, error, last_lines=child.last_lines)
    elif code == -signal.SIGKILL and memory_ran_out:
        killed = OutOfMemory("The system killed the training process: the machine's memory was used up.")
        give_up(attempt, killed, last_lines=child.last_lines)
    else:
        name = signal.Signals(-code).name
        _lose(attempt, TrainerCrashed(f"The training process was killed by {name}."), child.last_lines)


def _lose(attempt: Attempt, error: SlaeganError, last_lines: Sequence[str]) -> None:
    # What was killed or told to stop may begin again at once; what something else must mend first, after a while.
    pause_s = settings().retry_pause_s if isinstance(error, InfrastructureError) else 0
    write(
        endings.lose,
        attempt,
        error,
        max_failures=settings().max_infrastructure_failures,
        pause_s=pause_s,
        last_lines=last_lines,
    )
