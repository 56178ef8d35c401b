"""Inception Score: how sure Inception v3 is of each picture, and how different its answers are.

Shapes: N pictures, K classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from core.errors import NonFinite

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = 10


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the splits."""

    mean: float
    sd: float


def inception_score(logits_NK: Tensor, *, seed: int) -> InceptionScore:
    """The exponential of the mean divergence of a picture's class distribution from that of its split.

    Source: Salimans et al. 2016, section 4, as torch-fidelity computes it: over ten equal splits of the shuffled
    pictures. It is at least 1, reached where all pictures of a split get the same answer, and at most the number of
    pictures in a split or of classes, whichever is less: it compares only at one number of pictures.

    Args:
        logits_NK: of `extract_with_logits`, at least ten rows.
        seed: of the shuffle.

    Raises:
        ValueError: there are fewer pictures than splits.
        NonFinite: a logit is not a finite number, or so far from others that probabilities underflow.
    """
    if len(logits_NK) < SPLITS:
        raise ValueError(f"at least {SPLITS} pictures are needed, one a split, not {len(logits_NK)}")
    if not logits_NK.isfinite().all():
        raise NonFinite("Logits of generated pictures are not finite numbers.")
    found = isc_features_to_metric(logits_NK.double(), splits=SPLITS, shuffle=True, rng_seed=seed)
    if not all(map(math.isfinite, found.values())):
        # A class that is impossible for every picture of a split, to the last of a double's 300 digits.
        raise NonFinite(
            f"Logits reach from {float(logits_NK.min()):g} to {float(logits_NK.max()):g}: their probabilities are "
            "zeros, and give no Inception Score. Are these the weights of Inception v3?"
        )
    return InceptionScore(mean=found[KEY_METRIC_ISC_MEAN], sd=found[KEY_METRIC_ISC_STD])
