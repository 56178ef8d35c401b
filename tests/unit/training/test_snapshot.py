from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from torch import nn

from core.errors import ConfigurationFailed
from core.models.slaegan import LATENT, METADATA, Generator
from core.schemas.slaegan import SlaeganConfig
from core.training.family import Setting
from core.training.metadata import MetadataBank
from core.training.snapshot import deploy, load_generator, write_generator, write_grid

if TYPE_CHECKING:
    from pathlib import Path

    from core.training.deployed import DeployedGenerator

CONFIG = SlaeganConfig(resolution=64, width=0.125)


@pytest.fixture(scope="module")
def trained() -> Generator:
    """A generator that has seen some batches; its noise weights are away from zero."""
    torch.manual_seed(0)
    generator = Generator(CONFIG)
    for name, parameter in generator.named_parameters():
        if "noise" in name:
            nn.init.constant_(parameter, 0.1)
    for _ in range(5):
        latent = torch.randn(8, LATENT)
        generator(latent, generator.draw_noises(latent, generator=None))
    return generator


def setting(*, dtype: torch.dtype = torch.float32, bank: MetadataBank | None = None) -> Setting:
    return Setting(dtype=dtype, device=torch.device("cpu"), micro_batch=CONFIG.batch, bank=bank)


@pytest.fixture(scope="module")
def deployed(trained: Generator) -> DeployedGenerator:
    return deploy(
        trained.state_dict(),
        config=CONFIG,
        setting=setting(
            bank=MetadataBank.of(torch.rand(5, METADATA, generator=torch.Generator().manual_seed(0)))
        ),
        check_stop=lambda: None,
    )


def test_the_training_is_not_touched(trained: Generator) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    deploy(
        trained.state_dict(),
        config=CONFIG,
        setting=setting(dtype=torch.bfloat16),
        check_stop=lambda: None,
    )
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_it_is_the_trained_network_with_settled_norms(
    trained: Generator, deployed: DeployedGenerator
) -> None:
    """In evaluation mode, with the same statistics, the folded network computes what the spectral one does."""
    torch.manual_seed(1)
    latent = torch.randn(4, LATENT)
    noises = trained.draw_noises(latent, generator=None)
    reference = Generator(CONFIG)
    statistics = {name: value for name, value in deployed.network.state_dict().items() if "running" in name}
    reference.load_state_dict(trained.state_dict() | statistics)
    for layer in reference.modules():
        if hasattr(layer, "iterate"):
            layer.iterate(20)
    reference.eval()
    with torch.no_grad():
        expected, found = reference(latent, noises), deployed.network(latent, noises)
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=0)


def test_statistics_are_those_of_fresh_batches(deployed: DeployedGenerator) -> None:
    """Features of new latents come out of every BN layer with mean 0 and deviation 1, before its own affine."""
    outputs: dict[str, torch.Tensor] = {}
    norm = deployed.network.blocks["32"].norm_up
    assert isinstance(norm, nn.BatchNorm2d)
    with norm.register_forward_hook(lambda _module, inputs, _out: outputs.update(seen=inputs[0])):
        deployed.sample(seed=5, start=0, count=16, latents="bank")
    features = outputs["seen"]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    normal = (features - norm.running_mean[:, None, None]) / norm.running_var.sqrt()[:, None, None]
    assert normal.mean().abs() < 0.1
    assert normal.std().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("latents", ["mix", "bank", "plain"])
def test_a_picture_is_a_function_of_seed_and_index(deployed: DeployedGenerator, latents: str) -> None:
    many = deployed.sample(seed=1, start=0, count=64, latents=latents)  # type: ignore[arg-type]  # one of them
    assert many.shape == (64, 3, 64, 64)
    assert many.dtype == torch.uint8
    for index in (0, 17, 63):
        alone = deployed.sample(seed=1, start=index, count=1, latents=latents)  # type: ignore[arg-type]  # likewise
        assert (alone[0].int() - many[index].int()).abs().max() <= 1
    assert not torch.equal(many[0], many[1])
    other = deployed.sample(seed=2, start=0, count=1, latents=latents)  # type: ignore[arg-type]  # likewise
    assert not torch.equal(other[0], many[0])


def test_the_network_makes_the_same_picture_alone_and_among_64(deployed: DeployedGenerator) -> None:
    latent, noises, *_ = deployed.draw(list(range(64)), seed=3, latents="bank")
    with torch.no_grad():
        among, _ = deployed.network(latent, noises)
        for index in (0, 31, 63):
            rows = slice(index, index + 1)
            alone, _ = deployed.network(latent[rows], [plane[rows] for plane in noises])
            assert (among[index] - alone[0]).abs().max() * 127.5 <= 1


def test_sources_of_latents_differ(deployed: DeployedGenerator) -> None:
    mix, bank, plain = (
        deployed.sample(seed=0, start=0, count=2, latents=s) for s in ("mix", "bank", "plain")
    )
    assert not torch.equal(mix, bank)
    assert not torch.equal(bank, plain)


def test_a_file_gives_the_same_pictures(deployed: DeployedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    write_generator(path, deployed, images_seen=1234)
    loaded = load_generator(path)
    assert loaded.images_seen == 1234
    assert loaded.config == CONFIG
    assert torch.equal(loaded.sample(seed=3, start=5, count=4), deployed.sample(seed=3, start=5, count=4))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x10\0\0\0\0\0\0\0{}"])
def test_what_is_no_generator_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "generator.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigurationFailed, match=r"generator\.safetensors"):
        load_generator(path)


def test_the_grid_shows_the_same_latents(deployed: DeployedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    write_grid(path, deployed)
    with Image.open(path) as grid:
        assert grid.size == (6 * 64, 6 * 64)
        first = grid.crop((0, 0, 64, 64)).tobytes()
    sample = deployed.sample(seed=0, start=0, count=6)[0]
    assert first == sample.permute(1, 2, 0).numpy().tobytes()
