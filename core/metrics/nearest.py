"""Where the pictures of training are, as LPIPS measures: which of them is nearest to a picture.

Pictures are compared at 64 pixels, the side of the patches on which LPIPS was fitted, and with their mirror images.
Shapes: N generated and M training pictures, H height, W width, D numbers that describe a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from core.metrics.perception import batch_size, look
from core.training.perceptual import direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from core.training.perceptual import Lpips

SIDE = 64
TOGETHER = 16  # pictures searched for at a time; more are little faster, and their points take memory
# Products in bfloat16 are exact, and are added up in float32, but the sum is rounded to bfloat16. In slices of this
# length the rounding moves a distance by a few ten-thousandths.
_SLICE = 4096


class Nearest(NamedTuple):
    """The nearest training picture of each picture."""

    distance_N: Tensor  # LPIPS, float32
    row_N: Tensor  # of the training picture, int64


class TrainingPictures:
    """Training pictures as points whose squared distances are LPIPS.

    LPIPS sums w_l |u_l(a) - u_l(b)|^2 over layers and averages over positions, and its weights w are not negative: so
    it is the squared Euclidean distance between all u_l times the root of w_l over the positions, one after another.

    Args:
        parts: uint8 pictures, some at a time, so that large ones need not all be in memory.
        count: of the pictures in all parts, at least one.
        lpips: the distance; with the device to compute on.
    """

    def __init__(self, parts: Iterable[Tensor], *, count: int, lpips: Lpips) -> None:
        self._lpips = lpips
        self._points_MD = self.room(count)
        filled = 0
        for part_K3HW in parts:
            self.place(part_K3HW, self._points_MD[filled : filled + len(part_K3HW)])
            filled += len(part_K3HW)
        self._length_M = _lengths(self._points_MD)

    def room(self, count: int) -> Tensor:
        """Room for so many points, ND bfloat16: it is large, and to be used again and again."""
        sides = (SIDE >> depth for depth in range(len(self._lpips.heads)))
        width = sum(head.numel() * side**2 for head, side in zip(self._lpips.heads, sides, strict=True))
        return torch.empty(count, width, dtype=torch.bfloat16, device=self._lpips.shift.device)

    def place(self, pictures_N3HW: Tensor, points_ND: Tensor) -> None:
        """Write the points of uint8 pictures into their room."""
        batch = batch_size(self._lpips.shift.device, side=SIDE)
        parts = torch.split(pictures_N3HW, batch), torch.split(points_ND, batch)
        for some_N3HW, room_ND in zip(*parts, strict=True):
            self.place_depths(look(self._lpips, some_N3HW, side=SIDE), room_ND)

    @torch.inference_mode()
    def place_depths(self, depths: Sequence[Tensor], points_ND: Tensor) -> None:
        """Write the points of pictures of 64 pixels, whose depths are known, into their room."""
        begin = 0
        for features, head in zip(depths, self._lpips.heads, strict=True):
            positions = features.shape[2] * features.shape[3]
            weights = (head / positions).sqrt().to(features.dtype)
            part_Nd = (direction(features) * weights).flatten(1)
            points_ND[:, begin : begin + part_Nd.shape[1]] = part_Nd
            begin += part_Nd.shape[1]

    def distances(self, pictures_N3HW: Tensor) -> Tensor:
        """LPIPS of each picture, or of its mirror image where that is nearer, to each training picture.

        Args:
            pictures_N3HW: uint8.

        Returns:
            NM float32.
        """
        both_2ND = torch.stack([self.room(TOGETHER)] * 2)
        found = []
        for some in torch.split(pictures_N3HW, TOGETHER):
            room_2ND = both_2ND[:, : len(some)]
            self.place(some, room_2ND[0])
            self.place(some.flip(dims=(3,)), room_2ND[1])
            found.append(self.distances_of(room_2ND))
        return torch.cat(found)

    def distances_of(self, points_2ND: Tensor) -> Tensor:
        """As `distances`, of the points of pictures and of their mirror images."""
        return torch.minimum(*map(self._to_all, points_2ND))

    @torch.inference_mode()
    def _to_all(self, points_ND: Tensor) -> Tensor:
        product_NM = torch.zeros(len(points_ND), len(self._points_MD), device=points_ND.device)
        slices = torch.split(points_ND, _SLICE, dim=1), torch.split(self._points_MD, _SLICE, dim=1)
        for mine_Nd, theirs_Md in zip(*slices, strict=True):
            product_NM += mine_Nd @ theirs_Md.T
        return (_lengths(points_ND)[:, None] + self._length_M - 2 * product_NM).clamp_min(0)

    def nearest(self, pictures_N3HW: Tensor) -> Nearest:
        """The nearest training picture of each picture, as `distances` measures."""
        return Nearest(*self.distances(pictures_N3HW).min(dim=1))


def _lengths(points_ND: Tensor) -> Tensor:
    """Their squared lengths, N float32."""
    return torch.stack([point_D.float().square().sum() for point_D in points_ND])
