from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from core.errors import ConfigurationFailed
from core.schemas.codes import CodesConfig
from core.schemas.ticks import ProgressTick, SnapshotTick, StateTick
from core.training.codes import Codes
from core.training.families import build_networks
from core.training.family import Setting
from core.training.snapshot import load_generator
from core.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state, collect, of

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.ticks import TrainingSpec
    from tests.unit.training.conftest import MakeSpec

pytestmark = pytest.mark.usefixtures("hasty_statistics")
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "resolution": 64,
    "batch": 2,
    "precision": "fp32",
    "pair": "dcgan",
    "pair_settings": {"width": 4, "latent_size": 8},
    "autoencoder_channels": 4,
    "autoencoder_images": 8,
    "total_images": 16,
}


def config_of(**more: Any) -> CodesConfig:
    return CodesConfig.model_validate(SMALL | more)


@pytest.fixture
def spec_of(make_spec: MakeSpec, tmp_path: Path) -> Any:
    def make(name: str, *, resume: Path | None = None, init_from: Path | None = None, **more: Any) -> Any:
        update = {"config": config_of(**more), "init_from": init_from}
        return make_spec(tmp_path / name, resume=resume).model_copy(update=update)

    return make


def trainer_of(spec: TrainingSpec) -> Trainer:
    return Trainer(spec, emit=lambda _tick: None, check_stop=lambda: None)


def weights(trainer: Trainer, prefix: str) -> dict[str, torch.Tensor]:
    state = trainer._family.networks["generator"].state_dict()
    return {name: value.clone() for name, value in state.items() if name.startswith(prefix)}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(value, after[name]) for name, value in before.items())


def test_the_pair_rests_in_stage_one_and_the_autoencoder_in_stage_two(spec_of: Any) -> None:
    trainer = trainer_of(spec_of("run"))
    coder, pair = weights(trainer, "encoder") | weights(trainer, "decoder"), weights(trainer, "pair")
    for _ in range(4):
        trainer.iterate()
    between = weights(trainer, "encoder") | weights(trainer, "decoder")
    assert moved(coder, between)
    assert not moved(pair, weights(trainer, "pair"))
    for _ in range(4):
        trainer.iterate()
    assert not moved(between, weights(trainer, "encoder") | weights(trainer, "decoder"))
    assert moved(pair, weights(trainer, "pair"))


def test_each_stage_tells_its_own_losses(spec_of: Any) -> None:
    told = of(ProgressTick, collect(spec_of("run")))
    first, second = told[1].losses.keys(), told[-1].losses.keys()
    assert [tick.images_seen for tick in told] == [2, 8, 16]
    assert {"l1", "adversarial", "picture_real", "picture_fake"} == first
    assert {"real", "fake", "generator"} == second


def test_the_average_decodes_as_the_codes_were_made(spec_of: Any) -> None:
    """The encoder's last weights make the codes, so the averaged decoder must soon be the decoder itself."""
    trainer = trainer_of(spec_of("run", total_images=100))
    for _ in range(16):
        trainer.iterate()
    own = weights(trainer, "decoder")
    for name, value in own.items():
        torch.testing.assert_close(trainer._ema.average[name], value, atol=1e-4, rtol=1e-4)


def test_the_discriminator_sees_codes_of_the_pictures_of_each_step() -> None:
    config = config_of(discriminator_steps=2, flips=False)
    networks = build_networks(config, device=CPU)
    codes = Codes(config, networks=networks, setting=Setting(dtype=torch.float32, device=CPU, micro_batch=2))
    pictures = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    codes.begin(pictures, rows_N=torch.arange(4))
    codes._show_codes()
    expected = codes._encoder(pictures.float() / 127.5 - 1).detach()
    for repeat in range(2):
        shown = codes._pair.real(repeat)  # type: ignore[attr-defined]  # of Gan
        torch.testing.assert_close(shown, expected[2 * repeat : 2 * repeat + 2])


def test_a_run_resumes_in_stage_one_to_the_bit(spec_of: Any) -> None:
    counts = {"evaluate_every_images": 16, "checkpoint_every_images": 4}
    whole = spec_of("whole", **counts)
    states = of(StateTick, collect(whole))
    again = spec_of("again", resume=whole.work_dir / states[0].state, **counts)
    resumed = of(StateTick, collect(again))
    assert [tick.images_seen for tick in states] == [4, 8, 12, 16]
    assert_same_state(whole.work_dir / states[-1].state, again.work_dir / resumed[-1].state)


@pytest.mark.parametrize("kind", ["state", "generator"])
@pytest.mark.parametrize("autoencoder", ["reuse", "tune"])
def test_an_autoencoder_goes_on_to_another_resolution_and_pair(
    kind: str, autoencoder: str, spec_of: Any
) -> None:
    first = spec_of("first")
    ticks = collect(first)
    name = of(StateTick, ticks)[-1].state if kind == "state" else of(SnapshotTick, ticks)[-1].generator
    later = {"resolution": 128, "pair_settings": {"width": 8, "latent_size": 4}, "autoencoder": autoencoder}
    second = trainer_of(spec_of("second", init_from=first.work_dir / name, **later))
    taken = weights(second, "encoder") | weights(second, "decoder")
    alone = trainer_of(spec_of("alone", **later | {"autoencoder": "train"}))
    assert moved(taken, weights(alone, "encoder") | weights(alone, "decoder"))
    assert not moved(weights(second, "pair"), weights(alone, "pair"))
    second.iterate()
    assert moved(taken, weights(second, "encoder") | weights(second, "decoder")) == (autoencoder == "tune")
    assert ("picture_discriminator" in second._family.networks) == (autoencoder == "tune")


def test_reuse_without_a_checkpoint_and_of_other_codes_is_refused(spec_of: Any) -> None:
    with pytest.raises(ConfigurationFailed, match="begins from a checkpoint"):
        trainer_of(spec_of("none", autoencoder="reuse"))
    first = spec_of("first")
    state = first.work_dir / of(StateTick, collect(first))[-1].state
    with pytest.raises(ConfigurationFailed, match="code_factor was 4, is 2"):
        trainer_of(spec_of("other", init_from=state, autoencoder="reuse", code_factor=2))


def test_without_an_adversarial_loss_there_is_no_picture_discriminator(spec_of: Any) -> None:
    trainer = trainer_of(spec_of("run", adversarial=0.0, autoencoder_crops=True))
    assert "picture_discriminator" not in trainer._family.networks
    for _ in range(5):
        trainer.iterate()
    assert "adversarial" not in trainer._guard.means()


@pytest.mark.parametrize(
    "settings",
    [
        {"pair": "wgan_gp", "pair_settings": {"width": 4, "latent_size": 8}, "discriminator_steps": 2},
        {
            "pair": "stylegan2",
            "pair_settings": {"channel_base": 64, "channel_max": 8, "latent_size": 8, "mapping_layers": 2},
        },
        {"pair": "sagan", "pair_settings": {"width": 0.125}},
        {"pair": "slaegan", "pair_settings": {"width": 0.125}, "code_factor": 2},
    ],
    ids=["wgan_gp", "stylegan2", "sagan", "slaegan"],
)
def test_any_pair_learns_codes(settings: dict[str, Any], spec_of: Any) -> None:
    spec = spec_of("run", **settings)
    ticks = collect(spec)
    assert of(SnapshotTick, ticks)[-1].images_seen == 16
    deployed = load_generator(spec.work_dir / of(SnapshotTick, ticks)[-1].generator)
    assert deployed.sample(seed=0, start=0, count=2, truncation=0.7).shape == (2, 3, 64, 64)


def test_slaegan_needs_codes_of_32() -> None:
    with pytest.raises(ValueError, match="too small for slaegan"):
        config_of(pair="slaegan", pair_settings={})
