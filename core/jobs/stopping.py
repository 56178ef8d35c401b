"""When a training has given what it will give: rules on its curve, with wide margins by default.

The rules see points of one run and one protocol, by images seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.schemas.judging import StoppingConfig


# How a reason begins.
RULES = ("plateau", "collapse")


def reason_to_stop(curve: Sequence[Mapping[str, Any]], *, rules: StoppingConfig) -> str | None:
    """Why a training should end now, in a sentence; None while it should go on.

    Args:
        curve: metrics of the evaluated snapshots, kid and lpips among them, by images seen; the untrained generator's
            come first.
        rules: of the job's configuration.
    """
    return _plateau(curve, rules=rules) or _collapse(curve, rules=rules)


def _plateau(curve: Sequence[Mapping[str, Any]], *, rules: StoppingConfig) -> str | None:
    patience = rules.plateau_evaluations
    if patience is None or len(curve) <= patience:
        return None
    # KID may fall below zero by chance; all of that is as good as zero.
    distances = [max(0.0, float(point["kid"])) for point in curve]
    before, since = min(distances[:-patience]), min(distances[-patience:])
    if since < before * (1 - rules.plateau_gain):
        return None
    return (
        f"plateau: the best KID of the last {patience} evaluations, {since:.4g}, is not {rules.plateau_gain:.0%} below "
        f"the best before them, {before:.4g}"
    )


def _collapse(curve: Sequence[Mapping[str, Any]], *, rules: StoppingConfig) -> str | None:
    if rules.collapse_share is None or len(curve) <= rules.collapse_evaluations:
        return None
    diversities = [float(point["lpips"]) for point in curve]
    highest, last = max(diversities), diversities[-rules.collapse_evaluations :]
    if max(last) >= rules.collapse_share * highest:
        return None
    return (
        f"collapse: in {len(last)} evaluations the LPIPS diversity was at most {max(last):.4g}, below "
        f"{rules.collapse_share:.0%} of the run's highest, {highest:.4g}"
    )
