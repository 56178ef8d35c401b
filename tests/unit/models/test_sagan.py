"""SAGAN's networks against torch's own layers and the papers' formulas, in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.layers import SpectralConv2d
from core.models.sagan import LATENT, ConditionalNorm, Discriminator, Generator, channels_at
from core.models.self_attention import SelfAttention
from core.schemas.sagan import SaganConfig


def tiny(**fields: Any) -> SaganConfig:
    return SaganConfig.model_validate({"resolution": 64, "width": 0.125} | fields)


def settled(network: nn.Module) -> None:
    """In float64 and evaluation mode, every layer's power iteration at its end, no offset or gamma at zero."""
    network.double().eval()
    for name, parameter in network.named_parameters():
        if name.endswith(("bias", "gamma", "gain.weight", "offset.weight")):
            nn.init.normal_(parameter, 0.5, 0.5)
    for layer in network.modules():
        if isinstance(layer, SpectralConv2d):
            layer.iterate(500)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)


def kernel(layer: nn.Module) -> Tensor:
    """A layer's weight divided by its largest singular value, as a decomposition finds it."""
    assert isinstance(layer, SpectralConv2d)
    return layer.weight / torch.linalg.matrix_norm(layer.weight.flatten(1), 2)


def bias(layer: nn.Module) -> Tensor:
    found = layer.bias
    assert isinstance(found, Tensor)
    return found


def normed(layer: nn.Module, x: Tensor, labels_N: Tensor) -> Tensor:
    """Conditional batch normalisation, one picture after the other."""
    assert isinstance(layer, ConditionalNorm)
    assert layer.gain is not None
    assert layer.offset is not None
    rows = [
        F.batch_norm(
            x[row : row + 1],
            layer.norm.running_mean,
            layer.norm.running_var,
            weight=layer.gain.weight[label],
            bias=layer.offset.weight[label],
        )
        for row, label in enumerate(labels_N.tolist())
    ]
    return torch.cat(rows)


def rendered(network: Generator, latent_NZ: Tensor, labels_N: Tensor) -> Tensor:
    """What Fig. 14 (a) and (c) of Miyato & Koyama say, with the attention between."""
    x = F.linear(latent_NZ, kernel(network.start).flatten(1), bias(network.start))
    x = x.view(len(labels_N), 4, 4, -1).permute(0, 3, 1, 2)
    for side, block in network.blocks.items():
        get = block.get_submodule
        main = F.interpolate(F.relu(normed(get("norm_up"), x, labels_N)), scale_factor=2)
        main = F.conv2d(main, kernel(get("up")), padding=1)
        main = F.relu(normed(get("norm_conv"), main, labels_N))
        main = F.conv2d(main, kernel(get("conv")), bias(get("conv")), padding=1)
        x = main + F.conv2d(F.interpolate(x, scale_factor=2), kernel(get("short")))
        x = network.attention(x) if side == "32" else x
    x = F.relu(network.norm(x))
    return torch.tanh(F.conv2d(x, kernel(network.to_picture), bias(network.to_picture), padding=1))


def judged(network: Discriminator, x: Tensor, labels_N: Tensor) -> Tensor:
    """What Fig. 14 (b) and Eq. 11 of Miyato & Koyama say, with the attention between; N logits."""
    blocks = list(network.parts)
    for number, block in enumerate(blocks):
        if isinstance(block, SelfAttention):
            x = block(x)
            continue
        get = block.get_submodule
        main = F.conv2d(F.relu(x) if number else x, kernel(get("conv")), bias(get("conv")), padding=1)
        main = F.conv2d(F.relu(main), kernel(get("down")), bias(get("down")), padding=1)
        last = number == len(blocks) - 1
        x = main + x if last else F.avg_pool2d(main + F.conv2d(x, kernel(get("short"))), 2)
    features = F.relu(x)
    assert network.projection is not None
    logits = []
    for row, label in enumerate(labels_N.tolist()):
        phi = features[row].sum(dim=(1, 2))
        psi = kernel(network.head).flatten() @ phi + bias(network.head)[0]
        logits.append(kernel(network.projection).flatten(1)[label] @ phi + psi)
    return torch.stack(logits)


def test_the_generator_is_the_papers() -> None:
    torch.manual_seed(0)
    network = Generator(tiny(), classes=3)
    settled(network)
    latent_NZ, labels_N = torch.randn(2, LATENT, dtype=torch.float64), torch.tensor([2, 0])
    mine = network.render(latent_NZ, labels_N=labels_N)
    assert mine.shape == (2, 3, 64, 64)
    assert mine.detach().std() > 0.1
    torch.testing.assert_close(mine, rendered(network, latent_NZ, labels_N), rtol=0, atol=1e-7)


def test_the_discriminator_is_the_papers() -> None:
    torch.manual_seed(0)
    network = Discriminator(tiny(), classes=3)
    settled(network)
    pictures = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 2 - 1
    labels_N = torch.tensor([1, 2])
    mine = network(pictures, labels_N)
    theirs = judged(network, pictures, labels_N)
    torch.testing.assert_close(mine.logits_NK[:, 0], theirs, rtol=1e-7, atol=1e-7)
    assert mine.features_NCHW.shape[2:] == (4, 4)


def test_the_projection_is_all_that_a_label_changes() -> None:
    """y^T V phi: between two classes the logit moves by the difference of their rows, times the features."""
    torch.manual_seed(0)
    network = Discriminator(tiny(), classes=4)
    settled(network)
    pictures = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 2 - 1
    first, second = (network(pictures, torch.tensor(labels)) for labels in ([0, 1], [3, 1]))
    assert network.projection is not None
    rows = kernel(network.projection).flatten(1)
    moved = (second.logits_NK - first.logits_NK)[:, 0]
    expected = (rows[3] - rows[0]) @ first.features_NCHW[0].sum(dim=(1, 2))
    torch.testing.assert_close(
        moved, torch.stack([expected, torch.zeros_like(expected)]), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("training", [True, False])
def test_conditional_normalisation_is_a_norm_with_each_classs_weights(*, training: bool) -> None:
    torch.manual_seed(0)
    layer = ConditionalNorm(5, classes=3).double().train(training)
    assert layer.gain is not None
    assert layer.offset is not None
    assert torch.equal(layer.gain.weight, torch.ones_like(layer.gain.weight))
    assert torch.equal(layer.offset.weight, torch.zeros_like(layer.offset.weight))
    nn.init.normal_(layer.gain.weight)
    nn.init.normal_(layer.offset.weight)
    x, labels_N = torch.randn(6, 5, 3, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    of_class = []
    for label in range(3):
        plain = nn.BatchNorm2d(5).double().train(training)
        plain.load_state_dict(
            layer.norm.state_dict() | {"weight": layer.gain.weight[label], "bias": layer.offset.weight[label]}
        )
        of_class.append(plain(x))
    expected = torch.stack([of_class[label][row] for row, label in enumerate(labels_N.tolist())])
    torch.testing.assert_close(layer(x, labels_N), expected, rtol=0, atol=1e-12)


def test_without_classes_labels_are_not_looked_at() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(tiny()).eval(), Discriminator(tiny()).eval()
    latent_NZ, labels_N = torch.randn(2, LATENT), torch.tensor([0, 1])
    pictures = generator.render(latent_NZ)
    assert torch.equal(pictures, generator.render(latent_NZ, labels_N=labels_N))
    logits_NK = discriminator(pictures).logits_NK
    assert logits_NK.shape == (2, 1)
    assert torch.equal(logits_NK, discriminator(pictures, labels_N).logits_NK)


def test_a_conditional_network_needs_labels() -> None:
    with pytest.raises(ValueError, match="label"):
        Generator(tiny(), classes=2).render(torch.randn(2, LATENT))
    with pytest.raises(ValueError, match="label"):
        Discriminator(tiny(), classes=2)(torch.randn(2, 3, 64, 64))


def test_truncation_shortens_the_latents() -> None:
    torch.manual_seed(0)
    network = Generator(tiny()).eval()
    latent_NZ = torch.randn(2, LATENT)
    assert torch.equal(network.render(latent_NZ, truncation=0.5), network.render(latent_NZ * 0.5))


@pytest.mark.parametrize(
    ("resolution", "side", "channels"), [(16, 32, 16), (32, 32, 16), (64, 64, 3), (128, 16, 3)]
)
def test_sizes_and_sides_of_attention(resolution: int, side: int, channels: int) -> None:
    """The map that is attended to has the side asked for, or the nearest there is; codes have 16 channels."""
    config = tiny().model_copy(update={"resolution": resolution, "attention_side": side})
    generator, discriminator = Generator(config, channels=channels), Discriminator(config, channels=channels)
    seen: dict[str, int] = {}
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        (attention,) = [layer for layer in network.modules() if isinstance(layer, SelfAttention)]
        attention.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].shape[2]}))
    pictures = generator.render(torch.randn(2, generator.latent_size), [])
    assert pictures.shape == (2, channels, resolution, resolution)
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert pictures.detach().abs().max() <= 1
    assert discriminator(pictures).logits_NK.shape == (2, 1)
    assert seen == {"generator": min(side, resolution), "discriminator": min(side, resolution // 2)}
    assert generator.noise_sides() == []


def test_the_channels_are_the_papers_at_128() -> None:
    """Miyato & Koyama 2018, Fig. 14: 1024, 1024, 512, 256, 128, 64 from 4x4 to 128x128."""
    assert [channels_at(128 // side, width=1.0) for side in (4, 8, 16, 32, 64, 128)] == [
        1024,
        1024,
        512,
        256,
        128,
        64,
    ]


@pytest.mark.parametrize(
    ("resolution", "generator", "discriminator"), [(64, 12_226_948, 7_256_898), (128, 32_179_588, 29_024_066)]
)
def test_parameters(resolution: int, generator: int, discriminator: int) -> None:
    """As docs/families/sagan.md tells them, and as a count layer by layer finds them."""
    config = tiny(resolution=resolution, width=1.0)
    with torch.device("meta"):
        networks = Generator(config), Discriminator(config)
    found = [sum(p.numel() for p in network.parameters()) for network in networks]
    maps = [channels_at(resolution >> doubling, width=1.0) for doubling in range(2, resolution.bit_length())]
    # At 32x32 the discriminator, which begins with half the side, has half the channels.
    seen, looked_at = (
        4 * a * a // 8 + 1 for a in (channels_at(resolution // side, width=1.0) for side in (32, 64))
    )
    up = sum(2 * a + 2 * b + 9 * a * b + 9 * b * b + b + a * b for a, b in itertools.pairwise(maps))
    made = 128 * 16 * maps[0] + 16 * maps[0] + up + seen + 2 * 64 + 64 * 27 + 3
    down_maps = maps[:0:-1]
    down = sum(9 * a * a + a + 9 * a * b + b + a * b for a, b in itertools.pairwise(down_maps))
    first, last = 27 * 64 + 64 + 9 * 64 * 64 + 64 + 3 * 64, down_maps[-1]
    judged = first + down + looked_at + 2 * (9 * last * last + last) + last + 1
    assert found == [made, judged] == [generator, discriminator]


def test_the_first_parts_are_nearest_to_the_picture() -> None:
    network = Discriminator(tiny())
    parts = network.first_parts(3)
    assert parts == list(itertools.islice(network.parts, 3))
    assert next(parts[0].parameters()).shape[1] == 3
    assert isinstance(parts[1], SelfAttention)


def test_a_deployed_generator_makes_the_same_pictures() -> None:
    torch.manual_seed(0)
    network = Generator(tiny(), classes=2)
    settled(network)
    deployed = Generator(tiny(), classes=2, spectral=False).double().eval()
    state = network.state_dict()
    for name, layer in network.named_modules():
        if isinstance(layer, SpectralConv2d):
            state[f"{name}.weight"] = layer.weight / layer.iterate(20)
            del state[f"{name}.u"], state[f"{name}.v"]
    deployed.load_state_dict(state)
    latent_NZ, labels_N = torch.randn(2, LATENT, dtype=torch.float64), torch.tensor([1, 0])
    theirs = network.render(latent_NZ, labels_N=labels_N)
    torch.testing.assert_close(deployed.render(latent_NZ, labels_N=labels_N), theirs, rtol=0, atol=1e-8)


def test_every_parameter_learns_once_gamma_has_left_zero() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(tiny(), classes=2), Discriminator(tiny(), classes=2)
    for network in (generator, discriminator):
        (attention,) = [layer for layer in network.modules() if isinstance(layer, SelfAttention)]
        nn.init.constant_(attention.gamma, 0.5)
    labels_N = torch.tensor([0, 1, 1])
    pictures = generator.render(torch.randn(3, LATENT), labels_N=labels_N)
    discriminator(pictures, labels_N).logits_NK.square().sum().backward()
    for name, parameter in itertools.chain(generator.named_parameters(), discriminator.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
