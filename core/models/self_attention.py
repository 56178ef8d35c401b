"""Self-attention over the positions of a feature map.

Source: Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", section 3.
Shapes: N pictures, C channels, H height, W width, L = HW positions, Q of them asked about, E = C/8 channels of a query.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.models.layers import SpectralConv2d

_SHARE = 8  # the paper's k: queries, keys and values have C/8 channels


class SelfAttention(nn.Module):
    """Add to every position what it finds in all the others: y = gamma * o + x, gamma learnt from 0.

    Source: SAGAN, Eq. 1 to 3 and Fig. 2. Keys are f = W_f x, queries g = W_g x, values h = W_h x; the weights of
    position j are softmax_i(f_i . g_j), with no scale, and o_j = W_v sum_i(weight_ji h_i). All four matrices are 1x1
    convolutions under spectral normalisation, as in the paper's section 4.1.

    Args:
        channels: C, at least 8.
        spectral: False for a deployed network.
        double_backward: compute so that a gradient can be differentiated again, as gradient penalties do: the fused
            attention of the CPU cannot. It may be changed at any time.
    """

    def __init__(self, channels: int, *, spectral: bool, double_backward: bool = False) -> None:
        super().__init__()
        inner = channels // _SHARE
        self.double_backward = double_backward
        self.query = SpectralConv2d(channels, inner, 1, spectral=spectral)
        self.key = SpectralConv2d(channels, inner, 1, spectral=spectral)
        self.value = SpectralConv2d(channels, inner, 1, spectral=spectral)
        self.out = SpectralConv2d(inner, channels, 1, spectral=spectral)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        query, key, value = (_positions(conv(x_NCHW)) for conv in (self.query, self.key, self.value))
        with sdpa_kernel(SDPBackend.MATH) if self.double_backward else nullcontext():
            if torch.compiler.is_exporting():  # ONNX knows attention with heads only
                query, key, value = query[:, None], key[:, None], value[:, None]
            found_NLE = F.scaled_dot_product_attention(query, key, value, scale=1.0)
            if torch.compiler.is_exporting():
                found_NLE = found_NLE[:, 0]
        found_NEHW = found_NLE.transpose(1, 2).reshape(x_NCHW.shape[0], -1, *x_NCHW.shape[2:])
        out_NCHW: Tensor = self.out(found_NEHW)
        return x_NCHW + self.gamma.to(x_NCHW.dtype) * out_NCHW

    def maps(self, x_NCHW: Tensor, positions_Q: Tensor) -> Tensor:
        """How much some positions attend to every other one: the beta of Eq. 1.

        Args:
            x_NCHW: what `forward` takes.
            positions_Q: of the queries, row by row through the map: int64 from 0 to L - 1.

        Returns:
            NQHW, whose sums over the map are 1.
        """
        query_NQE = _positions(self.query(x_NCHW))[:, positions_Q]
        logits_NQL = query_NQE @ _positions(self.key(x_NCHW)).transpose(1, 2)
        return logits_NQL.softmax(dim=-1).reshape(*logits_NQL.shape[:2], *x_NCHW.shape[2:])


def _positions(x_NEHW: Tensor) -> Tensor:
    """NLE: a view where the map is channels-last."""
    return x_NEHW.flatten(2).transpose(1, 2)
