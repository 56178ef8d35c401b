from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

from core.errors import WeightsMissing
from core.files import sha256_of
from core.metrics.extractors import extract, load_extractor
from core.metrics.protocol import planned_protocol
from core.models.dinov2 import dinov2
from core.models.vgg import IMAGENET_DEVIATION, IMAGENET_MEAN
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

WIDTH = 384
FILE = "dinov2_vits14_pretrain.pth"


def published(*, depth: int = 2) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of the authors' files."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random) / (shape[-1] if len(shape) == 2 else 4) ** 0.5

    state = {
        "cls_token": draw(1, 1, WIDTH),
        "pos_embed": draw(1, 1 + 37 * 37, WIDTH),
        "mask_token": draw(1, WIDTH),
        "patch_embed.proj.weight": draw(WIDTH, 3, 14, 14) / 24,
        "patch_embed.proj.bias": draw(WIDTH),
        "norm.weight": draw(WIDTH),
        "norm.bias": draw(WIDTH),
    }
    for number in range(depth):
        block = f"blocks.{number}"
        for norm, factor in (("norm1", "ls1"), ("norm2", "ls2")):
            state[f"{block}.{norm}.weight"] = 1 + draw(WIDTH)
            state[f"{block}.{norm}.bias"] = draw(WIDTH)
            state[f"{block}.{factor}.gamma"] = draw(WIDTH)
        shapes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (rows, columns) in shapes.items():
            state[f"{block}.{name}.weight"] = draw(rows * WIDTH, columns * WIDTH)
            state[f"{block}.{name}.bias"] = draw(rows * WIDTH)
    return state


def computed_by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Oquab et al. 2023: pre-norm attention and MLP, each scaled; the positions as in their code."""

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    patches = functional.conv2d(
        x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14
    )
    grid = patches.shape[-1]
    positions = state["pos_embed"][:, 1:].reshape(1, 37, 37, WIDTH).permute(0, 3, 1, 2)
    positions = functional.interpolate(
        positions, scale_factor=((grid + 0.1) / 37, (grid + 0.1) / 37), mode="bicubic"
    )
    tokens = (patches + positions).flatten(2).transpose(1, 2)
    first = (state["cls_token"] + state["pos_embed"][:, :1]).expand(len(x), -1, -1)
    x = torch.cat([first, tokens], dim=1)
    for number in range(sum("norm1.weight" in name for name in state)):
        block = f"blocks.{number}"
        q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=-1)
        heads = [
            ((a @ b.transpose(1, 2)) / 8).softmax(dim=-1) @ c
            for a, b, c in zip(q.split(64, dim=-1), k.split(64, dim=-1), v.split(64, dim=-1), strict=True)
        ]
        x = x + state[f"{block}.ls1.gamma"] * linear(torch.cat(heads, dim=-1), f"{block}.attn.proj")
        inner = functional.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + state[f"{block}.ls2.gamma"] * linear(inner, f"{block}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def test_features_are_those_of_the_published_network(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / FILE)
    evaluation = EvaluationConfig(
        extractor="dinov2_vits14", precision="fp32", weights_sha256=sha256_of(tmp_path / FILE)
    )
    protocol = planned_protocol(SlaeganConfig(resolution=64, evaluation=evaluation), image_count=8)
    random = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (3, 3, 64, 64), generator=random, dtype=torch.uint8)
    found = extract(load_extractor(protocol, weights_dir=tmp_path, device="cpu"), pictures)
    x = functional.interpolate(pictures / 255, size=(224, 224), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    expected = computed_by_hand(published(), (x - mean) / deviation)
    assert found.shape == (3, WIDTH)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_the_picture_of_the_training_needs_no_other_positions(tmp_path: Path) -> None:
    state = published(depth=0)
    torch.save(state, tmp_path / FILE)
    network = dinov2(tmp_path / FILE, width=WIDTH, side=518)
    assert torch.equal(network.encoder.pos_embedding, state["pos_embed"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"register_tokens": torch.zeros(1, 4, WIDTH)}, "it has registers"),
        ({"cls_token": torch.zeros(1, 1, 768)}, "its tokens have 768 features, not 384"),
        ({"norm.weight": torch.zeros(5)}, "size mismatch"),
        ({"blocks.0.norm1.weight": torch.zeros(WIDTH)}, "blocks.0.attn.qkv.weight"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, change: dict[str, Tensor], reason: str) -> None:
    torch.save(published(depth=0) | change, tmp_path / FILE)
    with pytest.raises(WeightsMissing, match=reason):
        dinov2(tmp_path / FILE, width=WIDTH)


@pytest.mark.parametrize("content", [b"", b"not a file of torch"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(WeightsMissing, match="is not the DINOv2 network"):
        dinov2(tmp_path / FILE, width=WIDTH)


class Hostile:
    def __reduce__(self) -> tuple[type[ZeroDivisionError], tuple[()]]:
        return ZeroDivisionError, ()


def test_a_file_that_names_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"cls_token": Hostile()}, tmp_path / FILE)
    with pytest.raises(WeightsMissing, match="ZeroDivisionError"):
        dinov2(tmp_path / FILE, width=WIDTH)
