"""What happens in one cycle, all of it drawn from the run's seed and the cycle's number."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.trainer import CHEAP_FROM

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.chaos.look import View

TENANTS = ("chaos-one", "chaos-two")
_BATCH = 4
_EVERY = 40
_EVALUATION = {"extractor": "vgg16", "precision": "fp32", "generated": 16, "lpips_pairs": 8}
_CHEAP = {
    "resolution": 64, "batch": _BATCH, "evaluate_every_images": _EVERY, "evaluation_backlog": None,
    "evaluation": _EVALUATION,
    "stopping": {"plateau_evaluations": None, "collapse_share": None},
}  # fmt: skip
# The real SLAE-GAN, as small as it gets; of one seed, so that its undisturbed curve is needed once.
REAL: dict[str, Any] = _CHEAP | {
    "width": 0.125, "precision": "fp32", "seed": 1, "total_images": 40,
    "evaluate_every_images": 40, "checkpoint_every_images": 8,
    "evaluation": {**_EVALUATION, "copies": 0},  # its evaluations cost more than all the rest
}  # fmt: skip

# When to strike: a state that some job is in.
MOMENTS: dict[str, Callable[[View], bool]] = {
    "queued": lambda job: job.status == "queued" and job.attempt == 0,
    "claimed": lambda job: job.status == "running" and job.events[-1] == "running",
    "training": lambda job: job.status == "running" and "training" in job.events,
    "state stored": lambda job: job.status == "running" and job.states > 0,
    "snapshot stored": lambda job: job.status == "running" and job.evaluations > 1,
    "evaluating": lambda job: bool(job.evaluators),
    "last evaluation": lambda job: job.status == "evaluating",
    "attempt two": lambda job: job.attempt > 1 and job.status == "running",
}
WORKER_FAULTS = (
    "kill_worker", "kill_supervisor", "kill_trainer", "term_worker", "term_group", "freeze_worker",
    "freeze_supervisor",
)  # fmt: skip
METRICS_FAULTS = (
    "kill_metrics_worker", "kill_metrics_supervisor", "kill_evaluator", "term_metrics_worker", "freeze_metrics",
)  # fmt: skip
OTHER_FAULTS = (
    "kill_api", "kill_beat", "kill_control", "kill_chores", "flush_broker", "restart_broker", "restart_database",
    "kill_database", "double_hints",
)  # fmt: skip
STORE_FAULTS = ("fill_store", "tear_state", "flip_state")
_WHEN_TRAINING = ("claimed", "training", "state stored", "snapshot stored", "attempt two")
_WHEN_EVALUATING = ("evaluating", "last evaluation")
_WHEN_STORED = ("state stored", "snapshot stored", "attempt two")
_PAIRS = 3  # a cycle


@dataclass(frozen=True)
class Strike:
    """One fault, a little after the first moment at which some job is as described."""

    fault: str
    moment: str
    delay_s: float


@dataclass(frozen=True)
class Submission:
    """One job, and what its tenant asks of it later: cancel, pause, retry (after a cancel), extend, or nothing."""

    name: str
    tenant: str
    config: dict[str, Any]
    at_s: float
    request: str | None = None
    request_moment: str = "training"
    request_delay_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A cycle. `killed_during_post` is a server or process to kill while the last submission is on its way."""

    seed: int
    number: int
    submissions: tuple[Submission, ...]
    strikes: tuple[Strike, ...]
    killed_during_post: str | None = None
    restart_s: tuple[float, float] = field(default=(0.1, 1.5))

    @property
    def cycle(self) -> str:
        """What the names of its jobs begin with."""
        return f"chaos-{self.seed}-{self.number}"

    def rng(self) -> random.Random:
        """For what is drawn while the cycle runs."""
        return random.Random(f"{self.seed}:{self.number}:run")  # noqa: S311  # a seed is wanted


def pairs() -> list[tuple[str, str]]:
    """Every fault with every moment at which it can hurt."""
    return [
        *itertools.product(WORKER_FAULTS, _WHEN_TRAINING),
        *itertools.product(METRICS_FAULTS, _WHEN_EVALUATING),
        *itertools.product(STORE_FAULTS, _WHEN_STORED),
        *itertools.product(OTHER_FAULTS, ("queued", *_WHEN_TRAINING, *_WHEN_EVALUATING)),
    ]


def draw(seed: int, number: int, *, real_every: int, requests: tuple[str, ...]) -> Plan:
    """The plan of one cycle.

    All pairs of fault and moment are gone through, in an order of the seed, before one comes again.

    Args:
        seed: of the run.
        number: of the cycle, from 1.
        real_every: in every so many cycles one job is a real SLAE-GAN; 0: never.
        requests: what the service can be asked for.
    """
    order = pairs()
    random.Random(seed).shuffle(order)  # noqa: S311  # likewise
    rng = random.Random(f"{seed}:{number}")  # noqa: S311  # likewise
    first = (number - 1) * _PAIRS
    chosen = [order[index % len(order)] for index in range(first, first + _PAIRS)]
    strikes = [
        Strike(fault, moment, delay_s=rng.choice((0.0, rng.uniform(0, 0.4)))) for fault, moment in chosen
    ]
    if any(strike.moment == "attempt two" for strike in strikes):
        strikes.append(Strike("kill_trainer", "training", delay_s=rng.uniform(0, 1)))
    submissions = [
        _submission(rng, f"chaos-{seed}-{number}-{index}", requests=requests)
        for index in range(rng.randint(2, 4))
    ]
    if real_every and number % real_every == 0:
        submissions[0] = Submission(submissions[0].name, TENANTS[0], config=REAL, at_s=0)
    during = rng.choice((None, None, None, "api", "database", "broker"))
    return Plan(seed, number, tuple(submissions), tuple(strikes), killed_during_post=during)


def _submission(rng: random.Random, name: str, *, requests: tuple[str, ...]) -> Submission:
    config = _CHEAP | {
        "seed": CHEAP_FROM + rng.randrange(1_000_000),
        "total_images": _EVERY * rng.randint(2, 5),
        "checkpoint_every_images": rng.choice((8, 16, 20)),
    }
    # The first two begin at once, so that both workers are busy.
    return Submission(
        name,
        rng.choice(TENANTS),
        config=config,
        at_s=rng.choice((0.0, rng.uniform(0, 2))),
        request=rng.choice((None, None, *requests)),
        request_moment=rng.choice(("queued", "training", "last evaluation")),
        request_delay_s=rng.uniform(0, 1.5),
    )
