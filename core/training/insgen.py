"""InsGen: the discriminator also learns to tell every picture from every other, real and generated ones apart.

Source: Yang et al. 2021 (arXiv 2106.04566), section 3: heads on D's features give each picture a unit vector; that of
one view shall be near to that of another view of the same picture and far from those of other pictures. The other
view goes through a slowly following copy of D, and the other pictures' vectors wait in queues, as He et al. 2020
(MoCo, arXiv 1911.05722, section 3) have it. A second view of a real picture is another augmentation of it, one of a
generated picture comes from a slightly other latent.
Shapes: N pictures, C channels, H height, W width, E numbers of a vector, Q vectors of a queue.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

if TYPE_CHECKING:
    from core.models.contract import Judgement
    from core.schemas.training import TrainingConfig

Side = Literal["real", "fake"]
SIDES: tuple[Side, ...] = ("real", "fake")
# Deviation of what is added to a latent for the second view, as in the published code.
_PERTURBATION = 0.15
# The rest as MoCo v2 (Chen et al. 2020, arXiv 2003.04297) has it.
_VECTOR = 128
_TEMPERATURE = 0.2
_MOMENTUM = 0.999


@dataclass(frozen=True)
class Views:
    """Second views of a batch's pictures, and the real ones' places in the set.

    Args:
        real: augmented pictures, float32, at each size that D takes.
        fake: likewise.
        owners_N: places, integers.
    """

    real: tuple[Tensor, ...]
    fake: tuple[Tensor, ...]
    owners_N: Tensor

    def rows(self, rows: slice) -> Views:
        """Some of them."""
        real, fake = (tuple(size[rows] for size in sizes) for sizes in (self.real, self.fake))
        return Views(real, fake, self.owners_N[rows])

    def of(self, side: Side) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The pictures of one side, and whose they are; None for generated ones."""
        return (self.real, self.owners_N) if side == "real" else (self.fake, None)


def contrast(query_NE: Tensor, key_NE: Tensor, queue_QE: Tensor, *, same_NQ: Tensor | None = None) -> Tensor:
    """InfoNCE: -E[log(exp(q.k / T) / (exp(q.k / T) + sum_j exp(q.n_j / T)))], a float32 scalar, with T = 0.2.

    Source: Yang et al. 2021, Eq. 3 and 4; He et al. 2020, Eq. 1.

    Args:
        query_NE: unit vectors of one view.
        key_NE: those of the other; no gradient flows into them.
        queue_QE: those of other pictures.
        same_NQ: true where a picture of the queue is the query's own and must not be told from it; None where
            none is.
    """
    near_N1 = (query_NE * key_NE.detach()).sum(dim=1, keepdim=True)
    others_NQ = query_NE @ queue_QE.detach().T
    if same_NQ is not None:
        others_NQ = others_NQ.masked_fill(same_NQ, -torch.inf)
    logits_NP = torch.cat([near_N1, others_NQ], dim=1).float() / _TEMPERATURE
    return -logits_NP.log_softmax(dim=1)[:, 0].mean()


class Projection(nn.Module):
    """A head: the mean of D's features over the places, two layers, and a unit vector; float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, _VECTOR))

    def forward(self, features_NCHW: Tensor) -> Tensor:
        return F.normalize(self.layers(features_NCHW.float().mean(dim=(2, 3))), dim=1)


class Follower(nn.Module):
    """A copy of a network's parameters that follows them; they are its buffers, so that no optimiser has them.

    The copy computes with the network's own buffers. Spectral vectors of weights that are so near fit it, and
    a batch that normalises itself needs no statistics. It takes the parameters' memory twice: once more in the guard.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, parameter in network.named_parameters():
            self.register_buffer(name.replace(".", "/"), parameter.detach().clone())

    @torch.no_grad()
    def follow(self, network: nn.Module, *, decay: Tensor) -> None:
        """Own <- decay * own + (1 - decay) * the network's, a scalar tensor on its device."""
        for name, parameter in network.named_parameters():
            self.get_buffer(name.replace(".", "/")).lerp_(parameter, 1 - decay)

    def call(self, network: nn.Module, *inputs: Any) -> Any:
        """What the network would say with these parameters; without `torch.compile`, which knows its own alone."""
        parameters = {f"network.{name.replace('/', '.')}": value for name, value in self.named_buffers()}
        return functional_call(_Plain(network), parameters, inputs)


class _Plain(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        return self.network.forward(*inputs)


class InsGen(nn.Module):
    """Heads, followers and queues of both sides. What it remembers lies in buffers.

    Args:
        discriminator: whose features are compared.
        channels: of those features.
        weight: lambda of both of D's terms.
        generator_weight: lambda of G's term.
        queue: vectors that wait on each side.
    """

    owners_Q: Tensor
    steps: Tensor

    def __init__(
        self,
        discriminator: nn.Module,
        *,
        channels: int,
        weight: float,
        generator_weight: float,
        queue: int,
    ) -> None:
        super().__init__()
        self._weight, self._generator_weight = weight, generator_weight
        self.spreads = generator_weight > 0
        self.heads = nn.ModuleDict({side: Projection(channels) for side in SIDES})
        self.slow_discriminator, self.slow_heads = Follower(discriminator), Follower(self.heads)
        for side in SIDES:
            self.register_buffer(f"{side}_QE", F.normalize(torch.randn(queue, _VECTOR), dim=1))
        # Whose views the real vectors are, by their places in the set; floats, which the guard puts back, too.
        self.register_buffer("owners_Q", torch.full((queue,), -1.0))
        self.register_buffer("steps", torch.zeros(()))
        self._fresh: dict[Side, list[tuple[Tensor, Tensor | None]]] = {side: [] for side in SIDES}

    @torch.no_grad()
    def follow(self, discriminator: nn.Module) -> None:
        """Begin a step of D: move the copies, by min(0.999, t / (10 + t)): the first step takes D as it is."""
        decay = (self.steps / (self.steps + 10)).clamp(max=_MOMENTUM)
        self.slow_discriminator.follow(discriminator, decay=decay)
        self.slow_heads.follow(self.heads, decay=decay)
        self.steps.add_(1)

    def slow_features(self, discriminator: nn.Module, *inputs: Any) -> Tensor:
        """The slow copy's features of a second view, NCHW."""
        judged: Judgement = self.slow_discriminator.call(discriminator, *inputs)
        return judged.features_NCHW

    def tell_apart(
        self, side: Side, features_NCHW: Tensor, slow_NCHW: Tensor, *, owners_N: Tensor | None = None
    ) -> dict[str, Tensor]:
        """D's term of a (part of a) batch, by name; the second views join the queue when the step ends.

        Args:
            side: real or generated pictures.
            features_NCHW: D's, of the first view.
            slow_NCHW: from `slow_features`, of the second.
            owners_N: places of real pictures in the set: other views of one picture are not told apart.
        """
        same_NQ = None if owners_N is None else owners_N[:, None].float() == self.owners_Q
        loss, key_NE = self._contrast(side, features_NCHW, slow_NCHW, same_NQ=same_NQ)
        self._fresh[side].append((key_NE, owners_N))
        return {f"instance_{side}": self._weight * loss}

    def spread(self, features_NCHW: Tensor, slow_NCHW: Tensor) -> dict[str, Tensor]:
        """G's term, by name: its pictures shall be easy to tell apart. Source: Yang et al. 2021, Eq. 6."""
        loss, _ = self._contrast("fake", features_NCHW, slow_NCHW)
        return {"instance_generator": self._generator_weight * loss}

    def _contrast(
        self, side: Side, features_NCHW: Tensor, slow_NCHW: Tensor, *, same_NQ: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        head = self.heads[side]
        with torch.no_grad():
            prefix = f"{side}/"
            slow = {
                name.removeprefix(prefix).replace("/", "."): value
                for name, value in self.slow_heads.named_buffers()
                if name.startswith(prefix)
            }
            key_NE = cast("Tensor", functional_call(head, slow, (slow_NCHW,)))
        # The queue changes in place before the backward of a later loss may need it.
        queue_QE = self.get_buffer(f"{side}_QE").clone()
        return contrast(head(features_NCHW), key_NE, queue_QE, same_NQ=same_NQ), key_NE

    @torch.no_grad()
    def remember(self) -> None:
        """End a step of D: its second views go to the front of their queues, the oldest drop out."""
        for side, fresh in self._fresh.items():
            queue_QE = self.get_buffer(f"{side}_QE")
            size = len(queue_QE)
            queue_QE.copy_(torch.cat([*(keys for keys, _ in fresh), queue_QE])[:size])
            owners = [owners_N.float() for _, owners_N in fresh if owners_N is not None]
            if owners:
                self.owners_Q.copy_(torch.cat([*owners, self.owners_Q])[:size])
            fresh.clear()


def feature_channels(discriminator: nn.Module, *shapes: tuple[int, ...], labelled: bool) -> int:
    """How many channels D's features have, found without computing anything.

    Args:
        discriminator: on any device.
        shapes: of the pictures that a call takes.
        labelled: whether it takes labels.
    """
    weightless = copy.deepcopy(discriminator).to("meta")
    inputs = [torch.zeros(shape, device="meta") for shape in shapes]
    if labelled:
        inputs.append(torch.zeros(shapes[0][0], dtype=torch.int64, device="meta"))
    judged: Judgement = weightless(*inputs)
    return judged.features_NCHW.shape[1]


def perturbed(noise_NZ: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Latents near those of a batch, whose pictures are second views of its. Source: Yang et al. 2021, section 3.2."""
    more_NZ = torch.randn(noise_NZ.shape, device=noise_NZ.device, generator=generator)
    return noise_NZ + _PERTURBATION * more_NZ


def insgen_of(
    config: TrainingConfig, discriminator: nn.Module, *shapes: tuple[int, ...], labelled: bool
) -> dict[str, nn.Module]:
    """InsGen for a discriminator by its name among the networks; empty where the configuration has it off.

    Args:
        config: of the job.
        discriminator: with its first weights.
        shapes: as `feature_channels`, as the next.
        labelled: whether D takes labels.
    """
    if config.insgen == 0:
        return {}
    return {
        "insgen": InsGen(
            discriminator,
            channels=feature_channels(discriminator, *shapes, labelled=labelled),
            weight=config.insgen,
            generator_weight=config.insgen * config.insgen_generator,
            queue=config.insgen_queue,
        )
    }
