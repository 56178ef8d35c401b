"""FID, KID, precision and recall of features.

Shapes: N generated and M real pictures, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from core.errors import NonFinite

if TYPE_CHECKING:
    from torch import Tensor


NEIGHBOURS = 3


class Kid(NamedTuple):
    """Mean and standard deviation over random subsets."""

    mean: float
    sd: float


def fid(generated_NF: Tensor, real_MF: Tensor) -> float:
    """Fréchet distance between the Gaussians that fit two sets of features.

    Source: Heusel et al. 2017, Eq. 6. With A = (features - mean) / sqrt(rows - 1), the covariances are A1'A1
    and A2'A2, and the trace of the square root of their product is the sum of the singular values of A1 A2'.
    That is exact, and for a few hundred pictures it takes hundredths of a second, where torch-fidelity takes
    seconds for the eigenvalues of a product of singular matrices, most of them zero. The tests hold the two
    against each other.

    Args:
        generated_NF: at least two rows.
        real_MF: at least two rows.

    Raises:
        ValueError: a set has fewer than two rows, and so no covariance.
        NonFinite: a feature is not a finite number.
    """
    _check(generated_NF, real_MF, least=2)
    mean1_F, root1_KF = _mean_and_root(generated_NF)
    mean2_F, root2_LF = _mean_and_root(real_MF)
    between = (mean1_F - mean2_F).square().sum()
    traces = root1_KF.square().sum() + root2_LF.square().sum()
    return float(between + traces - 2 * torch.linalg.svdvals(root1_KF @ root2_LF.T).sum())


def _mean_and_root(features_NF: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and a matrix A of at most F rows with A'A the unbiased covariance."""
    mean_F = features_NF.mean(dim=0, dtype=torch.float64)
    root_KF = mean_F.new_empty(0, len(mean_F))
    # In blocks, so that of fifty thousand rows no copy in float64 is made: Q cancels in A'A.
    for block_BF in torch.split(features_NF, max(1_000, len(mean_F))):
        centred_BF = (block_BF.double() - mean_F) / (len(features_NF) - 1) ** 0.5
        root_KF = torch.cat([root_KF, centred_BF])
        if len(root_KF) > root_KF.shape[1]:
            root_KF = torch.linalg.qr(root_KF, mode="r").R
    return mean_F, root_KF


def kid(generated_NF: Tensor, real_MF: Tensor, *, subsets: int, subset_size: int, seed: int) -> Kid:
    """Squared maximum mean discrepancy between two sets of features, unbiased, with its spread.

    Source: Bińkowski et al. 2018, section 3, polynomial kernel of degree 3, as torch-fidelity computes it.

    Args:
        generated_NF: at least subset_size rows.
        real_MF: at least subset_size rows. Subsets of all of them would leave the spread without its real side:
            half of them is the convention here.
        subsets: how many random subsets.
        subset_size: rows drawn from each set, without replacement; 2 or more.
        seed: of the subsets.

    Raises:
        ValueError: a set has fewer rows than a subset, or a subset fewer than two.
        NonFinite: a feature is not a finite number.
    """
    if subset_size < 2:  # noqa: PLR2004  # the unbiased estimator divides by subset_size - 1
        raise ValueError(f"a KID subset needs at least 2 pictures, not {subset_size}")
    _check(generated_NF, real_MF, least=subset_size)
    found = kid_features_to_metric(
        generated_NF.double(),
        real_MF.double(),
        kid_subsets=subsets,
        kid_subset_size=subset_size,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=seed,
        verbose=False,
    )
    return Kid(mean=found[KEY_METRIC_KID_MEAN], sd=found[KEY_METRIC_KID_STD])


class Manifold(NamedTuple):
    """Shares in [0, 1]: of generated pictures that look real, and of real ones that the generator covers."""

    precision: float
    recall: float


def precision_recall(generated_NF: Tensor, real_MF: Tensor) -> Manifold:
    """Precision and recall by balls around each picture that reach its third neighbour.

    Source: Kynkäänniemi et al. 2019, Eq. 1 and 2, as torch-fidelity computes them.

    Args:
        generated_NF: at least four rows.
        real_MF: at least four rows.

    Raises:
        ValueError: a set has fewer than four rows, and so no third neighbours.
        NonFinite: a feature is not a finite number.
    """
    _check(generated_NF, real_MF, least=NEIGHBOURS + 1)
    found = prc_features_to_metric(
        generated_NF.double(),
        real_MF.double(),
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=1_000,  # and no matrix of all distances: of 50,000 pictures that would be 20 GB
        save_cpu_ram=True,
        verbose=False,
    )
    return Manifold(precision=found[KEY_METRIC_PRECISION], recall=found[KEY_METRIC_RECALL])


def _check(generated_NF: Tensor, real_MF: Tensor, *, least: int) -> None:
    for name, features in (("generated", generated_NF), ("real", real_MF)):
        if len(features) < least:
            raise ValueError(f"at least {least} {name} pictures are needed, not {len(features)}")
        if not features.isfinite().all():
            raise NonFinite(f"Features of {name} pictures are not finite numbers.")
