from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from core.metrics.evaluate import evaluate
from core.metrics.protocol import planned_protocol
from core.models.slaegan import Generator
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import EvaluationSpec, MetricsTick
from core.training.deployed import DeployedGenerator
from core.training.metadata import MetadataBank
from core.training.snapshot import write_generator

if TYPE_CHECKING:
    from pathlib import Path

REAL = 6


@pytest.fixture(scope="session")
def evaluation_spec(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> EvaluationSpec:
    """An untrained generator of few channels, and six pictures of random colours."""
    folder = tmp_path_factory.mktemp("evaluation")
    images_dir = folder / "images"
    images_dir.mkdir()
    random = np.random.default_rng(0)
    for number in range(REAL):
        colours = Image.fromarray(random.integers(0, 256, (5, 4, 3), dtype=np.uint8))
        colours.resize((64, 80), Image.Resampling.BICUBIC).save(images_dir / f"{number}.png")
    config = SlaeganConfig(
        resolution=64,
        width=0.125,
        evaluation=EvaluationConfig(extractor="vgg16", precision="fp32", generated=16, lpips_pairs=8),
    )
    torch.manual_seed(0)
    deployed = DeployedGenerator(
        Generator(config, spectral=False).eval().requires_grad_(requires_grad=False),
        config=config,
        bank=MetadataBank.of(torch.randn(REAL, 512)),
    )
    write_generator(folder / "generator.safetensors", deployed, images_seen=0)
    return EvaluationSpec(
        generator=folder / "generator.safetensors",
        images_dir=images_dir,
        dataset_hash="six-colourful-pictures",
        config=config,
        protocol=planned_protocol(config, image_count=REAL).model_dump(mode="json"),
        cache_dir=folder / "cache",
        weights_dir=weights_dir,
        device="cpu",
    )


@pytest.fixture(scope="session")
def result(evaluation_spec: EvaluationSpec) -> MetricsTick:
    """What an evaluation finds of it."""
    return evaluate(evaluation_spec)
