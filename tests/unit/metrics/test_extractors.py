from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torchvision.models import alexnet, vgg16
from torchvision.transforms import functional

from core.errors import NonFinite, WeightsMissing
from core.metrics.extractors import extract, load_extractor
from core.metrics.fid import fid, kid
from core.metrics.networks import register
from core.metrics.protocol import MetricProtocol, planned_protocol
from core.models.alexnet import alexnet_features
from core.models.vgg import IMAGENET_DEVIATION, IMAGENET_MEAN, vgg16_features
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Pictures(Dataset[torch.Tensor]):
    def __init__(self, pictures: Tensor) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Tensor:
        return self._pictures[index]


def pictures(count: int, *, seed: int) -> Tensor:
    """Smooth colours rather than noise, so that features differ."""
    small = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=64, mode="bicubic").clamp(0, 1)
    return (large * 255).to(torch.uint8)


def protocol(
    *, extractor: str = "vgg16", precision: str = "fp32", weights_sha256: str | None = None
) -> MetricProtocol:
    evaluation = EvaluationConfig.model_validate(
        {"extractor": extractor, "precision": precision, "weights_sha256": weights_sha256}
    )
    return planned_protocol(SlaeganConfig(resolution=64, evaluation=evaluation), image_count=8)


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_features_are_those_of_torchvisions_network(weights_dir: Path, name: str, side: int) -> None:
    """VGG-16 takes small pictures as they are; all others come to 224 pixels."""
    stream = (
        pictures(3, seed=0)
        if side == 64
        else pictures(3, seed=0).repeat_interleave(4, 2).repeat_interleave(4, 3)
    )
    found = extract(load_extractor(protocol(extractor=name), weights_dir=weights_dir, device="cpu"), stream)
    with torch.device("meta"):
        theirs = vgg16(weights=None).features[:30] if name == "vgg16" else alexnet(weights=None).features[:12]
    ours = vgg16_features(weights_dir) if name == "vgg16" else alexnet_features(weights_dir)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    x = stream / 255
    if name == "alexnet" or side == 256:
        x = functional.resize(x, [224, 224], antialias=True)
    x = functional.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_DEVIATION))
    with torch.inference_mode():
        expected = theirs(x).mean(dim=(2, 3))
    assert found.shape == (3, 512 if name == "vgg16" else 256)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_bf16_stays_near_fp32(weights_dir: Path, name: str) -> None:
    stream = pictures(2, seed=0)
    exact, rough = (
        extract(
            load_extractor(
                protocol(extractor=name, precision=precision), weights_dir=weights_dir, device="cpu"
            ),
            stream,
        )
        for precision in ("fp32", "bf16")
    )
    assert 1e-5 < (rough - exact).norm() / exact.norm() < 0.02


def test_no_other_weights_than_the_planned_are_taken(tmp_path: Path) -> None:
    (tmp_path / "dinov2_vits14_pretrain.pth").write_bytes(b"not it")
    with pytest.raises(WeightsMissing, match=r"dinov2_vits14_pretrain\.pth"):
        load_extractor(
            protocol(extractor="dinov2_vits14", weights_sha256="0" * 64), weights_dir=tmp_path, device="cpu"
        )


class Averages(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity is untyped
    """Colours of an 8x8 grid: cheap features, by which the calculations are compared."""

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)

    def forward(self, pictures_N3HW: Tensor) -> tuple[Tensor]:
        return (torch.nn.functional.adaptive_avg_pool2d(pictures_N3HW / 255, 8).flatten(1),)

    @staticmethod
    def get_provided_features_list() -> tuple[str]:
        return ("averages",)

    @staticmethod
    def get_default_feature_layer_for_metric(_metric: str) -> str:
        return "averages"


def test_fid_and_kid_are_those_of_calculate_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = pictures(300, seed=1), pictures(90, seed=2)
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "averages", Averages)
    theirs = calculate_metrics(
        input1=Pictures(generated),
        input2=Pictures(real),
        feature_extractor="averages",
        fid=True,
        kid=True,
        kid_subsets=100,
        kid_subset_size=45,
        rng_seed=5,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    first, second = (Averages("averages", ["averages"])(stream)[0] for stream in (generated, real))
    assert fid(first, second) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    ours = kid(first, second, subsets=100, subset_size=45, seed=5)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3, abs=1e-7)
    assert ours.sd == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_registering_twice_is_once() -> None:
    register()
    register()


def test_missing_inception_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsMissing) as caught:
        load_extractor(protocol(extractor="inception_v3"), weights_dir=tmp_path, device="cpu")
    assert str(tmp_path) in caught.value.message
    assert "weights-inception-2015-12-05-6726825d.pth" in caught.value.message


def test_features_that_are_not_finite_are_refused(weights_dir: Path) -> None:
    extractor = load_extractor(protocol(), weights_dir=weights_dir, device="cpu")
    extractor.mean.fill_(float("nan"))
    with pytest.raises(NonFinite):
        extract(extractor, pictures(1, seed=0))
