from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from core.models.dcgan import Discriminator, Generator, PixelNorm, channels_by_side, norm_layer
from core.schemas.dcgan import DcganConfig

if TYPE_CHECKING:
    from core.schemas.dcgan import ConvolutionalConfig


def small(**fields: Any) -> ConvolutionalConfig:
    resolution = fields.pop("resolution", 64)
    return DcganConfig(**{"width": 4} | fields).model_copy(update={"resolution": resolution})


def test_the_papers_generator() -> None:
    """Fig. 1: 1024, 512, 256 and 128 channels at 4 to 32 pixels, 100 latent numbers."""
    assert channels_by_side(64, width=128) == {32: 128, 16: 256, 8: 512, 4: 1024}
    with torch.device("meta"):
        network = Generator(DcganConfig(width=128))
    kernels = [
        layer.weight.shape for layer in network.modules() if isinstance(layer, nn.Linear | nn.ConvTranspose2d)
    ]
    assert kernels == [
        *((1024 * 16, 100), (1024, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 3, 4, 4)),
    ]


@pytest.mark.parametrize(("resolution", "channels"), [(16, 16), (32, 16), (64, 3), (128, 3)])
def test_shapes(resolution: int, channels: int) -> None:
    config = small(resolution=resolution, latent_size=7)
    generator, discriminator = (
        Generator(config, channels=channels),
        Discriminator(config, channels=channels),
    )
    pictures = generator.render(torch.randn(2, 7), [])
    assert pictures.shape == (2, channels, resolution, resolution)
    assert pictures.abs().max() <= 1
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    logits_NK, features_NCHW, decoded = discriminator(pictures)
    assert logits_NK.shape == (2, 1)
    assert features_NCHW.shape[2:] == (4, 4)
    assert decoded == ()
    assert generator.noise_sides() == []


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "pixel", "none"])
def test_first_and_last_maps_are_not_normalised(norm: str) -> None:
    """A picture through D: two maps of four are normalised at 32 pixels; G's start and middle are."""
    config = small(resolution=32, discriminator_norm=norm)
    kinds = (nn.BatchNorm2d, nn.GroupNorm, PixelNorm)
    discriminator = Discriminator(config)
    normalised = [[isinstance(layer, kinds) for layer in block] for block in discriminator.blocks]  # type: ignore[attr-defined]
    assert normalised == [[False, False], *[[False, norm != "none", False]] * 2]
    assert isinstance(discriminator.head, nn.Conv2d)


@pytest.mark.parametrize("norm", ["instance", "layer", "pixel", "none"])
def test_without_batch_normalisation_a_critic_judges_each_picture_by_itself(norm: str) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(small(discriminator_norm=norm))
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    together = discriminator(pictures).logits_NK
    alone = torch.cat([discriminator(picture[None]).logits_NK for picture in pictures])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_with_batch_normalisation_it_does_not() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(small())
    pictures = torch.rand(3, 3, 64, 64) * torch.tensor([0.1, 0.5, 1.0])[:, None, None, None]
    together = discriminator(pictures).logits_NK
    pair = discriminator(pictures[:2]).logits_NK
    assert not torch.allclose(together[:2], pair, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_every_parameter_gets_a_gradient(norm: str) -> None:
    torch.manual_seed(0)
    config = small(discriminator_norm=norm, generator_norm="batch" if norm == "batch" else "none")
    generator, discriminator = Generator(config), Discriminator(config)
    discriminator(generator(torch.randn(4, 100))).logits_NK.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_kernels_begin_as_the_paper_says() -> None:
    torch.manual_seed(0)
    for network in (Generator(DcganConfig(width=16)), Discriminator(DcganConfig(width=16))):
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 4_000:
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert layer.weight.mean().item() == pytest.approx(0, abs=0.001)


def test_instance_and_layer_norm_are_what_their_names_say() -> None:
    x_NCHW = torch.randn(3, 4, 5, 5) * 3 + 1
    instance, layer = norm_layer("instance", 4)(x_NCHW), norm_layer("layer", 4)(x_NCHW)
    torch.testing.assert_close(instance, nn.InstanceNorm2d(4)(x_NCHW))
    torch.testing.assert_close(layer, nn.functional.layer_norm(x_NCHW, x_NCHW.shape[1:]))


def test_pixel_norm_gives_every_position_unit_mean_square() -> None:
    normed = PixelNorm()(torch.randn(2, 6, 3, 3) * 5)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(2, 3, 3))


def test_truncation_scales_the_latent() -> None:
    torch.manual_seed(0)
    generator, latent = Generator(small()).eval(), torch.randn(2, 100)
    assert torch.equal(generator.render(latent, [], truncation=0.5), generator.render(latent * 0.5, []))
    assert torch.equal(generator.render(latent, [], truncation=0.0)[0], generator.render(latent * 0, [])[1])


def test_first_parts_are_nearest_to_the_picture() -> None:
    discriminator = Discriminator(small())
    first, second = discriminator.first_parts(2)
    assert first is discriminator.blocks[0]
    assert second is discriminator.blocks[1]
    assert len(discriminator.first_parts(6)) == 4
