"""An evaluation on CUDA: all tensors where they should be, and the numbers of the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from core.metrics.evaluate import evaluate
from core.metrics.protocol import planned_protocol
from core.models.slaegan import Generator
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import EvaluationSpec
from core.training.deployed import DeployedGenerator
from core.training.metadata import MetadataBank
from core.training.snapshot import write_generator

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def test_the_numbers_are_those_of_the_cpu(tmp_path: Path, weights_dir: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(8):
        Image.effect_noise((64, 64), 20 + 10 * number).convert("RGB").save(images / f"{number}.png")
    evaluation = EvaluationConfig(extractor="vgg16", precision="fp32", generated=64, lpips_pairs=8)
    config = SlaeganConfig(resolution=64, width=0.125, evaluation=evaluation)
    torch.manual_seed(0)
    network = Generator(config, spectral=False).eval().requires_grad_(requires_grad=False)
    deployed = DeployedGenerator(network, config=config, bank=MetadataBank.of(torch.randn(8, 512)))
    write_generator(tmp_path / "generator.safetensors", deployed, images_seen=0)
    cpu, cuda = (
        evaluate(
            EvaluationSpec(
                generator=tmp_path / "generator.safetensors",
                images_dir=images,
                dataset_hash="noise",
                config=config,
                protocol=planned_protocol(config, image_count=8).model_dump(mode="json"),
                cache_dir=tmp_path / f"cache-{device[:4]}",
                weights_dir=weights_dir,
                device=device,
                work_dir=tmp_path,
            )
        ).metrics
        for device in ("cpu", "cuda:0")
    )
    assert cuda == pytest.approx(cpu, rel=0.02, abs=0.01)
