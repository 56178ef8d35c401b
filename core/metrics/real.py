"""The side of the training pictures: what depends on them and the protocol alone is computed once, and kept.

Shapes: M training pictures, H pictures kept from the training, F features.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.files import atomic_path
from core.metrics.copies import copy_threshold
from core.metrics.fid import fid, kid
from core.metrics.nearest import TOGETHER, TrainingPictures
from core.metrics.perception import apart, look
from core.metrics.protocol import MIN_REAL
from core.training.data import load_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from core.metrics.features import Features
    from core.metrics.protocol import MetricProtocol
    from core.schemas.ticks import EvaluationSpec

_OF_ALL = {"version", "precision", "resolution", "real_preparation"}
# The networks and the resizing of some extractors, and KID, are torch-fidelity's.
_OF_FEATURES = {*_OF_ALL, "extractor", "weights_sha256", "layer", "resize", "torch_fidelity"}
_OF_FLOORS = {
    *_OF_FEATURES,
    *("seed", "kid_subsets", "kid_kernel", "lpips", "lpips_weights_sha256", "lpips_pairs"),
}
_OF_DISTANCES = {*_OF_ALL, "lpips", "lpips_weights_sha256", "copies_resize", "copies_real"}
_FORMAT = 1  # of what is kept: another one when other things are computed from the same facts
_FLOORS = ("floor_fid_mirror", "floor_kid_mirror", "floor_lpips", "floor_fid_halves", "floor_kid_halves")


def load_real(spec: EvaluationSpec) -> tuple[Tensor, Tensor | None]:
    """The pictures that a job trains on, M3HW uint8, and those that it keeps from the training, where it does.

    Raises:
        DataFailed: a picture cannot be read, or there are too few.
    """

    def load(folder: Path, dataset_hash: str) -> Tensor:
        return load_pictures(
            folder,
            resolution=spec.config.resolution,
            fit=spec.config.fit,
            cache_dir=spec.cache_dir,
            dataset_hash=dataset_hash,
            check_stop=lambda: None,
        )

    training_M3HW = load(spec.images_dir, spec.dataset_hash)
    if spec.held_out_dir is None:
        return training_M3HW, None
    return training_M3HW, load(spec.held_out_dir, f"{spec.dataset_hash}-held-out")


def evenly(count: int, *, of: int) -> Tensor:
    """So many rows of a set, spread evenly from its first to its last; int64."""
    return torch.linspace(0, of - 1, count).round().long()


class RealPictures:
    """What an evaluation knows of the real pictures.

    Args:
        spec: names the dataset and the cache.
        protocol: of the evaluation.
        features: the networks to look at them through.
        training_M3HW: uint8.
        held_out_H3HW: uint8.
    """

    def __init__(
        self,
        spec: EvaluationSpec,
        protocol: MetricProtocol,
        *,
        features: Features,
        training_M3HW: Tensor,
        held_out_H3HW: Tensor | None,
    ) -> None:
        self._spec, self._protocol, self._features = spec, protocol, features
        self.pictures_M3HW, self._held_out_H3HW = training_M3HW, held_out_H3HW
        count = len(training_M3HW)
        self.searched_rows = evenly(protocol.copies_real, of=count)

    @property
    def labels(self) -> tuple[int, ...]:
        """The class of each training picture, of a training by class."""
        assert self._spec.labels is not None, "the protocol was planned with them"
        return self._spec.labels

    @property
    def class_count(self) -> int:
        """How many classes the dataset has."""
        return len(self._spec.classes)

    def features(self) -> Tensor:
        """Features of the training pictures, MF float32."""
        return self._kept("features", _OF_FEATURES, lambda: self._features.of(self.pictures_M3HW))

    def held_out_features(self) -> Tensor | None:
        """Features of the pictures that were kept from the training, HF float32; None where there are none."""
        pictures = self._held_out_H3HW
        if pictures is None:
            return None
        return self._kept("held-out", _OF_FEATURES, lambda: self._features.of(pictures))

    def to_search(self) -> tuple[TrainingPictures, float]:
        """Training pictures as `Copies` searches them, rows `searched_rows` of all, and the threshold of a copy."""
        rows = self.searched_rows
        training = TrainingPictures(self._parts(rows), count=len(rows), lpips=self._features.lpips)

        def among() -> Tensor:
            return torch.cat([training.distances(part) for part in self._parts(rows)])

        return training, copy_threshold(self._kept("distances", _OF_DISTANCES, among))

    def _parts(self, rows_K: Tensor) -> Iterator[Tensor]:
        """Training pictures, some at a time: the file that holds them may be larger than the memory."""
        return (self.pictures_M3HW[some] for some in torch.split(rows_K, TOGETHER))

    def floors(self) -> dict[str, float]:
        """What the metrics say of the training set itself, to be read beside a generator's numbers.

        FID and KID of its mirror images, and of one random half against the other (where both have enough pictures
        for it), and the LPIPS of random pairs.
        """
        values = self._kept("floors", _OF_FLOORS, self._measure_floors)
        floors = zip(_FLOORS, values.tolist(), strict=True)
        return {name: value for name, value in floors if not math.isnan(value)}

    def _measure_floors(self) -> Tensor:
        real_MF = self.features()
        every_M = torch.arange(len(real_MF))
        mirrored = torch.cat([self._features.of(part.flip(dims=(3,))) for part in self._parts(every_M)])
        order_M = torch.randperm(len(real_MF), generator=torch.Generator().manual_seed(self._protocol.seed))
        values = [fid(mirrored, real_MF), self._kid(mirrored, real_MF), self._lpips(order_M)]
        one, other = real_MF[order_M].chunk(2)
        if len(other) >= MIN_REAL:
            values += [fid(one, other), self._kid(one, other)]
        else:
            values += [math.nan, math.nan]
        return torch.tensor(values, dtype=torch.float64)

    def _kid(self, one_NF: Tensor, other_MF: Tensor) -> float:
        return kid(
            one_NF,
            other_MF,
            subsets=self._protocol.kid_subsets,
            subset_size=min(len(one_NF), len(other_MF)) // 2,
            seed=self._protocol.seed,
        ).mean

    def _lpips(self, order_M: Tensor) -> float:
        lpips = self._features.lpips
        paired = order_M[: 2 * min(self._protocol.lpips_pairs, len(order_M) // 2)]
        parts = (self.pictures_M3HW[some] for some in torch.split(paired, self._features.batch))
        return float(torch.cat([apart(lpips, look(lpips, part)) for part in parts]).double().mean())

    def _kept(self, kind: str, names: set[str], compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives, from where it was kept before.

        Args:
            kind: the beginning of the file's name.
            names: of the protocol's fields that matter.
            compute: makes it anew.
        """
        facts = self._protocol.model_dump_json(include=names)
        name = hashlib.sha256(f"{_FORMAT} {self._spec.dataset_hash} {facts}".encode()).hexdigest()
        cached = self._spec.cache_dir / f"{kind}-{name}.safetensors"
        if cached.is_file():
            try:
                return load_file(cached)[kind]
            except (SafetensorError, KeyError):
                cached.unlink(missing_ok=True)  # a damaged cache is made again
        found = compute()
        with atomic_path(cached) as temporary:
            save_file({kind: found.contiguous()}, temporary)
        return found
