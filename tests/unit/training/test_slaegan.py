"""The SLAE-GAN family in training: its steps, apart from the loop around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import FinishedTick, ProgressTick
from core.training.families import build_networks
from core.training.family import Setting
from core.training.perceptual import Lpips
from core.training.slaegan import Slaegan
from tests.unit.training.conftest import collect, of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.training.conftest import MakeSpec

pytestmark = pytest.mark.usefixtures("hasty_statistics")
SWITCHES: list[dict[str, Any]] = [
    {},
    {"attention": False, "metadata": False},
    {"metadata": False},
    {"attention": False},
    {"excitation": False},
    {"decoders": False},
    {"metadata_dropout": 0.0, "flips": False, "augmentation": (), "hinge_margin": "one", "ema": "constant"},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_trains(make_spec: MakeSpec, tmp_path: Path, switches: dict[str, Any]) -> None:
    ticks = collect(make_spec(tmp_path / "run", total_images=8, evaluate_every_images=100, **switches))
    losses = of(ProgressTick, ticks)[-1].losses
    assert ("reconstruction" in losses) == switches.get("decoders", True)
    assert isinstance(ticks[-1], FinishedTick)


@pytest.mark.parametrize("resolution", [64, 128, 256, 512, 1024])
def test_one_step_on_the_meta_device(resolution: int) -> None:
    """No tensor is made on a device of its own, at any size."""
    config = SlaeganConfig(resolution=resolution, width=0.125, batch=2, decoders=False, metadata=False)
    meta = torch.device("meta")
    with meta:
        networks = build_networks(config, device=meta)
        pictures = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8)
        rows = torch.arange(2)
    family = Slaegan(
        config,
        networks=networks,
        setting=Setting(dtype=torch.bfloat16, device=meta, micro_batch=config.batch),
    )
    family.begin(pictures, rows_N=rows)
    for phase in family.phases:
        losses = family.run(phase, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
        assert all(loss.is_meta for loss in losses.values())
        optimiser = torch.optim.Adam(networks[phase.name].parameters(), foreach=True)
        optimiser.step()
        assert all(p.grad is not None and p.grad.is_meta for p in networks[phase.name].parameters())


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # the compiler's own look
def test_compiled_networks_compute_the_same_losses(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole graphs of both networks, forward and backward, as the compiler takes them; its machine code left out."""
    modes = []

    def compile_without_codegen(self: nn.Module, *, mode: str) -> None:
        modes.append(mode)
        self._compiled_call_impl = torch.compile(self._call_impl, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(nn.Module, "compile", compile_without_codegen)
    config = {"total_images": 2, "decoders": False}
    plain, compiled = (
        of(ProgressTick, collect(make_spec(tmp_path / mode, compile=mode, **config)))[0].losses
        for mode in ("off", "default")
    )
    assert modes == ["default", "default"]
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_the_second_decoder_shares_the_first_ones_target(weights_dir: Path) -> None:
    """The three decoders' LPIPS in one call are the three calls it stands for."""
    torch.manual_seed(0)
    perceptual = Lpips(weights_dir)
    config = SlaeganConfig(resolution=64, width=0.125)
    networks = build_networks(config, device=torch.device("cpu"))
    family = Slaegan(
        config,
        networks=networks,
        setting=Setting(
            perceptual=perceptual, dtype=torch.float32, device=torch.device("cpu"), micro_batch=config.batch
        ),
    )
    family.begin(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), rows_N=torch.arange(2))
    now = family._now
    assert now is not None
    decoded = tuple(torch.rand(2, 3, 32, 32) * 2 - 1 for _ in range(3))
    quarter = now.real_N3HW[:, :, 32:, :32]
    targets = (now.small_N3HW, now.small_N3HW, quarter)
    expected = sum(8 * perceptual(mine, target).mean() for mine, target in zip(decoded, targets, strict=True))
    torch.testing.assert_close(
        family._reconstruction(decoded, now.real_N3HW, now.small_N3HW, quadrant=2), expected
    )
