from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from core.models.contract import Judgement
from core.models.stylegan2 import Discriminator, Generator
from core.schemas.stylegan2 import Stylegan2Config
from core.schemas.ticks import SnapshotTick, StateTick
from core.training.checkpoint import load_state
from core.training.family import Setting
from core.training.snapshot import load_generator
from core.training.stylegan2 import MixedLatents, Stylegan2
from core.training.stylegan2_losses import PathLength, mixed, path_lengths, r1
from core.training.trainer import Trainer
from tests.unit.training.conftest import collect, of

if TYPE_CHECKING:
    from pathlib import Path

    from core.training.family import Phase
    from tests.unit.training.conftest import MakeSpec

CPU = torch.device("cpu")


def tiny(**changes: object) -> Stylegan2Config:
    fields = {"resolution": 64, "channel_base": 256, "channel_max": 8, "latent_size": 8, "mapping_layers": 2}
    return Stylegan2Config.model_validate(fields | {"batch": 4, "total_images": 400} | changes)


def family(config: Stylegan2Config, *, micro_batch: int = 4, classes: int = 0) -> Stylegan2:
    torch.manual_seed(0)
    networks = {name: network.train() for name, network in Stylegan2.build(config, classes=classes).items()}
    labels = torch.arange(6) % classes if classes else None
    setting = Setting(dtype=torch.float32, device=CPU, micro_batch=micro_batch, labels_M=labels)
    made = Stylegan2(config, networks=networks, setting=setting)
    count = config.shown
    pictures = torch.randint(
        0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    made.begin(pictures, rows_N=torch.arange(count) % 6)
    return made


def losses_of(made: Stylegan2, name: str) -> dict[str, torch.Tensor]:
    made.networks["path"].steps.fill_(1)  # as if there were a mean, of 0
    return made.run(named(made, name), repeat=0, backward=torch.Tensor.backward)


def named(made: Stylegan2, name: str) -> Phase:
    return next(phase for phase in made.phases if phase.name == name)


def gradients(made: Stylegan2, network: str) -> dict[str, torch.Tensor]:
    found = made.networks[network].named_parameters()
    return {name: p.grad.clone() for name, p in found if p.grad is not None}


def test_r1_of_a_linear_discriminator_is_half_gamma_times_its_squared_weight() -> None:
    weight = torch.randn(3, 5, 5, requires_grad=True)

    def judge(x: torch.Tensor, _labels: torch.Tensor | None) -> Judgement:
        return Judgement((x * weight).sum(dim=(1, 2, 3))[:, None], x)

    loss = r1(judge, torch.randn(7, 3, 5, 5), gamma=3.0)
    torch.testing.assert_close(loss, 1.5 * weight.square().sum())
    loss.backward()
    torch.testing.assert_close(weight.grad, 3.0 * weight.detach())


def test_r1_is_a_mean_over_pictures() -> None:
    """Of D(x) = |x|^2 / 2 the gradient is x itself."""
    real = torch.randn(4, 3, 5, 5)
    loss = r1(
        lambda x, _: Judgement(x.square().sum(dim=(1, 2, 3), keepdim=True)[:, 0, 0] / 2, x), real, gamma=2.0
    )
    torch.testing.assert_close(loss, real.square().sum(dim=(1, 2, 3)).mean())


def test_path_length_of_a_linear_generator() -> None:
    """Pictures A w, the same at all of the places: the length is |A^T y| / sqrt(pixels), whatever w is."""
    torch.manual_seed(0)
    places, matrix = 4, torch.randn(3 * 5 * 5, 6, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(2, places, 6, dtype=torch.float64, requires_grad=True)
    pictures = (styles.sum(dim=1) @ matrix.T).view(2, 3, 5, 5)
    directions = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    lengths = path_lengths(pictures, styles, directions_NCHW=directions)
    expected = (directions.flatten(1) @ matrix.detach()).norm(dim=1) / 5
    torch.testing.assert_close(lengths, expected)
    lengths.sum().backward()
    assert matrix.grad is not None
    assert matrix.grad.abs().sum() > 0


def test_the_mean_length_is_a_constant_in_the_penalty() -> None:
    path, lengths = PathLength(), torch.tensor([1.0, 3.0], requires_grad=True)
    assert path(lengths).item() == 0  # there is no mean yet
    path.follow(torch.tensor([2.5, 1.5]))
    assert path(lengths).item() == 1.0
    path(lengths).backward()
    torch.testing.assert_close(lengths.grad, torch.tensor([-1.0, 1.0]))
    assert not list(path.parameters())


def test_the_mean_length_is_plain_at_first_and_then_forgets() -> None:
    path = PathLength()
    for step in range(1, 101):
        path.follow(torch.tensor([step - 1.0, step + 1.0]))
        assert path.mean.item() == pytest.approx((step + 1) / 2)
    path.follow(torch.tensor([150.5]))
    assert path.mean.item() == pytest.approx(51.5)


def test_styles_change_at_their_place() -> None:
    own, other = torch.zeros(3, 2), torch.ones(3, 2)
    styles = mixed(own, other, first_N=torch.tensor([1, 3, 4]), places=4)
    assert styles[:, :, 0].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert styles.shape == (3, 4, 2)


def test_so_many_latents_are_mixed() -> None:
    made = family(tiny(batch=256, total_images=256))
    latents = made.draw_latents(None)
    places = made.generator.styled_places
    mixes = latents.first_N < places
    assert mixes.float().mean().item() == pytest.approx(0.9, abs=0.06)
    assert set(latents.first_N[mixes].tolist()) == set(range(1, places))
    never = family(tiny(style_mixing=0.0)).draw_latents(None)
    assert never.first_N.tolist() == [places] * 4
    some = latents.rows(slice(2, 5))
    assert isinstance(some, MixedLatents)
    assert torch.equal(some.noise_NZ, latents.noise_NZ[2:5])
    assert torch.equal(some.others_NZ, latents.others_NZ[2:5])
    assert torch.equal(some.first_N, latents.first_N[2:5])


def test_phases_and_their_optimisers() -> None:
    made = family(tiny())
    assert [(phase.name, phase.every, phase.shares) for phase in made.phases] == [
        ("discriminator", 1, None),
        ("r1", 16, "discriminator"),
        ("generator", 1, None),
        ("path", 8, "generator"),
    ]
    for name, every in (("discriminator", 16), ("generator", 8)):
        group, noise = made.optimiser(named(made, name)).param_groups
        assert noise["lr"] == pytest.approx(group["lr"] * made.config.noise_rate)
        assert len(noise["params"]) == (9 if name == "generator" else 0)
        share = every / (every + 1)
        assert group["lr"] == pytest.approx(made.config.learning_rate * share)
        assert group["betas"] == (0.0, pytest.approx(0.99**share))
        assert group["eps"] == 1e-8
    bare = family(tiny(r1_gamma=0.0, path_weight=0.0))
    assert [phase.name for phase in bare.phases] == ["discriminator", "generator"]
    group, _ = bare.optimiser(bare.phases[0]).param_groups
    assert (group["lr"], group["betas"]) == (made.config.learning_rate, (0.0, 0.99))


def test_gamma_follows_the_heuristic() -> None:
    assert tiny(batch=8).r1_gamma == pytest.approx(0.0002 * 64**2 / 8)
    assert tiny(resolution=256, batch=32).r1_gamma == pytest.approx(0.4096)
    assert tiny(r1_gamma=10).r1_gamma == 10


def test_lazy_penalties_count_for_all_the_iterations_between_and_are_told_for_one() -> None:
    for name, field in (("r1", "r1_every"), ("path", "path_every")):
        told, meant = [], []
        for every in (1, 5):
            made = family(tiny(**{field: every}))
            made.networks["path"].steps.fill_(1)  # as if there were a mean, of 0
            shown: list[torch.Tensor] = []
            losses = made.run(named(made, name), repeat=0, backward=shown.append)
            told.append(losses[name].item())
            meant.append(sum(loss.item() for loss in shown))
        assert told[0] > 0
        assert told[0] == pytest.approx(told[1])
        assert meant[1] == pytest.approx(5 * meant[0])


def test_penalties_move_their_own_network_alone() -> None:
    for name, mine, other in (("r1", "discriminator", "generator"), ("path", "generator", "discriminator")):
        made = family(tiny())
        losses_of(made, name)
        grads = gradients(made, mine)
        assert max(float(grad.abs().max()) for grad in grads.values()) > 0
        assert all(torch.isfinite(grad).all() for grad in grads.values())
        assert not gradients(made, other)


@pytest.mark.parametrize("name", ["r1", "path"])
def test_second_derivatives_against_differences(name: str) -> None:
    """Along a random direction of all weights, in float64, the penalty's slope is the difference quotient."""
    config = tiny()
    torch.manual_seed(0)
    generator, discriminator = Generator(config).double(), Discriminator(config).double()
    real, latent = torch.rand(4, 3, 64, 64).double(), torch.randn(4, 8).double()
    planes = generator.draw_noises(latent, generator=None)
    network = discriminator if name == "r1" else generator
    parameters = list(network.parameters())
    directions = [torch.randn_like(p) for p in parameters]

    def penalty() -> torch.Tensor:
        if name == "r1":
            return r1(discriminator, real, gamma=1.0)
        styles = generator.styles(latent)[:, None].repeat(1, generator.styled_places, 1)
        pictures = generator.synthesise(styles, planes)
        return path_lengths(pictures, styles, directions_NCHW=real).square().mean()

    slopes = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    slope = sum(float((s * d).sum()) for s, d in zip(slopes, directions, strict=True) if s is not None)
    values = []
    for shift in (1e-9, -2e-9):
        torch._foreach_add_([p.data for p in parameters], directions, alpha=shift)
        values.append(penalty().item())
    assert (values[0] - values[1]) / 2e-9 == pytest.approx(slope, rel=1e-3)


def test_path_length_in_micro_batches_is_that_of_the_whole() -> None:
    whole, parted = family(tiny()), family(tiny(), micro_batch=1)
    assert losses_of(whole, "path")["path"].item() == pytest.approx(losses_of(parted, "path")["path"].item())
    assert whole.networks["path"].mean.item() == pytest.approx(parted.networks["path"].mean.item())
    theirs = gradients(parted, "generator")
    for key, grad in gradients(whole, "generator").items():
        torch.testing.assert_close(grad, theirs[key], rtol=1e-3, atol=1e-5)


def test_the_mean_style_follows_in_the_generators_step_alone() -> None:
    made = family(tiny())
    losses_of(made, "discriminator")
    losses_of(made, "r1")
    losses_of(made, "path")
    assert not made.generator.mean_style.any()
    losses_of(made, "generator")
    assert made.generator.mean_style.any()


def test_frozen_parts_do_not_learn_and_are_penalised_through() -> None:
    made = family(tiny(freeze_discriminator=2))
    frozen = {id(p) for part in made.judge.first_parts(2) for p in part.parameters()}
    for name in ("discriminator", "r1"):
        losses_of(made, name)
    for parameter in made.networks["discriminator"].parameters():
        assert (id(parameter) in frozen) == (not parameter.requires_grad)
        assert (id(parameter) in frozen) == (parameter.grad is None)


def test_by_class() -> None:
    made = family(tiny(conditional=True), classes=3)
    for phase in made.phases:
        assert all(torch.isfinite(loss) for loss in losses_of(made, phase.name).values())
    for network in ("generator", "discriminator"):
        assert any("embedding" in name for name in gradients(made, network))


def test_the_average_halves_over_its_half_life() -> None:
    made = family(tiny(batch=10, ema_half_life_images=1000, total_images=100))
    assert made.average_decay(0) == 0.0
    assert made.average_decay(20) == pytest.approx(0.5 ** (10 / 10))  # 200 pictures seen, a twentieth of them
    assert made.average_decay(10**6) ** 100 == pytest.approx(0.5)
    constant = family(tiny(batch=10, ema_half_life_images=1000, total_images=100, ema="constant"))
    assert constant.average_decay(0) == constant.average_decay(10**6)
    assert math.log(0.5, constant.average_decay(0)) == pytest.approx(100)


def test_fine_tuning_from_a_state_with_frozen_parts(make_spec: MakeSpec, tmp_path: Path) -> None:
    config = tiny(batch=2, total_images=4, precision="fp32")
    first = make_spec(tmp_path / "first").model_copy(update={"config": config})
    state = first.work_dir / of(StateTick, collect(first))[-1].state
    tuned = config.model_copy(update={"freeze_discriminator": 2, "seed": 7, "total_images": 40})
    second = make_spec(tmp_path / "second").model_copy(update={"config": tuned, "init_from": state})
    trainer = Trainer(second, emit=lambda _tick: None, check_stop=lambda: None)
    saved, networks = load_state(state, device=CPU), trainer._family.networks
    for name, parameter in networks["generator"].named_parameters():
        assert torch.equal(parameter, saved["average"][name]), name
    for _ in range(2):  # the first takes both penalties' steps as well
        trainer.iterate()
    trainer.close()
    learned = {
        name
        for name, parameter in networks["discriminator"].named_parameters()
        if not torch.equal(parameter, saved["networks"]["discriminator"][name])
    }
    kept = {name for name, _ in networks["discriminator"].named_parameters()} - learned
    assert kept == {
        name
        for name, _ in networks["discriminator"].named_parameters()
        if name.startswith(("stem.", "blocks.0."))
    }


def test_a_checkpoint_knows_classes_and_truncation(make_spec: MakeSpec, tmp_path: Path) -> None:
    config = tiny(batch=2, total_images=8, precision="fp32", conditional=True)
    spec = make_spec(tmp_path / "run").model_copy(
        update={"config": config, "labels": (0, 1, 2, 0, 1, 2), "classes": ("a", "b", "c")}
    )
    deployed = load_generator(spec.work_dir / of(SnapshotTick, collect(spec))[-1].generator)
    assert deployed.network.mean_style.any()
    plain, others = (deployed.sample(seed=0, start=0, count=4, label=label) for label in (0, 1))
    assert not torch.equal(plain, others)
    mean = deployed.sample(seed=0, start=0, count=4, truncation=0.0, label=0)
    near = deployed.sample(seed=0, start=0, count=4, truncation=0.5, label=0)
    apart = [(some.float() - mean.float()).abs().mean() for some in (near, plain)]
    assert 0 < apart[0] < apart[1]
