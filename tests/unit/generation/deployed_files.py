"""Files of small generators, deployed as a training deploys them, with everything in them that learns from zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from core.generation.generators import Generators
from core.generation.render import render
from core.models.slaegan import METADATA
from core.schemas.ticks import RenderSpec
from core.training.classes import Classes
from core.training.families import family_of
from core.training.family import Setting
from core.training.metadata import MetadataBank
from core.training.snapshot import deploy, write_generator
from tests.unit.training.test_families import tiny

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.families import Config
    from core.schemas.generations import Rendering
    from core.schemas.ticks import RenderedTick

CLASSES = ("cat", "dog", "owl")
# Beside the smallest of each family: with metadata of training pictures, by class, and pairs that mix on codes.
MORE: dict[str, dict[str, Any]] = {
    "slaegan": {"metadata": True},
    "sagan": {"conditional": True},
    "stylegan2": {"conditional": True},
}


def write_file(folder: Path, config: Config) -> Path:
    """A generator of a configuration, with random weights and settled norms."""
    torch.manual_seed(3)
    classes = Classes(CLASSES, (5, 3, 2)) if config.needs_labels else None
    count = 0 if classes is None else len(classes.names)
    network = family_of(config).deployable(config, classes=count, spectral=True)
    for name, parameter in network.named_parameters():
        if name.endswith((".noise_up.weight", ".noise_conv.weight", ".strength", "attention.gamma")):
            torch.nn.init.constant_(parameter, 0.3)
    bank = None
    if config.uses_metadata:
        bank = MetadataBank.of(torch.rand(7, METADATA))
    setting = Setting(
        dtype=torch.float32,
        device=torch.device("cpu"),
        micro_batch=config.batch,
        bank=bank,
        classes=classes,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.training.snapshot._BN_LATENTS", 128)
        deployed = deploy(network.state_dict(), config=config, setting=setting, check_stop=lambda: None)
    path = folder / f"{config.family}.safetensors"
    write_generator(path, deployed, images_seen=1_000)
    return path


class Rendered:
    """Renders requests with one generator, each in a folder of its own."""

    def __init__(self, folder: Path, config: Config, **spec: Any) -> None:
        self.folder, self.config, self._spec = folder, config, spec
        self.generators = Generators()
        self.file = write_file(folder, config)
        self._count = 0

    def __call__(self, request: Rendering, **spec: Any) -> tuple[RenderedTick, Path]:
        """The answer, and the folder that holds its files."""
        self._count += 1
        work_dir = self.folder / f"work-{self._count}"
        work_dir.mkdir()
        given: dict[str, Any] = {
            "generator": self.file,
            "config": self.config,
            "request": request,
            "work_dir": work_dir,
            "cache_dir": self.folder / "cache",
            "weights_dir": self.folder / "no-weights",
            "device": "cpu",
            "classes": CLASSES if self.config.needs_labels else (),
        }
        spec = given | self._spec | spec
        # As the child gets it: one line of JSON.
        read = RenderSpec.model_validate_json(RenderSpec.model_validate(spec).model_dump_json())
        return render(read, generators=self.generators), work_dir


def richest(family: str) -> Config:
    """The smallest configuration of a family that has all it can have."""
    return tiny(family, **MORE.get(family, {}))
