from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest
from PIL import Image

from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import TrainingSpec

if TYPE_CHECKING:
    from pathlib import Path


class MakeSpec(Protocol):
    def __call__(self, name: str, *, resume: Path | None = None, **config: Any) -> TrainingSpec: ...


@pytest.fixture
def make_spec(tmp_path: Path, weights_dir: Path) -> MakeSpec:
    """A training on twelve random pictures, on the first CUDA device."""
    images_dir = tmp_path / "pictures"
    images_dir.mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        pixels = random.integers(0, 256, size=(96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images_dir / f"{index:02}.png")

    def make(name: str, *, resume: Path | None = None, **config: Any) -> TrainingSpec:
        (tmp_path / name).mkdir()
        return TrainingSpec(
            config=SlaeganConfig.model_validate(config),
            images_dir=images_dir,
            dataset_hash="twelve-random-pictures",
            work_dir=tmp_path / name,
            cache_dir=tmp_path / "cache",
            weights_dir=weights_dir,
            device="cuda",
            resume=resume,
        )

    return make
