from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.stylegan2 import Discriminator, Generator, channels_at
from core.models.stylegan2_layers import (
    Blur,
    EqualConv2d,
    EqualLinear,
    ModulatedConv2d,
    StyledConv2d,
    ToPicture,
    minibatch_deviation,
    normalised,
)
from core.schemas.stylegan2 import Stylegan2Config


def tiny(**changes: object) -> Stylegan2Config:
    fields = {"resolution": 64, "channel_base": 256, "channel_max": 8, "latent_size": 8, "mapping_layers": 2}
    return Stylegan2Config.model_validate(fields | changes)


def random_planes(generator: Generator, count: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(count, 1, side, side, dtype=dtype) for side in generator.noise_sides()]


def loud(generator: Generator) -> None:
    """Noise and biases that are not zero, as in a trained generator."""
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, StyledConv2d):
                module.strength.fill_(0.3)
                module.bias.normal_()


@pytest.mark.parametrize("resolution", [64, 128, 256, 512, 1024])
def test_shapes_on_the_meta_device(resolution: int) -> None:
    config = tiny(resolution=resolution)
    with torch.device("meta"):
        generator, discriminator = Generator(config), Discriminator(config)
        latent = torch.randn(2, config.latent_size)
        pictures = generator.render(latent, random_planes(generator, 2), truncation=0.5)
        judged = discriminator(pictures)
    assert pictures.shape == (2, 3, resolution, resolution)
    assert judged.logits_NK.shape == (2, 1)
    assert judged.features_NCHW.shape == (2, channels_at(4, config=config), 4, 4)
    assert generator.styled_places == 2 * int(math.log2(resolution)) - 2
    assert len(generator.noise_sides()) == generator.styled_places - 1
    assert discriminator.first_parts(3) == [discriminator.stem, *discriminator.blocks[:2]]


@pytest.mark.parametrize("side", [16, 32])
def test_codes_of_16_channels(side: int) -> None:
    config = tiny().model_copy(update={"resolution": side})
    generator, discriminator = Generator(config, channels=16), Discriminator(config, channels=16)
    codes = generator.render(torch.randn(2, 8), random_planes(generator, 2))
    assert codes.shape == (2, 16, side, side)
    assert discriminator(codes).logits_NK.shape == (2, 1)


def test_parameters_are_the_published_codes() -> None:
    """Configuration F at 1024, of which the published code's log gives these sums; there with 2 mapping layers."""
    config = Stylegan2Config(
        resolution=1024, channel_base=32_768, channel_max=512, latent_size=512, mapping_layers=2
    )
    with torch.device("meta"):
        generator, discriminator = Generator(config), Discriminator(config)
    assert sum(p.numel() for p in generator.parameters()) == 28_794_124
    assert sum(p.numel() for p in discriminator.parameters()) == 29_012_513


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_in_every_parameter(dtype: torch.dtype, classes: int) -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(tiny(), classes=classes), Discriminator(tiny(), classes=classes)
    labels = torch.tensor([0, 1, 2, 1]) if classes else None
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        pictures = generator.render(torch.randn(4, 8), random_planes(generator, 4), labels_N=labels)
        logits = discriminator(pictures, labels).logits_NK
    assert pictures.dtype == logits.dtype == torch.float32
    logits.square().mean().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_every_map_stays_channels_last_and_in_autocasts_type() -> None:
    generator, discriminator = Generator(tiny()), Discriminator(tiny())
    seen = []
    for block in [*generator.convs, *generator.ups, *discriminator.blocks, discriminator.stem]:
        block.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    with torch.autocast("cpu", torch.bfloat16):
        discriminator(generator.render(torch.randn(2, 8), random_planes(generator, 2)))
    assert len(seen) == 14
    for features in seen:
        assert features.dtype == torch.bfloat16
        assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("up", [False, True])
def test_modulation_is_a_convolution_of_each_picture_with_a_kernel_of_its_own(up: bool) -> None:  # noqa: FBT001
    torch.manual_seed(0)
    layer = ModulatedConv2d(5, 6, style=4, up=up).double()
    x, style = torch.randn(3, 5, 8, 8, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    maps, factor = layer(x, style)
    scale = layer.affine(style)
    weight = layer.weight / math.sqrt(5 * 9)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    blur = (torch.outer(taps, taps) / 16).expand(6, 1, -1, -1)
    for n in range(3):
        kernel = (weight.transpose(0, 1) if up else weight) * scale[n][None, :, None, None]
        kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            spread = F.conv_transpose2d(x[n : n + 1], kernel.transpose(0, 1), stride=2)
            expected = F.conv2d(spread, blur, padding=1, groups=6)
        else:
            expected = F.conv2d(x[n : n + 1], kernel, padding=1)
        torch.testing.assert_close(maps[n : n + 1] * factor[n][None, :, None, None], expected)


def test_demodulated_maps_keep_unit_deviation() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(32, 32, style=4)
    maps, factor = layer(torch.randn(8, 32, 16, 16), 3 * torch.randn(8, 4))
    inner = (maps * factor[:, :, None, None])[:, :, 1:-1, 1:-1]
    assert inner.std().item() == pytest.approx(1, abs=0.05)


def test_a_layers_gain_noise_and_bias() -> None:
    torch.manual_seed(0)
    layer = StyledConv2d(4, 4, style=4).double()
    with torch.no_grad():
        layer.strength.fill_(0.7)
        layer.bias.normal_()
    x, style = torch.randn(2, 4, 8, 8, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    plane = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    maps, factor = layer.conv(x, style)
    before = maps * factor[:, :, None, None] + 0.7 * plane + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, style, plane), math.sqrt(2) * F.leaky_relu(before, 0.2))


def test_to_picture_is_a_modulated_1x1_convolution() -> None:
    torch.manual_seed(0)
    layer = ToPicture(5, 3, style=4)
    x, style = torch.randn(2, 5, 8, 8).contiguous(memory_format=torch.channels_last), torch.randn(2, 4)
    scaled = x * layer.affine(style)[:, :, None, None]
    expected = F.conv2d(scaled, layer.weight[:, :, None, None] / math.sqrt(5), layer.bias)
    torch.testing.assert_close(layer(x, style), expected)


def test_equalised_learning_rate() -> None:
    torch.manual_seed(0)
    slow = EqualLinear(200, 300, rate=0.01, gain=2.0, bias=0.5)
    assert slow.weight.std().item() == pytest.approx(100, rel=0.02)
    out = slow(torch.randn(200, 200))
    assert out.std().item() == pytest.approx(2, rel=0.03)
    assert out.mean().item() == pytest.approx(1, abs=0.1)
    # A step of the weight moves the output by a hundredth of what it does at the full rate.
    full = EqualLinear(200, 300, gain=2.0)
    x = torch.randn(1, 200)
    (slow_slope,) = torch.autograd.grad(slow(x).sum(), slow.weight)
    (full_slope,) = torch.autograd.grad(full(x).sum(), full.weight)
    torch.testing.assert_close(slow_slope, full_slope / 100)


def test_blur_preserves_the_mean() -> None:
    blur = Blur(2).double()
    flat = torch.full((1, 2, 12, 12), 3.0, dtype=torch.float64)
    assert blur.kernel.sum(dim=(1, 2, 3)).tolist() == [1.0, 1.0]
    inner = slice(2, -2)
    for out in (blur(flat, padding=2), blur(flat, padding=1, stride=2), blur.up(flat)):
        torch.testing.assert_close(out[:, :, inner, inner], torch.full_like(out[:, :, inner, inner], 3.0))
    dot = torch.zeros(1, 2, 12, 12, dtype=torch.float64)
    dot[:, :, 6, 6] = 1
    assert blur(dot, padding=2).sum(dim=(2, 3)).tolist() == [[1.0, 1.0]]
    assert blur.up(dot).mean(dim=(2, 3)).tolist() == dot.mean(dim=(2, 3)).tolist()


@pytest.mark.parametrize("kernel", [1, 3])
def test_halving_blurs_first(kernel: int) -> None:
    torch.manual_seed(0)
    layer = EqualConv2d(2, 3, kernel, down=True)
    x = torch.randn(1, 2, 8, 8)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    blurred = F.conv2d(
        x, torch.outer(taps, taps).expand(2, 1, -1, -1), padding=2 if kernel == 3 else 1, groups=2
    )
    expected = F.conv2d(blurred, layer.weight / math.sqrt(2 * kernel**2), layer.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("count", "together"), [(8, 4), (6, 3), (3, 3), (7, 7), (1, 1)])
def test_minibatch_deviation_against_loops(count: int, together: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(count, 3, 4, 4)
    out = minibatch_deviation(x)
    assert torch.equal(out[:, :3], x)
    groups = count // together
    for n in range(count):
        group = [x[m] for m in range(count) if m % groups == n % groups]
        assert len(group) == together
        mean = sum(group) / together
        variance = sum((one - mean) ** 2 for one in group) / together
        expected = (variance + 1e-8).sqrt().mean()
        torch.testing.assert_close(out[n, 3], expected.expand(4, 4))


def test_normalised_latents_have_mean_square_one() -> None:
    torch.testing.assert_close(normalised(5 * torch.randn(3, 64)).square().mean(dim=1), torch.ones(3))


def test_truncation_draws_styles_to_the_mean() -> None:
    torch.manual_seed(0)
    generator = Generator(tiny())
    latent, planes = torch.randn(4, 8), random_planes(generator, 4)
    styles = generator.styles(latent)
    generator.follow(styles, decay=0)
    torch.testing.assert_close(generator.mean_style, styles.mean(dim=0))
    torch.testing.assert_close(
        generator.truncated(styles, 0.5), (styles + styles.mean(dim=0, keepdim=True)) / 2
    )
    assert torch.equal(generator.truncated(styles, 1), styles)
    mean_alone = generator.render(latent, [plane[:1].expand(4, -1, -1, -1) for plane in planes], truncation=0)
    torch.testing.assert_close(mean_alone, mean_alone[:1].expand_as(mean_alone))
    assert not torch.allclose(generator.render(latent, planes), mean_alone, atol=1e-2)


def test_one_picture_is_as_one_of_many() -> None:
    torch.manual_seed(0)
    generator = Generator(tiny())
    loud(generator)
    latent, planes = torch.randn(8, 8), random_planes(generator, 8)
    many = generator.render(latent, planes)
    for n in (0, 5):
        one = generator.render(latent[n : n + 1], [plane[n : n + 1] for plane in planes])
        torch.testing.assert_close(one, many[n : n + 1], atol=1e-4, rtol=0)


def test_noise_is_silent_at_first_and_heard_once_it_is_learned() -> None:
    torch.manual_seed(0)
    generator = Generator(tiny())
    latent, some, others = torch.randn(2, 8), random_planes(generator, 2), random_planes(generator, 2)
    assert torch.equal(generator.render(latent, some), generator.render(latent, others))
    loud(generator)
    for changed in range(len(some)):
        planes = [
            other if n == changed else one for n, (one, other) in enumerate(zip(some, others, strict=True))
        ]
        assert not torch.equal(generator.render(latent, some), generator.render(latent, planes))


def test_labels_matter_and_are_asked_for() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(tiny(), classes=2), Discriminator(tiny(), classes=2)
    latent, planes = torch.randn(1, 8), random_planes(generator, 1)
    zero, one = (generator.render(latent, planes, labels_N=torch.tensor([n])) for n in range(2))
    assert not torch.allclose(zero, one)
    logits = [discriminator(zero, torch.tensor([n])).logits_NK for n in range(2)]
    assert not torch.allclose(*logits)
    with pytest.raises(ValueError, match="labels"):
        generator.render(latent, planes)
    with pytest.raises(ValueError, match="labels"):
        discriminator(zero)


def test_second_derivatives() -> None:
    """R1 and path length differentiate gradients: checked against differences in float64."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    style = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    plane = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    down, short = EqualConv2d(2, 2, 3, down=True).double(), EqualConv2d(2, 2, 1, down=True).double()
    same, up = StyledConv2d(2, 2, style=3).double(), ModulatedConv2d(2, 2, style=3, up=True).double()
    blur, to_picture = Blur(2).double(), ToPicture(2, 3, style=3).double()
    batch = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def enlarged(x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        maps, factor = up(x, style)
        return maps * factor[:, :, None, None]

    assert torch.autograd.gradgradcheck(lambda x: F.leaky_relu(down(x), 0.2), (x,))
    assert torch.autograd.gradgradcheck(short, (x,))
    assert torch.autograd.gradgradcheck(blur.up, (x,))
    assert torch.autograd.gradgradcheck(lambda x, style: same(x, style, plane), (x, style))
    assert torch.autograd.gradgradcheck(enlarged, (x, style))
    assert torch.autograd.gradgradcheck(to_picture, (x, style))
    assert torch.autograd.gradgradcheck(minibatch_deviation, (batch,))
