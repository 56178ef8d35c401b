from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.attention import SkipExcitation, spatial_attention


def test_spatial_attention_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    low = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    conv = nn.Conv2d(2, 1, 7, padding=3, bias=False).double()
    padded = F.pad(torch.stack([low.mean(1), low.max(1).values], dim=1), (3, 3, 3, 3))
    expected = torch.empty_like(low)
    for row in range(6):
        for column in range(6):
            window = padded[:, :, row : row + 7, column : column + 7]
            weight = torch.sigmoid((window * conv.weight[0]).sum(dim=(1, 2, 3)))
            expected[:, :, row, column] = low[:, :, row, column] * weight[:, None]
    torch.testing.assert_close(spatial_attention(low, conv=conv), expected)


def test_an_untrained_attention_with_zero_weights_halves_everything() -> None:
    conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
    nn.init.zeros_(conv.weight)
    low = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(spatial_attention(low, conv=conv), low / 2)


def test_excitation_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    module = SkipExcitation(6, 4, attention=True, spectral=False).double()
    low, high = torch.randn(2, 6, 8, 8).double(), torch.randn(2, 4, 16, 16).double()
    assert module.attention is not None
    pooled = F.avg_pool2d(spatial_attention(low, conv=module.attention), 2)
    squeezed = torch.einsum("ncij,ocij->no", pooled, module.squeeze.weight)
    excited = (squeezed * torch.sigmoid(squeezed)) @ module.excite.weight[:, :, 0, 0].T
    expected = high * torch.sigmoid(excited)[:, :, None, None]
    torch.testing.assert_close(module(low, high), expected)


def test_without_attention_the_module_is_fastgans() -> None:
    module = SkipExcitation(6, 4, attention=False, spectral=True)
    assert module.attention is None
    assert {name for name, _ in module.named_parameters()} == {"squeeze.weight", "excite.weight"}
