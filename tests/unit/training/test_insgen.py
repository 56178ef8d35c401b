"""InsGen's loss, queues and slow copies, apart from a training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.contract import Judgement
from core.models.layers import SpectralConv2d, batch_norm
from core.training.insgen import InsGen, Projection, contrast, feature_channels
from core.training.microbatch import replaying

_EPS = 1e-5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def units(count: int, *, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 8, generator=seeded(seed)), dim=1)


class Small(nn.Module):
    """A discriminator with everything that a copy must think of: a spectral norm and a batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SpectralConv2d(3, 6, 3, padding=1, spectral=True)
        self.norm = batch_norm(6)
        self.last = nn.Conv2d(6, 1, 4)

    def forward(self, pictures_N3HW: Tensor, labels_N: Tensor | None = None) -> Judgement:
        del labels_N
        features = F.leaky_relu(self.norm(self.conv(pictures_N3HW)), 0.2)
        return Judgement(self.last(features).flatten(1), features)


def new(*, queue: int = 6) -> tuple[Small, InsGen]:
    torch.manual_seed(0)
    discriminator = Small().train()
    return discriminator, InsGen(discriminator, channels=6, weight=0.5, generator_weight=0.2, queue=queue)


def pictures(seed: int, *, count: int = 4) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=seeded(seed))


def test_the_loss_is_infonce() -> None:
    """By loops over plain numbers; the second query has two views of its own in the queue."""
    queries, keys, queue = units(3, seed=1), units(3, seed=2), units(5, seed=3)
    same = torch.zeros(3, 5, dtype=torch.bool)
    same[1, 0] = same[1, 3] = True
    total = 0.0
    for index in range(3):
        near = math.exp(
            sum(a * b for a, b in zip(queries[index].tolist(), keys[index].tolist(), strict=True)) / 0.2
        )
        far = 0.0
        for place in range(5):
            if not same[index, place]:
                product = sum(
                    a * b for a, b in zip(queries[index].tolist(), queue[place].tolist(), strict=True)
                )
                far += math.exp(product / 0.2)
        total -= math.log(near / (near + far)) / 3
    assert float(contrast(queries, keys, queue, same_NQ=same)) == pytest.approx(total, rel=1e-5)


def test_a_picture_alone_has_nothing_to_be_told_from() -> None:
    same = torch.ones(2, 5, dtype=torch.bool)
    assert contrast(units(2, seed=1), units(2, seed=2), units(5, seed=3), same_NQ=same) == 0


def test_gradients_flow_into_the_query_alone() -> None:
    query, key, queue = (torch.randn(4, 8, generator=seeded(s), requires_grad=True) for s in range(3))
    contrast(query, key, queue).backward()
    assert query.grad is not None
    assert query.grad.abs().sum() > 0
    assert key.grad is None
    assert queue.grad is None


def test_a_head_makes_unit_vectors_of_features_of_any_type() -> None:
    torch.manual_seed(0)
    made = Projection(6)(torch.randn(3, 6, 4, 4, generator=seeded()).bfloat16())
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.norm(dim=1), torch.ones(3))


def test_the_first_step_takes_the_discriminator_as_it_is() -> None:
    """And then the copy says what the discriminator says, and neither moves a buffer of it."""
    discriminator, insgen = new()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.add_(0.3)
    insgen.follow(discriminator)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    with torch.no_grad(), replaying(discriminator):
        slow = insgen.slow_features(discriminator, pictures(1))
        assert torch.equal(slow, discriminator(pictures(1)).features_NCHW)
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    assert all(not slow.requires_grad for slow in insgen.slow_discriminator.buffers())


def test_a_compiled_discriminator_has_a_copy_that_is_not() -> None:
    """The compiled code knows the discriminator's own parameters; the copy's features come from the copy's."""
    discriminator, insgen = new()
    insgen.follow(discriminator)
    before = discriminator(pictures(1)).features_NCHW.detach()
    discriminator.compile(backend="eager")
    with torch.no_grad():
        discriminator.norm.weight.add_(1.0)
    with torch.no_grad(), replaying(discriminator):
        torch.testing.assert_close(insgen.slow_features(discriminator, pictures(1)), before, rtol=0, atol=0.2)
        now = discriminator(pictures(1)).features_NCHW
    assert (now - before).abs().max() > 1


def test_the_copies_follow_by_the_recurrence() -> None:
    """own <- d own + (1 - d) D with d = min(0.999, t / (10 + t)), t steps before this one."""
    discriminator, insgen = new()
    own = 0.0
    for step in range(6):
        with torch.no_grad():
            discriminator.last.weight.fill_(step + 1.0)
        insgen.follow(discriminator)
        decay = step / (10 + step)
        own = decay * own + (1 - decay) * (step + 1.0)
        copied = insgen.slow_discriminator.get_buffer("last/weight")
        torch.testing.assert_close(copied, torch.full_like(copied, own), rtol=1e-6, atol=0)
    insgen.steps.fill_(1e6)
    insgen.follow(discriminator)
    own = 0.999 * own + 0.001 * 6.0
    torch.testing.assert_close(copied, torch.full_like(copied, own), rtol=1e-6, atol=0)


def test_second_views_go_to_the_front_of_the_queue() -> None:
    discriminator, insgen = new(queue=6)
    insgen.follow(discriminator)
    first = insgen.get_buffer("real_QE").clone()
    fakes = insgen.get_buffer("fake_QE").clone()
    features = discriminator(pictures(1)).features_NCHW.detach()
    owners = torch.tensor([7, 8, 9, 7])
    for rows in (slice(0, 3), slice(3, 4)):  # in parts
        insgen.tell_apart("real", features[rows], features[rows], owners_N=owners[rows])
    assert torch.equal(insgen.get_buffer("real_QE"), first)  # not before the step ends
    insgen.remember()
    keys = insgen.heads["real"](features)
    torch.testing.assert_close(insgen.get_buffer("real_QE"), torch.cat([keys, first[:2]]))
    assert insgen.owners_Q.tolist() == [7, 8, 9, 7, -1, -1]
    assert torch.equal(insgen.get_buffer("fake_QE"), fakes)
    insgen.tell_apart("real", features, features, owners_N=owners + 10)
    insgen.remember()
    assert insgen.owners_Q.tolist() == [17, 18, 19, 17, 7, 8]
    torch.testing.assert_close(insgen.get_buffer("real_QE"), torch.cat([keys, keys[:2]]))


def test_views_of_one_picture_are_not_told_apart() -> None:
    discriminator, insgen = new(queue=4)
    insgen.follow(discriminator)
    features = discriminator(pictures(1)).features_NCHW.detach()
    owners = torch.tensor([3, 3, 3, 3])
    insgen.tell_apart("real", features, features, owners_N=owners)
    insgen.remember()
    own = insgen.tell_apart("real", features, features, owners_N=owners)["instance_real"]
    other = insgen.tell_apart("real", features, features, owners_N=owners + 1)["instance_real"]
    assert own == 0
    assert other > 0.3


def test_its_weights_scale_its_terms() -> None:
    discriminator, insgen = new()
    insgen.follow(discriminator)
    features = discriminator(pictures(1)).features_NCHW
    told = insgen.tell_apart("fake", features, features)["instance_fake"]
    spread = insgen.spread(features, features)["instance_generator"]
    assert float(told.detach() / 0.5) == pytest.approx(float(spread.detach() / 0.2))
    told.backward()
    assert all(p.grad is not None for p in insgen.heads["fake"].parameters())
    assert all(p.grad is None for p in insgen.heads["real"].parameters())


def test_a_batch_larger_than_the_queue_fills_it() -> None:
    discriminator, insgen = new(queue=3)
    insgen.follow(discriminator)
    features = discriminator(pictures(1, count=5)).features_NCHW.detach()
    insgen.tell_apart("fake", features, features)
    insgen.remember()
    torch.testing.assert_close(insgen.get_buffer("fake_QE"), insgen.heads["fake"](features)[:3])


def test_the_features_channels_are_found_without_moving_anything() -> None:
    discriminator, _ = new()
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    assert feature_channels(discriminator, (2, 3, 8, 8), labelled=False) == 6
    assert feature_channels(discriminator, (2, 3, 8, 8), labelled=True) == 6
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
