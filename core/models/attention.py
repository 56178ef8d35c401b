"""Skip-layer excitation and the spatial attention that SLAE-GAN puts before it.

Shapes: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.layers import SpectralConv2d


def spatial_attention(low_NCHW: Tensor, *, conv: nn.Conv2d) -> Tensor:
    """Weight every position of a feature map by what its channels hold.

    Source: Woo et al. 2018 (CBAM), Eq. 3; placed as in SLAE-GAN, section 3.1 and Fig. 3.

    Args:
        low_NCHW: features of the low-resolution block, any float type.
        conv: 7x7, two channels in (mean, max), one out, no bias.

    Returns:
        The same shape and type as low_NCHW.
    """
    pooled_N2HW = torch.cat([low_NCHW.mean(1, keepdim=True), low_NCHW.amax(1, keepdim=True)], dim=1)
    logits_N1HW = F.conv2d(pooled_N2HW, conv.weight.to(low_NCHW.dtype), padding=conv.padding)
    return low_NCHW * torch.sigmoid(logits_N1HW)


class SkipExcitation(nn.Module):
    """Gate the channels of a late feature map by an early one: FastGAN's SLE, or SLAE with attention.

    Source: FastGAN, Eq. 1 and Fig. 3; SLAE-GAN, section 3.1: y = high * SLE(SA(low)).

    Args:
        channels_low: channels of the gating map.
        channels_high: channels of the gated map.
        attention: weight the gating map in space first.
        spectral: False for a deployed network.
    """

    def __init__(self, channels_low: int, channels_high: int, *, attention: bool, spectral: bool) -> None:
        super().__init__()
        self.attention = nn.Conv2d(2, 1, 7, padding=3, bias=False) if attention else None
        if self.attention is not None:
            nn.init.normal_(self.attention.weight, 0.0, 0.02)
        self.squeeze = SpectralConv2d(channels_low, channels_high, 4, spectral=spectral)
        self.excite = SpectralConv2d(channels_high, channels_high, 1, spectral=spectral)

    def forward(self, low_NCHW: Tensor, high_NCHW: Tensor) -> Tensor:
        if self.attention is not None:
            low_NCHW = spatial_attention(low_NCHW, conv=self.attention)
        pooled_NC44 = F.adaptive_avg_pool2d(low_NCHW, 4)
        gate_NC11 = torch.sigmoid(self.excite(F.silu(self.squeeze(pooled_NC44))))
        return high_NCHW * gate_NC11
