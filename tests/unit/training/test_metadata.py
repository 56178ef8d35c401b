from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from core.models.slaegan import LATENT, Generator
from core.models.vgg import IMAGENET_DEVIATION, IMAGENET_MEAN, vgg16_features
from core.schemas.slaegan import SlaeganConfig
from core.training.deployed import DeployedGenerator
from core.training.families import build_networks
from core.training.family import Setting
from core.training.metadata import MetadataBank, load_bank, mixed
from core.training.slaegan import Slaegan

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from core.schemas.training import Fit
    from core.training.deployed import Source


def never() -> None:
    """Nobody asks to stop."""


def test_standardised_rows_have_mean_0_and_deviation_1() -> None:
    rows = torch.rand(400, 512) * torch.linspace(0.5, 3, 512) + 7
    standardised = MetadataBank.of(rows).standardised()
    torch.testing.assert_close(standardised.mean(0), torch.zeros(512), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised.std(0, correction=0), torch.ones(512), atol=1e-4, rtol=0)


def test_dead_and_nearly_dead_channels_stay_small() -> None:
    rows = torch.rand(50, 512)
    rows[:, 0] = 0  # dead
    rows[:, 1] = 0
    rows[7, 1] = 1e-6  # alive in one picture, by a hair
    bank = MetadataBank.of(rows)
    spread = rows.std(0, correction=0)
    floor = 0.1 * spread[spread > 0].median()
    torch.testing.assert_close(bank.deviation_F[:2], floor.expand(2))
    torch.testing.assert_close(bank.deviation_F[2:], spread[2:])
    standardised = bank.standardised()
    assert standardised[:, :2].abs().max() < 1e-3


def test_outliers_are_clipped_to_5() -> None:
    rows = torch.zeros(100, 512)
    rows[3] = 1.0
    assert MetadataBank.of(rows).standardised().max() == 5


def test_equal_pictures_give_zeros() -> None:
    assert torch.equal(MetadataBank.of(torch.ones(5, 512)).standardised(), torch.zeros(5, 512))


def test_a_mix_keeps_the_variance_of_a_row() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2000, 512).unbind(0)[0], torch.randn(512)
    torch.testing.assert_close(mixed(a[None], b[None], torch.ones(1))[0], a)
    torch.testing.assert_close(mixed(a[None], b[None], torch.zeros(1))[0], b)
    many = mixed(torch.randn(2000, 512), torch.randn(2000, 512), torch.rand(2000))
    assert many.var().item() == pytest.approx(1, abs=0.01)
    half = mixed(a[None], b[None], torch.tensor([0.5]))[0]
    torch.testing.assert_close(half, (a + b) / 2**0.5)


def show_metadata(generator: Generator) -> None:
    """Let the projection hand on the first 256 of the 512 features as they are."""
    assert generator.metadata is not None
    with torch.no_grad():
        generator.metadata.weight.copy_(torch.eye(LATENT, 512))
        generator.metadata.bias.zero_()


@pytest.fixture(scope="module")
def sampled() -> DeployedGenerator:
    """Of 40 pictures' metadata, which it adds to the noise unchanged."""
    config = SlaeganConfig(resolution=64, width=0.125)
    generator = Generator(config, spectral=False)
    show_metadata(generator)
    rows = torch.randn(40, 512, generator=torch.Generator().manual_seed(0))
    return DeployedGenerator(generator.eval(), config=config, bank=MetadataBank.of(rows))


def added(sampled: DeployedGenerator, *, count: int, latents: Source) -> Tensor:
    """What each latent got beside its noise, which is the same from every source."""
    indices = list(range(count))
    with torch.no_grad():
        latent = sampled.draw(indices, seed=3, latents=latents).latent_NZ
        noise = sampled.draw(indices, seed=3, latents="plain").latent_NZ
    return latent - noise


def test_bank_draws_are_rows_all_equally_often(sampled: DeployedGenerator) -> None:
    assert sampled.bank is not None
    rows = sampled.bank.standardised()[:, :LATENT]
    drawn = added(sampled, count=2000, latents="bank")
    distance = torch.cdist(drawn, rows, compute_mode="donot_use_mm_for_euclid_dist")
    assert distance.min(dim=1).values.max() < 1e-3
    counts = distance.argmin(dim=1).bincount(minlength=40)
    chi_squared = ((counts - 50) ** 2 / 50).sum().item()
    # 39 degrees of freedom: below 80 but for one seed in ten thousand; far below 10 would be no chance either.
    assert 10 < chi_squared < 80


def test_mixed_draws_have_the_mean_and_variance_of_rows(sampled: DeployedGenerator) -> None:
    drawn = added(sampled, count=2000, latents="mix")
    # All rows sum to zero, so two of them, now and then the same one, are uncorrelated on average.
    assert drawn.mean().item() == pytest.approx(0, abs=0.01)
    assert drawn.var().item() == pytest.approx(1, abs=0.03)


def test_in_training_row_k_gets_the_metadata_of_picture_k_but_for_the_dropped() -> None:
    config = SlaeganConfig(resolution=64, width=0.125, decoders=False, metadata_dropout=0.2)
    cpu = torch.device("cpu")
    networks = build_networks(config, device=cpu)
    generator = networks["generator"]
    assert isinstance(generator, Generator)
    show_metadata(generator)
    bank = MetadataBank.of(torch.randn(40, 512, generator=torch.Generator().manual_seed(0)))
    family = Slaegan(
        config,
        networks=networks,
        setting=Setting(bank=bank, dtype=torch.float32, device=cpu, micro_batch=config.batch),
    )
    rows = torch.arange(4000) % 40
    with torch.no_grad():
        latents = family._draw_latents(rows)
        given = latents.latent(generator) - latents.noise_NZ
    dropped = (given == 0).all(dim=1)
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=0.032)  # 5 standard deviations
    expected = bank.standardised()[rows, :LATENT]
    torch.testing.assert_close(given[~dropped], expected[~dropped], atol=1e-5, rtol=0)


def test_rows_are_the_spatial_mean_of_relu5_3(images_dir: Path, cache_dir: Path, weights_dir: Path) -> None:
    bank = load_bank(
        images_dir,
        fit="crop",
        cache_dir=cache_dir,
        dataset_hash="six-drawn-pictures",
        weights_dir=weights_dir,
        device=torch.device("cpu"),
        dtype=torch.float32,
        check_stop=never,
    )
    path = sorted(images_dir.iterdir())[2]
    picture = Image.open(path).convert("RGB")
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    square = picture.resize((224, 224), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
    pixels = (
        torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1)
    )
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    features = vgg16_features(weights_dir)(((pixels / 255 - mean) / deviation)[None])[0].mean(dim=(1, 2))
    assert bank.rows_MF.shape == (6, 512)
    torch.testing.assert_close(bank.rows_MF[2], features, atol=1e-4, rtol=1e-4)


def test_the_cache_is_read_and_a_damaged_one_made_again(
    images_dir: Path, tmp_path: Path, weights_dir: Path
) -> None:
    def load(fit: Fit = "crop") -> MetadataBank:
        return load_bank(
            images_dir,
            fit=fit,
            cache_dir=tmp_path,
            dataset_hash="x",
            weights_dir=weights_dir,
            device=torch.device("cpu"),
            dtype=torch.bfloat16,
            check_stop=never,
        )

    first = load()
    (cached,) = tmp_path.iterdir()
    assert torch.equal(load_file(cached)["rows"], first.rows_MF)
    cached.write_bytes(cached.read_bytes()[:100])
    assert torch.equal(load().rows_MF, first.rows_MF)
    assert torch.equal(load_file(cached)["rows"], first.rows_MF)
    assert not torch.equal(load("squash").rows_MF, first.rows_MF)
    assert torch.equal(load().rows_MF, first.rows_MF)
