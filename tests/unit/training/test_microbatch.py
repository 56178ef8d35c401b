from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from core.errors import OutOfMemory
from core.models.layers import SpectralConv2d
from core.schemas.ticks import FactsTick, SnapshotTick, StateTick, Tick, WarningTick
from core.training.checkpoint import load_state
from core.training.fakes import Fakes
from core.training.microbatch import replaying, split
from core.training.slaegan import Slaegan
from core.training.train import train
from core.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state, collect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from core.schemas.ticks import TrainingSpec
    from tests.unit.training.conftest import MakeSpec

pytestmark = pytest.mark.usefixtures("hasty_statistics")
CPU = torch.device("cpu")
SWITCHES: dict[str, Any] = {
    "coverage": 1.0,
    "coverage_pool": 2,
    "coverage_radius": 0.0,
    "lecam": 0.3,
    "lecam_start_iterations": 0,
    "apa_target": -0.99,
    "apa_images": 32,
    "adaptive_target": -0.99,
    "adaptive_images": 32,
}


@pytest.fixture
def _settled_norms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Batch normalisation by fixed numbers: what is left of a network treats each picture alone."""
    with monkeypatch.context() as patch:
        patch.setattr(nn.BatchNorm2d, "forward", lambda self, x: x * self.weight[:, None, None])
        yield


def gradients(spec: TrainingSpec, *, micro_batch: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Of both networks in one iteration, before their optimisers step, and the losses."""
    trainer = Trainer(
        spec.model_copy(update={"micro_batch": micro_batch}), emit=lambda _: None, check_stop=lambda: None
    )
    found = {}
    for name, optimiser in trainer._optimisers.items():
        for group in optimiser.param_groups:
            group["lr"] = 0.0  # so that G meets the same D, whatever D's last bits

        def keep(_optimiser: Any, _args: Any, _kwargs: Any, name: str = name) -> None:
            network = trainer._family.networks[name]
            found.update({f"{name}.{n}": p.grad for n, p in network.named_parameters() if p.grad is not None})

        optimiser.register_step_pre_hook(keep)
    trainer.iterate()
    losses = trainer._guard.means()
    vectors = {
        f"{name}.{n}": b
        for name, network in trainer._family.networks.items()
        for n, b in network.named_buffers()
        if n.endswith((".u", ".v"))
    }
    trainer.close()
    return found | vectors, losses


@pytest.mark.usefixtures("_settled_norms")
@pytest.mark.parametrize("micro_batch", [2, 3])
@pytest.mark.parametrize("switches", [{}, SWITCHES], ids=["plain", "switches"])
def test_parts_add_up_to_the_batch(
    make_spec: MakeSpec, tmp_path: Path, micro_batch: int, switches: dict[str, Any]
) -> None:
    """Same pictures, draws, losses, gradients and spectral vectors, where BN does not couple the pictures."""
    spec = make_spec(tmp_path / "run", batch=5, **switches)
    whole, whole_losses = gradients(spec, micro_batch=5)
    parts, losses = gradients(spec, micro_batch=micro_batch)
    assert parts.keys() == whole.keys()
    assert {"discriminator", "generator"} == {name.partition(".")[0] for name in whole}
    assert losses == pytest.approx(whole_losses, rel=1e-4, abs=1e-6)
    for name, gradient in whole.items():
        assert (parts[name] - gradient).abs().max() <= 1e-3 * gradient.abs().max() + 1e-7, name


def test_g_makes_the_same_pictures_again_and_moves_no_buffer(make_spec: MakeSpec, tmp_path: Path) -> None:
    trainer = Trainer(
        make_spec(tmp_path / "run", batch=6).model_copy(update={"micro_batch": 2}),
        emit=lambda _: None,
        check_stop=lambda: None,
    )
    family = trainer._family
    assert isinstance(family, Slaegan)
    rows, pictures = trainer._pictures.at(0)
    family.begin(pictures, rows_N=rows)
    assert family._now is not None
    fakes = family._now.fakes
    before = {name: buffer.clone() for name, buffer in family._generator.named_buffers()}
    for part in split(6, size=2):
        full, small = fakes.with_graph(part)
        assert full.requires_grad
        assert small.requires_grad
        torch.testing.assert_close(full, fakes.shown[0][part], rtol=0, atol=1e-4)
        torch.testing.assert_close(small, fakes.shown[1][part], rtol=0, atol=1e-4)
    assert not fakes.shown[0].requires_grad
    for name, buffer in family._generator.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert all(layer.training for layer in family._generator.modules())
    trainer.close()


def test_replaying_ends_when_its_work_fails() -> None:
    network = nn.Sequential(SpectralConv2d(3, 4, 3, spectral=True), nn.BatchNorm2d(4))

    def fail() -> None:
        with replaying(network):
            assert not network[0].training
            assert not network[1].track_running_stats
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network[0].training
    assert network[1].track_running_stats


@pytest.mark.parametrize("name", ["_made", "_discriminator_step", "_generator_step"])
def test_a_run_that_did_not_fit_is_the_run_in_micro_batches(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Wherever the memory ended, what follows is to the bit what a run in micro-batches is."""
    config: dict[str, Any] = {"batch": 4, "total_images": 12, "decoders": False, "metadata": False}
    direct = make_spec(tmp_path / "direct", **config).model_copy(update={"micro_batch": 2})
    expected = collect(direct)

    owner: type = Fakes if name == "_made" else Slaegan
    original = getattr(owner, name)

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._micro_batch > 2:
            torch.empty(2**60)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, fail)
    ticks = collect(make_spec(tmp_path / "run", **config))
    (warning,) = (tick for tick in ticks if isinstance(tick, WarningTick))
    assert warning.code == "out_of_memory"
    assert "4 pictures did not fit" in warning.message
    assert "micro-batches of 2" in warning.message
    assert [t.facts["micro_batch"] for t in ticks if isinstance(t, FactsTick)] == [4, 2]
    assert [t.images_seen for t in ticks if isinstance(t, SnapshotTick)] == [0, 4, 8, 12]
    assert_same_state(tmp_path / "run" / _state(ticks), tmp_path / "direct" / _state(expected))


def _state(ticks: list[Tick]) -> str:
    return [tick.state for tick in ticks if isinstance(tick, StateTick)][-1]


def test_it_goes_on_from_its_last_state_and_stays_with_its_micro_batches(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: dict[str, Any] = {"batch": 4, "decoders": False, "metadata": False, "checkpoint_every_images": 8}
    original, images = Slaegan.begin, []

    def fail_at_the_fifth(self: Any, *args: Any, **kwargs: Any) -> None:
        images.append(self._micro_batch)
        if len(images) == 5:
            torch.empty(2**60)
        original(self, *args, **kwargs)

    monkeypatch.setattr(Slaegan, "begin", fail_at_the_fifth)
    ticks = collect(make_spec(tmp_path / "run", total_images=24, **config))
    assert images == [4, 4, 4, 4, 4, 2, 2]
    (warning,) = (tick for tick in ticks if isinstance(tick, WarningTick))
    assert "from its last state" in warning.message
    assert warning.images_seen == 16
    resume = tmp_path / "run" / _state(ticks)
    more = collect(make_spec(tmp_path / "more", total_images=32, resume=resume, **config))
    assert load_state(tmp_path / "more" / _state(more), device=CPU)["micro_batch"] == 2
    assert images[7:] == [2, 2]


def test_what_fits_in_no_parts_is_told(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slaegan, "begin", lambda *_args, **_kwargs: torch.empty(2**60))
    ticks: list[Tick] = []
    spec = make_spec(tmp_path / "run", batch=6, decoders=False, metadata=False)
    with pytest.raises(OutOfMemory, match="Not even 2 pictures fit"):
        train(spec, emit=ticks.append, should_stop=lambda: False)
    assert [t.facts["micro_batch"] for t in ticks if isinstance(t, FactsTick)] == [6, 3, 2]
