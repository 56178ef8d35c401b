"""The features of a protocol's extractor; VGG-16's come from the pass that LPIPS makes.

Shapes: N pictures, H height, W width, F features, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.errors import NonFinite
from core.metrics.extractors import extract_with_logits, load_extractor
from core.metrics.networks import SIDE
from core.metrics.perception import batch_size, look, relu5_3
from core.training.perceptual import Lpips

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from core.metrics.protocol import MetricProtocol


class Features:
    """What an evaluation sees in pictures: the extractor's features, and LPIPS's.

    Args:
        protocol: names the extractor, its weights and its precision; VGG-16 computes LPIPS in the same.
        weights_dir: folder of pretrained weights.
        device: cpu or cuda:<index>.

    Raises:
        WeightsMissing: the weights are not there and not to be had.
    """

    def __init__(self, protocol: MetricProtocol, *, weights_dir: Path, device: str) -> None:
        dtype = torch.bfloat16 if protocol.precision == "bf16" else torch.float32
        self.lpips = Lpips(weights_dir, dtype=dtype, device=device)
        self._extractor = None
        if protocol.extractor != "vgg16":
            self._extractor = load_extractor(protocol, weights_dir=weights_dir, device=device)
        self.batch = batch_size(self.lpips.shift.device, side=min(protocol.resolution, SIDE))

    @property
    def from_depths(self) -> bool:
        """Whether they come from LPIPS's depths, so that one pass gives both."""
        return self._extractor is None

    def of(self, pictures_N3HW: Tensor) -> Tensor:
        """Features NF, float32 on the CPU, of uint8 pictures.

        Raises:
            NonFinite: a feature is not a finite number.
        """
        return self.with_logits(pictures_N3HW)[0]

    def with_logits(self, pictures_N3HW: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `of`, and what Inception v3 takes the pictures for, logits NK; None of any other extractor."""
        if self._extractor is not None:
            return extract_with_logits(self._extractor, pictures_N3HW)
        parts = torch.split(pictures_N3HW, self.batch)
        return torch.cat([self.of_depths(look(self.lpips, part)) for part in parts]), None

    @staticmethod
    def of_depths(depths: Sequence[Tensor]) -> Tensor:
        """As `of`, where they come from LPIPS's depths, of a batch whose depths are known."""
        features_NF = relu5_3(depths)
        if not features_NF.isfinite().all():
            raise NonFinite("The extractor returned features that are not finite numbers.")
        return features_NF
