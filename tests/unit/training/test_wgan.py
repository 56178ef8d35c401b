from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch._dynamo.backends.debugging import aot_eager

from core.models.dcgan import Discriminator
from core.schemas.wgan import WganConfig, WganGpConfig
from core.training.augment import flip
from core.training.families import build_networks
from core.training.family import Setting
from core.training.penalties import gradient_penalty
from core.training.rmsprop import RMSprop
from core.training.wgan import Wgan, WganGp, clip_weights

if TYPE_CHECKING:
    from core.schemas.wgan import WassersteinConfig
    from core.training.family import Phase
    from core.training.gan import Batch

CPU = torch.device("cpu")
TINY: dict[str, Any] = {"width": 4, "latent_size": 8, "batch": 4, "total_images": 1_000, "augmentation": ()}
LOGITS = torch.tensor([[-2.0], [0.5], [3.0]])


def family(
    config: WassersteinConfig, *, dtype: torch.dtype = torch.float32, micro_batch: int | None = None
) -> Any:
    kind = Wgan if isinstance(config, WganConfig) else WganGp
    setting = Setting(dtype=dtype, device=CPU, micro_batch=micro_batch or config.batch)
    return kind(config, networks=build_networks(config, device=CPU), setting=setting)  # type: ignore[arg-type]


def begin(trained: Any, config: WassersteinConfig) -> None:
    random = torch.Generator().manual_seed(4)
    pictures = torch.randint(0, 256, (config.shown, 3, 64, 64), dtype=torch.uint8, generator=random)
    trained.begin(pictures, rows_N=torch.arange(config.shown))


def phase_of(trained: Any, name: str) -> Phase:
    phase: Phase = next(phase for phase in trained.phases if phase.name == name)
    return phase


@pytest.mark.parametrize("config", [WganConfig(**TINY), WganGpConfig(**TINY)], ids=lambda c: c.family)
def test_losses_are_differences_of_means(config: WassersteinConfig) -> None:
    trained = family(config)
    assert trained.real_loss(LOGITS).item() == pytest.approx(-0.5)
    assert trained.fake_loss(LOGITS).item() == pytest.approx(0.5)
    assert trained.generator_loss(LOGITS).item() == pytest.approx(-0.5)
    for loss in (trained.real_loss, trained.fake_loss, trained.generator_loss):
        assert loss(LOGITS.bfloat16()).dtype == torch.float32


def test_the_best_critic_between_two_points_tells_their_distance() -> None:
    """Of slope at most one, on the line: W1 of a point at 0 and one at 3 is 3, as f(x) = -x says."""
    trained = family(WganConfig(**TINY))
    real, fake = torch.zeros(5, 1), torch.full((5, 1), 3.0)
    assert -(trained.real_loss(-real) + trained.fake_loss(-fake)).item() == pytest.approx(3)


@pytest.mark.parametrize("config", [WganConfig(**TINY), WganGpConfig(**TINY)], ids=lambda c: c.family)
def test_five_steps_of_the_critic_each_on_its_own_pictures(config: WassersteinConfig) -> None:
    trained = family(config)
    assert [(phase.name, phase.repeats) for phase in trained.phases] == [
        *(("discriminator", 5), ("generator", 1)),
    ]
    assert config.shown == 5 * config.batch
    begin(trained, config)
    shown = [trained.shown(repeat).real_N3HW for repeat in range(5)]
    assert len({tuple(pictures.flatten()[:50].tolist()) for pictures in shown}) == 5


@pytest.mark.parametrize("limit", [0.01, 0.003])
def test_clipping_bounds_all_weights_and_leaves_those_within(limit: float) -> None:
    torch.manual_seed(0)
    critic = Discriminator(WganConfig(**TINY))
    before = [parameter.detach().clone() for parameter in critic.parameters()]
    clip_weights(critic, limit=limit)
    for parameter, old in zip(critic.parameters(), before, strict=True):
        assert torch.equal(parameter, old.clamp(-limit, limit))
    assert any((old.abs() < limit).any() for old in before)
    assert any((old.abs() > limit).any() for old in before)


def test_clipping_leaves_frozen_weights_as_they_are() -> None:
    critic = Discriminator(WganConfig(**TINY))
    (frozen,) = critic.first_parts(1)
    frozen.requires_grad_(False)
    for parameter in critic.parameters():
        nn.init.ones_(parameter)
    clip_weights(critic, limit=0.25)
    assert all((parameter == 1).all() for parameter in frozen.parameters())
    assert all((parameter == 0.25).all() for parameter in critic.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("kind", [WganConfig, WganGpConfig])
@pytest.mark.parametrize(
    ("switch", "words"),
    [
        ({"adaptive_target": 0.6}, "adaptive_target is a mean sign"),
        ({"apa_target": 0.6}, "apa_target is a mean sign"),
        ({"pipeline": "ada"}, "pipeline ada is steered by the signs"),
    ],
)
def test_nothing_is_steered_by_a_critics_sign(
    kind: type[WassersteinConfig], switch: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        kind.model_validate(switch)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_networks_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the compiler takes them, without its machine code: G's and D's graphs run, and the penalty needs neither."""
    compiled, compile_ = [], torch.compile

    def without_codegen(called: Any, *, mode: str) -> Any:
        compiled.append((called.__name__, mode))
        return compile_(called, backend=counting, fullgraph=True)

    graphs = 0

    def counting(graph: Any, example_inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return aot_eager(graph, example_inputs)

    monkeypatch.setattr(torch, "compile", without_codegen)
    losses = {}
    for mode in ("off", "default"):
        config = WganGpConfig(**TINY, compile=mode)
        torch.manual_seed(0)
        trained = family(config)
        begin(trained, config)
        seen = losses[mode] = dict[str, float]()
        for phase in trained.phases:
            before = graphs
            told = trained.run(phase, repeat=0, backward=lambda loss: loss.backward())
            seen |= {name: loss.item() for name, loss in told.items()}
            assert (graphs - before > 0) == (mode == "default")
    assert compiled == [("_call_impl", "default"), ("render", "default")]
    assert losses["default"] == pytest.approx(losses["off"], rel=1e-4)


def test_pictures_lie_as_bytes_until_their_step() -> None:
    """Mirrored by the draws by which they would be mirrored as numbers."""
    config = WganGpConfig(**TINY)
    trained = family(config)
    random = torch.Generator().manual_seed(4)
    pictures = torch.randint(0, 256, (config.shown, 3, 64, 64), dtype=torch.uint8, generator=random)
    state = trained.sources.device.get_state()
    trained.begin(pictures, rows_N=torch.arange(config.shown))
    assert trained._real_NCHW.dtype == torch.uint8
    trained.sources.device.set_state(state)
    whole = flip(pictures.float() / 127.5 - 1, generator=trained.sources.device)
    for repeat in range(config.discriminator_steps):
        assert torch.equal(trained.real(repeat), whole[repeat * config.batch : (repeat + 1) * config.batch])


def test_each_step_of_the_critic_ends_clipped_and_the_generators_does_not() -> None:
    config = WganConfig(**TINY, learning_rate=0.1)
    trained = family(config)
    begin(trained, config)
    for name in ("discriminator", "generator"):
        phase = phase_of(trained, name)
        optimiser = trained.optimiser(phase)
        assert isinstance(optimiser, RMSprop)
        trained.run(phase, repeat=0, backward=lambda loss: loss.backward())
        optimiser.step()
        beyond = max(p.abs().max().item() for p in trained.networks[name].parameters())
        assert beyond > config.clip  # so large a step leaves the box
        trained.stepped(phase)
        after = max(p.abs().max().item() for p in trained.networks[name].parameters())
        assert after == (pytest.approx(config.clip) if name == "discriminator" else beyond)


def test_the_critic_learns_its_gradient_penalty() -> None:
    """What the step's backward leaves is the gradient of real, fake and penalty together."""
    config = WganGpConfig(**TINY, flips=False)
    trained = family(config)
    begin(trained, config)
    random = trained.sources.device.get_state()
    losses = trained.run(phase_of(trained, "discriminator"), repeat=0, backward=lambda loss: loss.backward())
    assert set(losses) == {"real", "fake", "gradient_penalty"}
    grads = [p.grad.clone() for p in trained.discriminator.parameters()]
    trained.discriminator.zero_grad()
    trained.sources.device.set_state(random)
    batch: Batch = trained.shown(0)
    critic = trained.discriminator
    penalty = gradient_penalty(
        lambda pictures: critic(pictures).logits_NK,
        real_NCHW=batch.real_N3HW,
        fake_NCHW=batch.fake_N3HW,
        weight=config.gradient_penalty,
        generator=trained.sources.device,
    )
    (critic(batch.fake_N3HW).logits_NK.mean() - critic(batch.real_N3HW).logits_NK.mean() + penalty).backward()
    assert losses["gradient_penalty"].item() == pytest.approx(penalty.item(), rel=1e-4)
    for parameter, grad in zip(critic.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-3, atol=1e-5)


def test_the_penalty_does_not_depend_on_the_type_of_the_networks() -> None:
    """The critic's part of it is float32; only G's pictures are rounded."""
    config = WganGpConfig(**TINY)
    exact, rounded = family(config), family(config, dtype=torch.bfloat16)
    begin(exact, config)
    batch = exact.shown(0)
    states = exact.sources.device.get_state()
    rounded.sources.device.set_state(states)
    with torch.autocast("cpu", torch.bfloat16):
        mine = rounded.penalties(batch)["gradient_penalty"]
    assert mine.dtype == torch.float32
    assert torch.equal(mine, exact.penalties(batch)["gradient_penalty"])


def test_half_batches_give_the_whole_batchs_gradient() -> None:
    """But for the draws of the points between, of which there are as many, in the same order."""
    config = WganGpConfig(**TINY, generator_norm="none")
    grads = []
    for micro_batch in (4, 2):
        trained = family(config, micro_batch=micro_batch)
        begin(trained, config)
        trained.run(phase_of(trained, "discriminator"), repeat=0, backward=lambda loss: loss.backward())
        grads.append([p.grad.clone() for p in trained.discriminator.parameters()])
    for whole, halves in zip(*grads, strict=True):
        torch.testing.assert_close(whole, halves, rtol=1e-3, atol=1e-5)


def test_a_critic_with_a_gradient_penalty_has_no_batch_normalisation() -> None:
    with pytest.raises(ValidationError, match="discriminator_norm"):
        WganGpConfig.model_validate({"discriminator_norm": "batch"})
    networks = build_networks(WganGpConfig(**TINY), device=CPU)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in networks["discriminator"].modules())


def test_without_weight_there_is_no_penalty() -> None:
    config = WganGpConfig(**TINY, gradient_penalty=0)
    trained = family(config)
    begin(trained, config)
    assert trained.penalties(trained.shown(0)) == {}
