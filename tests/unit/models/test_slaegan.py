from __future__ import annotations

import pytest
import torch

from core.models.slaegan import LATENT, METADATA, Discriminator, Generator, crop_quadrant, excitation_pairs
from core.schemas.slaegan import SlaeganConfig


def tiny(**changes: object) -> SlaeganConfig:
    return SlaeganConfig.model_validate({"resolution": 64, "width": 0.125} | changes)


@pytest.mark.parametrize(("resolution", "small"), [(64, 32), (128, 64), (256, 128), (512, 128), (1024, 128)])
def test_shapes_on_the_meta_device(resolution: int, small: int) -> None:
    config = tiny(resolution=resolution)
    with torch.device("meta"):
        generator, discriminator = Generator(config), Discriminator(config)
        latent = generator.latent(torch.randn(2, LATENT), torch.randn(2, METADATA))
        full, low = generator(latent, generator.draw_noises(latent, generator=None))
        judged = discriminator(full, low, quadrant=3)
    assert full.shape == (2, 3, resolution, resolution)
    assert low.shape == (2, 3, small, small)
    assert judged.logits_NK.shape == (2, 50)
    assert [picture.shape for picture in judged.decoded] == [(2, 3, small, small)] * 3


def test_excitation_pairs_are_fastgans_from_256() -> None:
    assert excitation_pairs(64) == {16: 4, 32: 8, 64: 16}
    assert excitation_pairs(128) == {32: 4, 64: 8, 128: 16}
    assert excitation_pairs(256) == {64: 4, 128: 8, 256: 16}
    assert excitation_pairs(1024) == {64: 4, 128: 8, 256: 16, 512: 32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_in_every_parameter(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(tiny()), Discriminator(tiny())
    latent = generator.latent(torch.randn(4, LATENT), torch.randn(4, METADATA)).to(dtype)
    full, small = generator(latent, generator.draw_noises(latent, generator=None))
    judged = discriminator(full, small, quadrant=0)
    loss = judged.logits_NK.float().square().mean()
    (loss + sum(picture.float().square().mean() for picture in judged.decoded)).backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_everything_stays_channels_last_and_in_type() -> None:
    torch.manual_seed(0)
    generator = Generator(tiny())
    seen = []
    for block in [generator.start_glu, *generator.blocks.values(), *generator.excitations.values()]:
        block.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    latent = torch.randn(2, LATENT).to(torch.bfloat16)
    generator(latent, generator.draw_noises(latent, generator=None))
    assert len(seen) == 8
    for features in seen:
        assert features.dtype == torch.bfloat16
        assert features.is_contiguous(memory_format=torch.channels_last)


def test_dropped_metadata_leaves_the_noise_alone() -> None:
    generator = Generator(tiny())
    noise, metadata = torch.randn(3, LATENT), torch.randn(3, METADATA)
    latent = generator.latent(noise, metadata, kept_N=torch.tensor([1.0, 0.0, 1.0]))
    assert torch.equal(latent[1], noise[1])
    assert generator.metadata is not None
    torch.testing.assert_close(latent[0], noise[0] + generator.metadata(metadata)[0])


def test_quadrants_are_counted_row_by_row() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    corners = [int(crop_quadrant(picture, quadrant)[0, 0, 0, 0]) for quadrant in range(4)]
    assert corners == [0, 2, 8, 10]


def test_tanh_can_be_left_to_1024_as_published() -> None:
    latent = torch.randn(2, LATENT)
    for config, bounded in ((tiny(), True), (tiny(output_tanh=False), False)):
        torch.manual_seed(0)
        generator = Generator(config)
        with torch.no_grad():
            generator.to_full.weight.mul_(1e4)
            generator.to_full.spectral = False
            full, _ = generator(latent, generator.draw_noises(latent, generator=None))
        assert bool((full.abs() <= 1).all()) is bounded
