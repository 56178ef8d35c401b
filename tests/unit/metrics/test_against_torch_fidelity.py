"""Our numbers are those of torch-fidelity's own command, on pictures in files and with the same weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_clip import CLIPVisual
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from core.files import sha256_of
from core.metrics.extractors import extract, extract_with_logits, load_extractor
from core.metrics.fid import fid, kid
from core.metrics.inception_score import inception_score
from core.metrics.protocol import MetricProtocol, planned_protocol
from core.schemas.judging import EvaluationConfig, Extractor
from core.schemas.slaegan import SlaeganConfig
from core.weights import CATALOGUE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

COUNT = 12


def pictures(*, seed: int) -> Tensor:
    """Smooth colours rather than noise, so that features differ."""
    small = torch.rand(COUNT, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=64, mode="bicubic").clamp(0, 1)
    return (large * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = {}
    for seed, name in enumerate(("input1", "input2")):
        folder = tmp_path_factory.mktemp(name)
        for number, picture in enumerate(pictures(seed=seed)):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{number:02}.png")
        made[name] = str(folder)
    return made


def theirs(extractor: str, path: Path, folders: dict[str, str], **wanted: bool) -> dict[str, float]:
    found: dict[str, float] = calculate_metrics(
        **folders,
        feature_extractor=extractor,
        feature_extractor_weights_path=str(path),
        kid_subset_size=COUNT // 2,
        rng_seed=5,
        fid=True,
        kid=True,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
        **wanted,
    )
    return found


def with_weights(extractor: Extractor, path: Path | None) -> MetricProtocol:
    """A protocol that names the weights of a file, which no release has published."""
    evaluation = EvaluationConfig(extractor=extractor, precision="fp32")
    planned = planned_protocol(SlaeganConfig(resolution=64, evaluation=evaluation), image_count=COUNT)
    return planned if path is None else planned.model_copy(update={"weights_sha256": sha256_of(path)})


def assert_equal(generated: Tensor, real: Tensor, expected: dict[str, float]) -> None:
    # The covariances of a few pictures have hundreds of zero eigenvalues, known to 1e-6 of their traces.
    traces = float(generated.double().var(dim=0).sum() + real.double().var(dim=0).sum())
    distance = expected["frechet_inception_distance"]
    assert distance > 1e-3 * traces, "random weights that see no difference would show nothing"
    assert abs(fid(generated, real) - distance) <= 1e-3 * abs(distance) + 1e-6 * traces
    ours = kid(generated, real, subsets=100, subset_size=COUNT // 2, seed=5)
    assert ours.mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-3, abs=1e-6)
    assert ours.sd == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-3, abs=1e-6)


class Random(FeatureExtractorInceptionV3):  # type: ignore[misc]  # torch-fidelity is untyped
    """The architecture with random weights."""

    def load_state_dict(self, *_: Any) -> None:
        """Draw them so that signals neither fade nor grow (He et al. 2015), and answers differ."""
        for layer in self.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.normal_(self.fc.weight, std=0.5)


def test_inception_with_any_weights(tmp_path: Path, folders: dict[str, str]) -> None:
    nothing, path = tmp_path / "nothing.pth", tmp_path / CATALOGUE["inception_v3"].files[0]
    torch.save({}, nothing)
    torch.manual_seed(0)
    network = Random("random", ["2048"], feature_extractor_weights_path=str(nothing))
    torch.save(network.state_dict(), path)
    protocol = with_weights("inception_v3", path)
    extractor = load_extractor(protocol, weights_dir=tmp_path, device="cpu")
    generated, logits = extract_with_logits(extractor, pictures(seed=0))
    real = extract(extractor, pictures(seed=1))
    expected = theirs("inception-v3-compat", path, folders, isc=True)
    assert_equal(generated, real, expected)
    assert logits is not None
    score = inception_score(logits, seed=5)
    assert score.mean == pytest.approx(expected["inception_score_mean"], rel=1e-3)
    assert score.sd == pytest.approx(expected["inception_score_std"], rel=1e-3)
    assert score.sd > 1e-3, "random weights that give one answer would show nothing"


class Clip(torch.nn.Module):
    """What a file of CLIP holds that torch-fidelity reads, a block deep."""

    def __init__(self) -> None:
        super().__init__()
        parts = CLIPVisual(
            embed_dim=32, image_resolution=224, vision_layers=1, vision_width=64, vision_patch_size=32
        )
        self.visual = parts.visual
        self.text_projection = torch.nn.Parameter(torch.zeros(8, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x) + self.text_projection.sum()


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is")  # in torch-fidelity's own command
def test_clip_with_any_weights(tmp_path: Path, folders: dict[str, str]) -> None:
    path = tmp_path / CATALOGUE["clip_vit_b_32"].files[0]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript, in which CLIP is published, has had its day
        torch.jit.save(torch.jit.trace(Clip(), torch.zeros(1, 3, 224, 224)), path)
    extractor = load_extractor(with_weights("clip_vit_b_32", path), weights_dir=tmp_path, device="cpu")
    generated, logits = extract_with_logits(extractor, pictures(seed=0))
    assert logits is None
    assert_equal(generated, extract(extractor, pictures(seed=1)), theirs("clip-vit-b-32", path, folders))


@pytest.mark.parametrize(
    ("extractor", "name"), [("vgg16", "slaegan-vgg16-relu5_3"), ("alexnet", "slaegan-alexnet-relu5")]
)
def test_networks_of_ours(
    weights_dir: Path, folders: dict[str, str], extractor: Extractor, name: str
) -> None:
    ours = load_extractor(with_weights(extractor, None), weights_dir=weights_dir, device="cpu")
    path = weights_dir / CATALOGUE[extractor].files[0]
    expected = theirs(name, path, folders)
    assert_equal(extract(ours, pictures(seed=0)), extract(ours, pictures(seed=1)), expected)
