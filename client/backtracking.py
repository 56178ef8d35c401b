"""A backtracking as its owner sees it: asked for, waited for, then told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from core.errors import InfrastructureError, InvalidRequest
from core.schemas.evaluations import BacktrackingIn

if TYPE_CHECKING:
    from client.http import SlaeGan
    from core.schemas.evaluations import EvaluationOut

_PAUSE_S = 1.0
_PATIENCE_S = 120


def question(*, held_out: bool, pictures: int, steps: int) -> BacktrackingIn:
    """What to ask for.

    Raises:
        InvalidRequest: it is more than the service computes at once.
    """
    try:
        return BacktrackingIn(of="held_out" if held_out else "training", pictures=pictures, steps=steps)
    except ValidationError as error:
        raise InvalidRequest(
            "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        ) from error


def wait_for(client: SlaeGan, evaluation: EvaluationOut) -> EvaluationOut:
    """The evaluation once it is over.

    Raises:
        InfrastructureError: the service was away for two minutes.
    """
    seen = time.monotonic()
    while evaluation.status in {"queued", "running"}:
        time.sleep(_PAUSE_S)
        try:
            evaluation = client.evaluation(evaluation.id)
            seen = time.monotonic()
        except InfrastructureError:
            if time.monotonic() - seen > _PATIENCE_S:
                raise
    return evaluation


def told(evaluation: EvaluationOut) -> list[str]:
    """Its result in words, or why it has none."""
    metrics, protocol = evaluation.metrics, evaluation.protocol
    if metrics is None:
        why = (evaluation.error or {}).get("message", "")
        return [f"The backtracking is {evaluation.status}. {why}"]
    distances = metrics["lpips_per_picture"]
    result = (
        f"LPIPS {metrics['lpips']:.4f} ± {metrics['lpips_sd']:.4f} over {len(distances)} pictures ({protocol['of']}), "
        f"{protocol['steps']} steps, of the generator at {evaluation.images_seen} images."
    )
    return [result, f"Nearest {min(distances):.4f}, farthest {max(distances):.4f}; lower is better."]
