"""A training seen from its ticks, as spans: it knows nothing of them, so a stretch is traced once it is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from core import tracing
from core.schemas.ticks import FactsTick, ProgressTick, SnapshotTick, StateTick, Tick

if TYPE_CHECKING:
    from worker.supervisor import Effects

# A span a step would be millions.
STRETCH_NS = 10 * 10**9


class TracedEffects:
    """Effects, and a span of each stretch of training between them: `start`, `train`, `state`, `snapshot`.

    Args:
        effects: what the ticks do.
    """

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._since_ns = time.time_ns()
        self._newest: ProgressTick | None = None

    def carry_out(self, ticks: list[Tick], log: list[str]) -> None:
        """As the effects do."""
        began_ns = time.time_ns()
        self._effects.carry_out(ticks, log)
        if tracing.provider() is not None:
            for tick in ticks:
                self._trace(tick, began_ns=began_ns)

    def end(self) -> None:
        """Trace the last stretch; the training is over."""
        self._end_stretch(time.time_ns())

    def _trace(self, tick: Tick, *, began_ns: int) -> None:
        match tick:
            case FactsTick():
                tracing.past("start", began_ns=self._since_ns, ended_ns=began_ns)
                self._since_ns = began_ns
            case ProgressTick():
                self._newest = tick
                if began_ns - self._since_ns >= STRETCH_NS:
                    self._end_stretch(began_ns)
            case SnapshotTick() | StateTick():
                self._end_stretch(began_ns)
                self._since_ns = time.time_ns()
                tracing.past(
                    tick.tick, began_ns=began_ns, ended_ns=self._since_ns, images_seen=tick.images_seen
                )

    def _end_stretch(self, ended_ns: int) -> None:
        if self._newest is None:
            return
        facts = {"images_seen": self._newest.images_seen, "images_per_s": self._newest.images_per_s}
        losses = {f"loss.{name}": value for name, value in self._newest.losses.items()}
        began_ns = min(self._since_ns, ended_ns)  # several ticks may come at once
        tracing.past("train", began_ns=began_ns, ended_ns=ended_ns, **facts, **losses)
        self._newest, self._since_ns = None, ended_ns
