"""When a curve says that a training is no success, whatever its FID: copies, a KID below zero, a collapse.

The rules see points of one run and one protocol, by images seen, and judge the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.schemas.judging import AlarmConfig

# An untrained generator covers nothing, and its pictures may resemble each other: a number is said to fall only after
# it has been as high as this.
_FLOORS = {"recall": 0.2, "lpips_intra": 0.1}
_NAMES = {"recall": "recall", "lpips_intra": "LPIPS within clusters"}


def alarms(curve: Sequence[Mapping[str, Any]], *, rules: AlarmConfig) -> dict[str, str]:
    """Which alarms the newest point raises.

    Args:
        curve: metrics of the evaluated snapshots, by images seen; any of them may be missing.
        rules: of the job's configuration.

    Returns:
        A sentence by kind: copies, kid_below_zero, collapse.
    """
    if not curve:
        return {}
    found = {
        "copies": _copies(curve[-1], rules=rules),
        "kid_below_zero": _below_zero(curve[-1], rules=rules),
        "collapse": _collapse(curve, rules=rules),
    }
    return {kind: message for kind, message in found.items() if message is not None}


def _copies(point: Mapping[str, Any], *, rules: AlarmConfig) -> str | None:
    rate = point.get("copy_rate")
    if rules.copy_rate is None or rate is None or rate <= rules.copy_rate:
        return None
    return (
        f"{rate:.0%} of the generated pictures copy a training picture (the limit is {rules.copy_rate:.0%}): look at "
        "them beside their nearest training pictures. An earlier snapshot, or more pictures, may help."
    )


def _below_zero(point: Mapping[str, Any], *, rules: AlarmConfig) -> str | None:
    kid, spread = point.get("kid"), point.get("kid_sd")
    if rules.kid_deviations is None or kid is None or spread is None or kid >= -rules.kid_deviations * spread:
        return None
    return (
        f"KID {kid:.4g} is more than {rules.kid_deviations:g} of its standard deviations ({spread:.2g}) below zero: "
        "the generated pictures repeat the training pictures."
    )


def _collapse(curve: Sequence[Mapping[str, Any]], *, rules: AlarmConfig) -> str | None:
    if rules.collapse_share is None:
        return None
    for name, floor in _FLOORS.items():
        values = [float(point[name]) for point in curve if point.get(name) is not None]
        before, last = values[: -rules.collapse_evaluations], values[-rules.collapse_evaluations :]
        # Where the newest point has no such number, the last ones are not in a row.
        if not before or any(point.get(name) is None for point in curve[-rules.collapse_evaluations :]):
            continue
        highest = max(before)
        if highest >= floor and max(last) < rules.collapse_share * highest:
            return (
                f"{_NAMES[name]} was at most {max(last):.2g} in {len(last)} evaluations in a row, below "
                f"{rules.collapse_share:.0%} of the run's highest, {highest:.2g}: the generator draws less and less."
            )
    return None
