"""What is made of measurements: rates, percentiles, what was lost or doubled, and a line of JSON for each target."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


Stream = TypeVar("Stream")


class MeasurementFailed(Exception):
    """The service answered otherwise than it should, so that there is nothing to measure."""


@dataclass(frozen=True)
class Row:
    """A target and how it was met; the unit stands in its name.

    Args:
        target: what was measured, and its unit.
        figure: the measurement.
        goal: the limit, which may be met exactly.
        at_least: whether the figure should reach the goal; else it should not exceed it.
    """

    target: str
    figure: float
    goal: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the target is met."""
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal

    def as_json(self) -> dict[str, Any]:
        """One line of the result."""
        sign = ">=" if self.at_least else "<="
        figure = round(self.figure, 3)
        return {
            "target": self.target,
            "figure": figure,
            "goal": f"{sign} {self.goal:g}",
            "pass": self.passed,
        }


@dataclass
class Latencies:
    """How long requests took, in seconds, and over which time they came in."""

    seconds: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall_s

    def ms(self, percent: float) -> float:
        """A percentile, in milliseconds."""
        return 1000 * percentile(self.seconds, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many per cent of all do not exceed (nearest rank).

    Raises:
        MeasurementFailed: there are no values.
    """
    if not values:
        raise MeasurementFailed("Nothing was measured, so there is no percentile.")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def run_once(names: Iterable[str], stories: Iterable[tuple[str, Sequence[str]]]) -> tuple[int, int]:
    """Of accepted jobs: how many were lost, and how many were made, or run, more than once.

    Args:
        names: of the jobs that the API accepted; each name was given once.
        stories: of all jobs of the database: the name, and the types of its events in order.
    """
    begun: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    made: Counter[str] = Counter()
    for name, events in stories:
        made[name] += 1
        begun[name] += events.count("running")
        ended[name] += events.count("succeeded")
    accepted = set(names)
    lost = sum(not ended[name] for name in accepted)
    doubled = sum(made[name] > 1 or begun[name] > 1 or ended[name] > 1 for name in accepted)
    return lost, doubled


def lost_and_doubled(
    received: Mapping[Stream, Sequence[int]], newest: Mapping[Stream, int]
) -> tuple[int, int]:
    """Of streams' events: how many never came, and how many came twice or out of order.

    Args:
        received: the numbers that came, by stream, in their order.
        newest: the number of each stream's last event; the first is 1.
    """
    lost = sum(len(set(range(1, last + 1)) - set(received[stream])) for stream, last in newest.items())
    out_of_order = sum(
        later <= earlier for numbers in received.values() for earlier, later in pairwise(numbers)
    )
    return lost, out_of_order
