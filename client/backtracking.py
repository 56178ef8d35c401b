"""A backtracking as its owner sees it: waited for, then told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.http import Client
    from core.schemas.evaluations import EvaluationOut

_PAUSE_S = 1.0


def wait_for(client: Client, evaluation: EvaluationOut) -> EvaluationOut:
    """The evaluation once it is over."""
    while evaluation.status in {"queued", "running"}:
        time.sleep(_PAUSE_S)
        evaluation = client.evaluation(evaluation.id)
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
