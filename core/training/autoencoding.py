"""Stage one of the training on codes: an encoder, a decoder and a picture discriminator; and the codes they give.

Source: Liu et al., "An Acceleration Framework for High Resolution Image Synthesis", sections 3.1 and 3.3.
The paper leaves three things open. Alpha is 0.01 by default, the ratio of pix2pix (Isola et al. 2017, section 3.1): L1
leads, and the adversarial loss adds the texture that L1 averages away; spectral norm in D keeps its gradient of one
size, so that the ratio holds throughout. The optimiser is Adam, with beta (0.9, 0.999) for encoder and decoder, whose
loss is a regression first, and (0.5, 0.999) for D. An iteration takes all its steps of the
autoencoder, then as many of D on the pictures as they were decoded there.
Shapes: N pictures, C channels, H height, W width, S side of a square; h, w a code's sides; K logits a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.training.microbatch import Tally, parts, split
from core.training.pictures import budget_bytes
from core.training.precision import computing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from core.models.autoencoder import Decoder, Encoder, PictureDiscriminator
    from core.schemas.codes import CodesConfig
    from core.training.family import Setting

SIDE = 128  # section 3.3: the pictures of stage one; smaller ones stay as they are
_BETAS = {"autoencoder": (0.9, 0.999), "picture_discriminator": (0.5, 0.999)}


class Autoencoding:
    """The steps of encoder and decoder, and of the discriminator that judges their pictures.

    Args:
        config: of the job.
        encoder: it and the others in training, on the device.
        decoder: of the encoder's codes.
        discriminator: None where the adversarial loss is off.
        setting: what the trainer gives.
    """

    def __init__(
        self,
        config: CodesConfig,
        *,
        encoder: Encoder,
        decoder: Decoder,
        discriminator: PictureDiscriminator | None,
        setting: Setting,
    ) -> None:
        self._config, self._setting = config, setting
        self._encoder, self._decoder, self._discriminator = encoder, decoder, discriminator
        self._decoded: dict[int, Tensor] = {}

    def optimiser(self, name: str) -> torch.optim.Optimizer:
        """Adam of `autoencoder` or `picture_discriminator`."""
        networks = [self._encoder, self._decoder] if name == "autoencoder" else [self._discriminator]
        parameters = [p for network in networks if network is not None for p in network.parameters()]
        return torch.optim.Adam(parameters, lr=self._config.autoencoder_rate, betas=_BETAS[name], fused=True)

    def step_autoencoder(
        self, real_N3SS: Tensor, *, repeat: int, backward: Callable[[Tensor], None]
    ) -> dict[str, Tensor]:
        """Eq. 3 on a batch; what was decoded is kept for the discriminator's step of the same number."""
        tally, decoded = Tally(len(real_N3SS), backward=backward), []
        if self._discriminator is not None:
            self._discriminator.requires_grad_(False)
        for rows in self._parts(len(real_N3SS)):
            with self._computing():
                made_N3SS = self._decoder(self._encoder(real_N3SS[rows]))
                logits_NK = None if self._discriminator is None else self._discriminator(made_N3SS)
            losses = {"l1": l1(made_N3SS, real_N3SS[rows])}
            if logits_NK is not None:
                losses["adversarial"] = self._config.adversarial * adversarial(logits_NK)
            tally.add(losses, rows=rows)
            decoded.append(made_N3SS.detach())
        if self._discriminator is not None:
            self._discriminator.requires_grad_(True)
            self._decoded[repeat] = torch.cat(decoded)
        return tally.losses

    def step_discriminator(
        self, real_N3SS: Tensor, *, repeat: int, backward: Callable[[Tensor], None]
    ) -> dict[str, Tensor]:
        """Eq. 4 on the pictures of the autoencoder's step, as they were decoded there: one forward less."""
        assert self._discriminator is not None
        made_N3SS = self._decoded.pop(repeat)
        tally = Tally(len(real_N3SS), backward=backward)
        for rows in parts(self._discriminator, len(real_N3SS), size=self._setting.micro_batch):
            with self._computing():
                real_NK = self._discriminator(real_N3SS[rows].to(made_N3SS.dtype))
                made_NK = self._discriminator(made_N3SS[rows])
            tally.add({"picture_real": adversarial(real_NK), "picture_fake": _denial(made_NK)}, rows=rows)
        return tally.losses

    def _parts(self, count: int) -> Iterable[slice]:
        """Micro-batches in which the spectral vectors of D move once, as over a whole batch."""
        if self._discriminator is None:
            return split(count, size=self._setting.micro_batch)
        return parts(self._discriminator, count, size=self._setting.micro_batch)

    def _computing(self) -> AbstractContextManager[object]:
        return computing(self._setting.dtype, device=self._setting.device)


def l1(made_NCHW: Tensor, real_NCHW: Tensor) -> Tensor:
    """|H(F(x)) - x|_1, the mean over pixels, float32. Source: Eq. 1."""
    return F.l1_loss(made_NCHW.float(), real_NCHW.float())


def adversarial(logits_NK: Tensor) -> Tensor:
    """E[-log D(x)] of logits: the decoder's loss (Eq. 2), and on real pictures half of D's (Eq. 4)."""
    return F.softplus(-logits_NK.float()).mean()


def _denial(logits_NK: Tensor) -> Tensor:
    """E[-log(1 - D(x))]: the other half of Eq. 4."""
    return F.softplus(logits_NK.float()).mean()


def reduced(pictures_NCHW: Tensor) -> Tensor:
    """Pictures of at most 128x128: larger ones as the means of their pixels."""
    side = pictures_NCHW.shape[2]
    return F.avg_pool2d(pictures_NCHW, side // SIDE) if side > SIDE else pictures_NCHW


def cropped(pictures_NCHW: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """A 128x128 part of each picture, from anywhere; smaller pictures whole.

    Args:
        pictures_NCHW: square, any type.
        generator: source of the draws, on the pictures' device.
    """
    count, _, side, _ = pictures_NCHW.shape
    if side <= SIDE:
        return pictures_NCHW
    device = pictures_NCHW.device
    first_2N1 = torch.randint(side - SIDE + 1, (2, count, 1), device=device, generator=generator)
    rows_NS, columns_NS = first_2N1 + torch.arange(SIDE, device=device)
    picture_N11 = torch.arange(count, device=device)[:, None, None]
    parts_NSSC = pictures_NCHW.permute(0, 2, 3, 1)[picture_N11, rows_NS[:, :, None], columns_NS[:, None]]
    return parts_NSSC.permute(0, 3, 1, 2)


class CodeBook:
    """The codes of training pictures and of their mirror images, each encoded once.

    Section 3.2: all pictures are transformed to codes, and only these are used. They are encoded when they are first
    shown. A picture goes through the encoder with its own mirror image and no other, in float32: so its code is the
    same to the last bit whenever it is made, also after a resumption. A mirrored code is not the code of the mirrored
    picture, since kernels are not symmetric.

    Args:
        encoder: it does not learn any more.
        device: where pictures and codes lie; on `meta` nothing is kept.
        budget: bytes that the codes may take; those beyond it are made again each time.
    """

    def __init__(self, encoder: Encoder, *, device: torch.device, budget: int | None = None) -> None:
        self._encoder, self._device = encoder, device
        self._left = budget_bytes(device) if budget is None else budget
        self._codes: dict[int, Tensor] = {}

    @torch.no_grad()
    def codes(self, real_N3HW: Tensor, *, rows_N: Tensor, mirrored_N: Tensor) -> Tensor:
        """Codes in [-1, 1], N16hw float32, laid out channels-last.

        Args:
            real_N3HW: uint8.
            rows_N: of the pictures in the set, by which they are known again.
            mirrored_N: of which pictures the mirror image is wanted, bool.
        """
        if self._device.type == "meta":
            whole: Tensor = self._encoder(scaled(real_N3HW))
            return whole
        both = []
        for row, real_3HW in zip(rows_N.tolist(), real_N3HW, strict=True):
            found = self._codes.get(row)
            if found is None:
                picture_13HW = scaled(real_3HW[None])
                found = self._encoder(torch.cat([picture_13HW, picture_13HW.flip(3)]))
                if found.nbytes <= self._left:
                    self._left -= found.nbytes
                    self._codes[row] = found
            both.append(found)
        codes_N2Chw = torch.stack(both)
        chosen = codes_N2Chw[torch.arange(len(both), device=self._device), mirrored_N.long()]
        return chosen.contiguous(memory_format=torch.channels_last)


def scaled(pictures_N3HW: Tensor) -> Tensor:
    """Uint8 pictures as float32 in [-1, 1], laid out channels-last."""
    return pictures_N3HW.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
