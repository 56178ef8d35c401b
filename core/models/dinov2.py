"""DINOv2's vision transformers without registers, run as torchvision's, from the weights as their authors publish them.

Shapes: B tokens of a picture, D features of a token, G rows of patches.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from core.errors import WeightsMissing

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_PATCH = 14
_HEAD = 64  # features of one attention head, at every size
# Added to the number of patches a side when positions are interpolated, in the authors' code.
_OFFSET = 0.1
_BLOCK = {
    "norm1": "ln_1",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
# What torch raises where a file holds something else depends on what it holds.
_UNREADABLE = (
    pickle.UnpicklingError,
    *(AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
)
_SCALED = {"attn.proj": "ls1.gamma", "mlp.fc2": "ls2.gamma"}


def dinov2(path: Path, *, width: int, side: int = 224) -> VisionTransformer:
    """Load a DINOv2 network, frozen, float32.

    Source: Oquab et al. 2023. It is a vision transformer whose branches are each multiplied by learned factors
    (LayerScale); those are multiplied into the branches' last linear layers, which is the same. Its positions, learned
    on a larger picture, are interpolated as in the authors' code.

    Args:
        path: `dinov2_vit?14_pretrain.pth`, s, b or l.
        width: features of a token that it must have: 384, 768 or 1024.
        side: of the pictures, a multiple of 14.

    Returns:
        Maps N3HW pictures of that side, normalised by core.models.vgg's IMAGENET_MEAN and IMAGENET_DEVIATION, to the
        normalised class token [N, D].

    Raises:
        WeightsMissing: the file does not hold such a network.
    """
    try:
        network = _network(torch.load(path, map_location="cpu", weights_only=True), width=width, side=side)
    except _UNREADABLE as error:
        raise WeightsMissing(
            f"{path} is not the DINOv2 network that its name says: {error}. Put the authors' file there, without "
            "registers, and submit the job again.",
            path=str(path),
        ) from error
    return network.eval().requires_grad_(False)


def _network(theirs: dict[str, Tensor], *, width: int, side: int) -> VisionTransformer:
    if "register_tokens" in theirs:
        raise ValueError("it has registers")
    if (found := theirs["cls_token"].shape[-1]) != width:
        raise ValueError(f"its tokens have {found} features, not {width}")
    depth = sum(name.endswith("norm1.weight") for name in theirs)
    with torch.device("meta"):  # the weights are assigned, never initialised
        network = VisionTransformer(
            image_size=side,
            patch_size=_PATCH,
            num_layers=depth,
            num_heads=width // _HEAD,
            hidden_dim=width,
            mlp_dim=4 * width,
        )
        network.heads = nn.Identity()
    network.load_state_dict(_converted(theirs, depth=depth, grid=side // _PATCH), assign=True)
    return network


def _converted(theirs: dict[str, Tensor], *, depth: int, grid: int) -> dict[str, Tensor]:
    """The state under torchvision's names."""
    ours = {
        "class_token": theirs["cls_token"],
        "conv_proj.weight": theirs["patch_embed.proj.weight"],
        "conv_proj.bias": theirs["patch_embed.proj.bias"],
        "encoder.pos_embedding": _interpolated(theirs["pos_embed"], grid=grid),
        "encoder.ln.weight": theirs["norm.weight"],
        "encoder.ln.bias": theirs["norm.bias"],
    }
    for number in range(depth):
        source, target = f"blocks.{number}", f"encoder.layers.encoder_layer_{number}"
        for kind in ("weight", "bias"):
            ours[f"{target}.self_attention.in_proj_{kind}"] = theirs[f"{source}.attn.qkv.{kind}"]
            for name, called in _BLOCK.items():
                value = theirs[f"{source}.{name}.{kind}"]
                if name in _SCALED:
                    factors = theirs[f"{source}.{_SCALED[name]}"]
                    value = value * (factors[:, None] if kind == "weight" else factors)
                ours[f"{target}.{called}.{kind}"] = value
    return ours


def _interpolated(positions_1BD: Tensor, *, grid: int) -> Tensor:
    class_11D, patches_1BD = positions_1BD[:, :1], positions_1BD[:, 1:]
    learned = round(patches_1BD.shape[1] ** 0.5)
    if learned == grid:
        return positions_1BD
    patches_1DGG = patches_1BD.reshape(1, learned, learned, -1).permute(0, 3, 1, 2)
    scale = (grid + _OFFSET) / learned
    patches_1DGG = functional.interpolate(patches_1DGG, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([class_11D, patches_1DGG.flatten(2).transpose(1, 2)], dim=1)
