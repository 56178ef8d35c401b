"""Which snapshot of a run is the best, by a stated rule, and why in a sentence.

The lowest KID of many is partly luck: what lies within its spread is as good, and among those diversity decides. The
choice is made on the training set, so the chosen one's numbers are optimistic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


JUDGED = ("kid", "kid_sd", "recall", "copy_rate")


@dataclass(frozen=True)
class Choice:
    """Where in the curve the best snapshot stands, and why it is the best."""

    index: int
    reason: str


def choose(curve: Sequence[Mapping[str, Any]], *, copy_limit: float | None) -> Choice | None:
    """Choose the best of a run's snapshots.

    Candidates are those whose KID, taken as 0 where it is below, is within one standard deviation of the lowest one's;
    of them those whose copy rate is not over the limit, where there are any; of them the one with the highest recall,
    then with the lower KID, then the later one.

    Args:
        curve: metrics of evaluated snapshots under one protocol, by images seen. Those without a KID are passed over,
            a missing recall counts as 0, a missing copy rate as under the limit.
        copy_limit: the copy rate above which an alarm is raised; None for no limit.

    Returns:
        None where no snapshot has a KID.
    """
    kids = {index: max(0.0, float(point["kid"])) for index, point in enumerate(curve) if "kid" in point}
    if not kids:
        return None
    # Of equally low ones the later: its spread is the one that counts.
    lowest = min(kids, key=lambda index: (kids[index], -index))
    spread = float(curve[lowest].get("kid_sd", 0.0))
    near = [index for index, kid in kids.items() if kid <= kids[lowest] + spread]
    original = [index for index in near if not _copies(curve[index], limit=copy_limit)]
    recalls = {index: float(curve[index].get("recall", 0.0)) for index in original or near}
    chosen = max(recalls, key=lambda index: (recalls[index], -kids[index], index))
    reason = _beginning(kids, chosen=chosen, lowest=lowest, spread=spread, near=len(near))
    if len(near) > 1:
        reason += _copying(near, original, limit=copy_limit) + _last_word(recalls, kids, chosen=chosen)
    elif not original:
        reason += "; its copy rate is over the limit"
    return Choice(chosen, f"{reason}.")


def ranked(curve: Sequence[Mapping[str, Any]], *, count: int, copy_limit: float | None) -> list[int]:
    """The best snapshots by the rule of `choose`: the best, then the best of the rest, and so on.

    Args:
        curve: as of `choose`.
        count: so many at most.
        copy_limit: as of `choose`.

    Returns:
        Indices into the curve.
    """
    rest, best = list(range(len(curve))), list[int]()
    while len(best) < count:
        choice = choose([curve[index] for index in rest], copy_limit=copy_limit)
        if choice is None:
            break
        best.append(rest.pop(choice.index))
    return best


def _copies(point: Mapping[str, Any], *, limit: float | None) -> bool:
    return limit is not None and float(point.get("copy_rate", 0.0)) > limit


def _beginning(kids: Mapping[int, float], *, chosen: int, lowest: int, spread: float, near: int) -> str:
    if len(kids) == 1:
        return f"KID {kids[chosen]:.4g}: no other snapshot has one yet"
    if kids[chosen] > kids[lowest]:
        lead = f"KID {kids[chosen]:.4g} is within one standard deviation ({spread:.2g}) of the lowest"
        return f"{lead}, {kids[lowest]:.4g}; of {near} such snapshots"
    lead = f"KID {kids[chosen]:.4g} is the lowest"
    return f"{lead}; of {near} within one standard deviation, {spread:.2g}," if near > 1 else lead


def _copying(near: Sequence[int], original: Sequence[int], *, limit: float | None) -> str:
    if not original:
        return f" all have a copy rate over {limit:.0%}, and"
    if len(original) < len(near):
        return f" {len(original)} with a copy rate of at most {limit:.0%} remain, and of them"
    return ""


def _last_word(recalls: Mapping[int, float], kids: Mapping[int, float], *, chosen: int) -> str:
    """What tells the chosen one from the other candidates."""
    equal = [index for index, recall in recalls.items() if recall == recalls[chosen]]
    if len(recalls) == 1:
        return " it is the only one"
    if len(equal) == 1:
        return f" it has the highest recall, {recalls[chosen]:.2f}"
    alike = f" {len(equal)} share the highest recall, {recalls[chosen]:.2f}, and it has the lowest KID"
    if sum(kids[index] == kids[chosen] for index in equal) == 1:
        return alike
    return f"{alike} and is the latest"
