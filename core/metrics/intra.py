"""Intra-FID: how near a generator's pictures of a class come to the training pictures of that class.

Shapes: N generated and M training pictures, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.metrics.fid import fid
from core.metrics.generated import generated_of_class
from core.metrics.protocol import counted_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from core.metrics.features import Features
    from core.metrics.protocol import ClassedProtocol
    from core.training.deployed import DeployedGenerator


def intra_fid(
    generator: DeployedGenerator,
    protocol: ClassedProtocol,
    *,
    features: Features,
    real_MF: Tensor,
    labels: Sequence[int],
    classes: int,
) -> dict[str, float | list[float]]:
    """Compare each class with itself; classes of fewer than 10 training pictures are left out, and counted.

    Source: Zhang et al. 2019 (SAGAN), section 4: the mean over classes of their FIDs. It falls where pictures are
    drawn under another class's label, which the FID of all pictures together does not see.

    Args:
        generator: trained by class.
        protocol: says how many pictures of each class are generated.
        features: of the protocol.
        real_MF: features of the training pictures.
        labels: the class of each of them.
        classes: how many the dataset has; of some there may be no training picture.

    Returns:
        intra_fid, intra_fid_per_class, intra_fid_classes (which classes those are), and intra_fid_left_out; only the
        last where no class has enough pictures.

    Raises:
        NonFinite: a feature left the finite numbers.
    """
    labels_M, counted = torch.tensor(labels), counted_classes(labels)
    values = []
    for label in counted:
        pictures = generated_of_class(generator, protocol, label=label, count=protocol.intra_generated)
        features_NF = torch.cat([features.of(part) for part in pictures])
        values.append(fid(features_NF, real_MF[labels_M == label]))
    left_out: dict[str, float | list[float]] = {"intra_fid_left_out": classes - len(counted)}
    if not counted:
        return left_out
    return left_out | {
        "intra_fid": sum(values) / len(values),
        "intra_fid_per_class": [round(value, 6) for value in values],
        "intra_fid_classes": [float(label) for label in counted],
    }
