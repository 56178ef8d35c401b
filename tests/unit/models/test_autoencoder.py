from __future__ import annotations

import pytest
import torch
from torch import nn

from core.models.autoencoder import (
    CODE_CHANNELS,
    Decoder,
    DecodingGenerator,
    Encoder,
    PictureDiscriminator,
)
from core.models.dcgan import Generator
from core.schemas.dcgan import DcganConfig


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("side", [32, 64])
def test_one_encoder_serves_every_size(factor: int, side: int) -> None:
    pictures = torch.rand(2, 3, side, side) * 2 - 1
    codes = Encoder(factor=factor, channels=4)(pictures)
    assert codes.shape == (2, CODE_CHANNELS, side // factor, side // factor)
    assert codes.detach().abs().max() <= 1
    decoded = Decoder(factor=factor, channels=4)(codes)
    assert decoded.shape == pictures.shape
    assert decoded.detach().abs().max() <= 1


def test_other_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="1/6"):
        Encoder(factor=6, channels=4)


def test_there_is_no_normalisation_in_what_codes_pass() -> None:
    """Section 3.3: none is used; and with it a picture's code would depend on its size."""
    known = (nn.Conv2d, nn.ConvTranspose2d, nn.LeakyReLU)
    for network in (Encoder(factor=8, channels=4), Decoder(factor=8, channels=4)):
        leaves = [layer for layer in network.modules() if not list(layer.children())]
        assert all(isinstance(layer, known) for layer in leaves)


def test_the_signal_keeps_its_size_at_the_start() -> None:
    """Neither dead codes nor codes that the tanh has flattened."""
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 64, 64) * 2 - 1
    for factor in (4, 16):
        codes = Encoder(factor=factor, channels=32)(pictures)
        assert 0.1 < codes.std() < 0.9
        assert (codes.abs() > 0.99).float().mean() < 0.3


def test_a_place_of_a_code_depends_on_its_surroundings_alone() -> None:
    """Fully convolutional: a crop in the middle has the codes of the whole picture, away from its edges."""
    torch.manual_seed(0)
    encoder = Encoder(factor=4, channels=4).double()
    picture = torch.rand(1, 3, 128, 128, dtype=torch.float64) * 2 - 1
    whole, part = encoder(picture), encoder(picture[:, :, 32:96, 32:96])
    torch.testing.assert_close(whole[:, :, 14:18, 14:18], part[:, :, 6:10, 6:10])


def test_the_picture_discriminator_judges_places() -> None:
    judge = PictureDiscriminator(channels=4)
    assert judge(torch.rand(2, 3, 64, 64)).shape == (2, 64)
    assert judge(torch.rand(2, 3, 128, 128)).shape == (2, 256)


def test_a_decoding_generator_is_its_pair_and_then_the_decoder() -> None:
    config = DcganConfig(width=4, latent_size=8).model_copy(update={"resolution": 16})
    generator = DecodingGenerator(Generator(config, channels=CODE_CHANNELS), factor=4, channels=4).eval()
    assert (generator.resolution, generator.latent_size) == (64, 8)
    noise = torch.randn(3, 8)
    codes = generator.pair.render(noise, [], truncation=0.5)
    assert codes.shape == (3, CODE_CHANNELS, 16, 16)
    torch.testing.assert_close(generator.render(noise, [], truncation=0.5), generator.decoder(codes))
    assert generator.measured() is generator.pair
