"""Intra-FID: what it sees, what its protocol says, and that trainings without classes know nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from core.errors import ConfigurationFailed
from core.metrics.backtracking_protocol import planned_backtracking
from core.metrics.evaluate import evaluate
from core.metrics.features import Features
from core.metrics.fid import fid
from core.metrics.intra import intra_fid
from core.metrics.measure import measure
from core.metrics.protocol import ClassedProtocol, MetricProtocol, counted_classes, planned_protocol
from core.metrics.reached import evaluate_backtracking
from core.metrics.real import RealPictures
from core.models.contract import PictureGenerator
from core.schemas.dcgan import DcganConfig
from core.schemas.evaluations import BacktrackingIn
from core.schemas.judging import EvaluationConfig
from core.schemas.sagan import SaganConfig
from core.schemas.ticks import EvaluationSpec
from core.training.classes import Classes
from core.training.deployed import DeployedGenerator, as_pixels
from core.training.families import family_of
from core.training.snapshot import write_generator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES = ("blue", "green", "red")
# Two classes of twelve pictures, and one of three.
LABELS = (0, 1) * 12 + (2,) * 3
COLOURS = torch.tensor([[-0.5, -0.5, 0.8], [-0.5, 0.8, -0.5], [0.8, -0.5, -0.5]])


class ByClass(DcganConfig):
    """A configuration that trains by class."""

    @property
    def needs_labels(self) -> bool:
        return True


class Painter(PictureGenerator):
    """Draws four tinted patches of a class's colour; `mixed_up` says which colour each label gets."""

    latent_size, resolution = 12, 64

    def __init__(self, *, mixed_up: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        self.colours = nn.Parameter(COLOURS[list(mixed_up)], requires_grad=False)

    def render(
        self,
        latent_NZ: Tensor,
        planes: Sequence[Tensor],
        *,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        del planes, truncation
        assert labels_N is not None
        patches_N322 = self.colours[labels_N][:, :, None, None] + 0.2 * latent_NZ.reshape(-1, 3, 2, 2)
        return nn.functional.interpolate(patches_N322, size=64, mode="bilinear").clamp(-1, 1)


def config(kind: type[DcganConfig] = ByClass, *, generated: int = 64) -> DcganConfig:
    evaluation = EvaluationConfig(
        extractor="vgg16", precision="fp32", generated=generated, lpips_pairs=8, copies=0
    )
    return kind(resolution=64, evaluation=evaluation)


def planned(labels: Sequence[int] | None = LABELS, *, names: Sequence[str] = NAMES) -> MetricProtocol:
    return planned_protocol(config(), image_count=len(LABELS), classes=names, labels=labels)


def painter(*, mixed_up: Sequence[int] = (0, 1, 2)) -> DeployedGenerator:
    return DeployedGenerator(
        Painter(mixed_up=mixed_up), config=config(), bank=None, classes=Classes.of(NAMES, LABELS)
    )


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    latents_MZ = torch.randn(len(LABELS), 12, generator=torch.Generator().manual_seed(5))
    return as_pixels(Painter().render(latents_MZ, [], labels_N=torch.tensor(LABELS)))


@pytest.fixture(scope="module")
def features(weights_dir: Path) -> Features:
    return Features(planned(), weights_dir=weights_dir, device="cpu")


def test_a_training_without_classes_has_the_protocol_that_it_had() -> None:
    plain = planned_protocol(config(DcganConfig), image_count=27)
    labelled = planned_protocol(config(DcganConfig), image_count=27, classes=NAMES, labels=LABELS)
    assert labelled == plain
    assert type(labelled) is MetricProtocol
    assert not [name for name in plain.model_dump() if "class" in name or "intra_" in name]


def test_the_protocol_of_a_training_by_class() -> None:
    protocol = planned()
    assert isinstance(protocol, ClassedProtocol)
    assert (protocol.intra_classes, protocol.intra_generated) == (2, 32)
    other_labels, other_names = planned(LABELS[::-1]), planned(names=("a", "b", "c"))
    assert len({one.hash() for one in (protocol, other_labels, other_names)}) == 3
    many = planned_protocol(
        config(generated=16),
        image_count=1_000,
        classes=[f"{n}" for n in range(100)],
        labels=[*range(100)] * 10,
    )
    assert isinstance(many, ClassedProtocol)
    assert (many.intra_classes, many.intra_generated) == (100, 16)


def test_small_classes_are_not_counted() -> None:
    assert counted_classes([3] * 10 + [1] * 9 + [0] * 11) == [0, 3]
    assert counted_classes([]) == []


def test_it_is_the_mean_of_the_classes_own_fids(features: Features, pictures: Tensor) -> None:
    protocol, generator = planned(), painter()
    assert isinstance(protocol, ClassedProtocol)
    real_MF = features.of(pictures)
    found = intra_fid(generator, protocol, features=features, real_MF=real_MF, labels=LABELS, classes=4)
    by_hand = []
    for label in (0, 1):
        drawn = generator.sample(seed=0, start=0, count=32, latents="plain", label=label)
        rows = [row for row, other in enumerate(LABELS) if other == label]
        by_hand.append(fid(features.of(drawn), real_MF[rows]))
    assert found["intra_fid_per_class"] == pytest.approx(by_hand, rel=1e-3)
    assert found["intra_fid"] == pytest.approx(sum(by_hand) / 2, rel=1e-3)
    assert found["intra_fid_classes"] == [0, 1]
    assert found["intra_fid_left_out"] == 2


def test_where_all_classes_are_small_it_is_missing(features: Features, pictures: Tensor) -> None:
    labels = [row % 9 for row in range(27)]
    protocol = planned(labels)
    assert isinstance(protocol, ClassedProtocol)
    found = intra_fid(
        painter(), protocol, features=features, real_MF=features.of(pictures), labels=labels, classes=9
    )
    assert found == {"intra_fid_left_out": 9}


@pytest.mark.parametrize("mode", ["deployed", "batch statistics of 16 pictures"])
def test_it_sees_pictures_under_the_wrong_label(
    mode: Literal["deployed", "batch statistics of 16 pictures"],
    features: Features,
    pictures: Tensor,
    evaluation_spec: EvaluationSpec,
    tmp_path: Path,
) -> None:
    protocol = planned().model_copy(update={"generator_mode": mode})
    spec = evaluation_spec.model_copy(
        update={"cache_dir": tmp_path, "dataset_hash": "patches", "classes": NAMES, "labels": LABELS}
    )
    real = RealPictures(spec, protocol, features=features, training_M3HW=pictures, held_out_H3HW=None)
    right, _ = measure(painter(), protocol, features=features, real=real)
    wrong, _ = measure(painter(mixed_up=(1, 0, 2)), protocol, features=features, real=real)
    for name in ("fid", "intra_fid"):
        assert isinstance(right[name], float)
    assert right["intra_fid_left_out"] == 1
    assert float(str(wrong["intra_fid"])) > 3 * float(str(right["intra_fid"]))
    assert float(str(wrong["fid"])) < 2 * float(str(right["fid"]))


def test_an_evaluation_of_a_generator_that_was_trained_by_class(
    evaluation_spec: EvaluationSpec, tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    (tmp_path / "images").mkdir()
    for number in range(20):
        colours = Image.fromarray(random.integers(0, 256, (5, 4, 3), dtype=np.uint8))
        colours.resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / "images" / f"{number:02}.png")
    evaluation = EvaluationConfig(extractor="vgg16", precision="fp32", generated=16, lpips_pairs=8, copies=0)
    by_class = SaganConfig(resolution=64, width=0.125, conditional=True, evaluation=evaluation)
    names, labels = ("a", "b", "c"), (0, 1) * 5 + (0,) * 5 + (1,) * 4 + (2,)
    torch.manual_seed(0)
    network = family_of(by_class).deployable(by_class, classes=3, spectral=False).eval().requires_grad_(False)
    trained = DeployedGenerator(network, config=by_class, bank=None, classes=Classes.of(names, labels))
    write_generator(tmp_path / "generator.safetensors", trained, images_seen=0)
    protocol = planned_protocol(by_class, image_count=20, classes=names, labels=labels)
    spec = evaluation_spec.model_copy(
        update={
            "generator": tmp_path / "generator.safetensors",
            "images_dir": tmp_path / "images",
            "cache_dir": tmp_path / "cache",
            "dataset_hash": "twenty",
            "config": by_class,
            "classes": names,
            "labels": labels,
            "protocol": protocol.model_dump(mode="json"),
        }
    )
    found = evaluate(EvaluationSpec.model_validate_json(spec.model_dump_json()))
    assert (found.metrics["intra_fid_classes"], found.metrics["intra_fid_left_out"]) == ([0], 2)
    assert found.metrics["intra_fid_per_class"] == [pytest.approx(found.metrics["intra_fid"], abs=1e-5)]
    assert found.protocol == protocol.model_dump(mode="json")
    with pytest.raises(ConfigurationFailed, match="classes_sha256"):
        evaluate(spec.model_copy(update={"labels": labels[::-1]}))
    reached = evaluate_backtracking(spec.model_copy(update={"protocol": _backtracking(by_class)}))
    assert len(reached.metrics["lpips_per_picture"]) == 4  # type: ignore[arg-type]  # a list


def _backtracking(by_class: SaganConfig) -> dict[str, object]:
    asked = BacktrackingIn(pictures=4, steps=10)
    return planned_backtracking(by_class, asked, image_count=20).model_dump(mode="json")
