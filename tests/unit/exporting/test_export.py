from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import ConfigurationFailed
from core.exporting import export
from core.exporting.formats import FORMATS
from core.files import sha256_of
from core.schemas.families import FAMILIES
from core.schemas.generations import ExportIn, PicturesIn
from tests.unit.generation.deployed_files import Rendered, richest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.schemas.generations import ExportFormat
    from core.schemas.ticks import RenderedTick

EXAMPLES = Path(__file__).parents[3] / "examples"
pytestmark = pytest.mark.filterwarnings(
    # The exporter's own imports and copies, of which nobody here has any choice.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Exports:
    """Generators by their families, and each one's exports, made once."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._made: dict[str, Rendered] = {}
        self._exported: dict[tuple[str, str], tuple[RenderedTick, Path]] = {}

    def of(self, family: str) -> Rendered:
        if family not in self._made:
            self._made[family] = Rendered(self._folders.mktemp(family), richest(family))
        return self._made[family]

    def exported(self, family: str, kind: ExportFormat) -> tuple[RenderedTick, Path]:
        if (family, kind) not in self._exported:
            self._exported[family, kind] = self.of(family)(ExportIn(format=kind))
        return self._exported[family, kind]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(tmp_path_factory)


# Operations that each format must know: what is left out has the same networks, and ONNX is made of a program.
EXPORTED = [
    *(("safetensors", family) for family in FAMILIES),
    *(("torch_export", family) for family in ("slaegan", "codes")),
    *(("onnx", family) for family in ("slaegan", "sagan", "stylegan2", "wgan_gp")),
]


@pytest.mark.parametrize(("kind", "family"), EXPORTED)
def test_a_file_makes_the_same_pictures_in_its_own_runtime(
    kind: ExportFormat, family: str, exports: Exports
) -> None:
    rendered = exports.of(family)
    tick, folder = exports.exported(family, kind)
    (file,) = tick.files
    assert file.name == f"generator.{FORMATS[kind].suffix}"
    assert file.sha256 == sha256_of(folder / file.name)
    assert tick.facts["largest_difference"] <= 1e-4
    assert tick.facts.get("opset") == (20 if kind == "onnx" else None)
    # Other numbers of pictures than it was traced with, one among them.
    generator = rendered.generators.of(rendered.file, device="cpu")
    compute = FORMATS[kind].load(folder / file.name, generator)
    for seeds in ([11], [11, 12, 13]):
        difference = (compute(seeds) - generator.render_seeds(seeds)).abs().max()
        assert difference <= 1e-4
    assert generator.render_seeds([11]).std() > 0.01, "it is no plain ground"


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("generate_onnx.py", "onnx"),
        ("generate_torch_export.py", "torch_export"),
        ("generate_safetensors.py", "safetensors"),
    ],
)
def test_the_standalone_script_draws_the_services_pictures(
    script: str, kind: ExportFormat, exports: Exports, tmp_path: Path
) -> None:
    rendered = exports.of("slaegan")
    _, folder = exports.exported("slaegan", kind)
    shutil.copy(EXAMPLES / script, tmp_path)
    # Away from this project: only the script for weights is given the way to its networks.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if kind == "safetensors":
        environment["PYTHONPATH"] = str(EXAMPLES.parent)
    file = folder / f"generator.{FORMATS[kind].suffix}"
    command = [sys.executable, "-P", script, str(file), "40", "grid.png"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    _, made = rendered(PicturesIn(seed=40, count=16, form="grid"))
    with Image.open(tmp_path / "grid.png") as theirs, Image.open(made / "grid.png") as ours:
        difference = np.asarray(theirs).astype(int) - np.asarray(ours)
    assert abs(difference).max() <= 1


def test_a_file_that_makes_other_pictures_is_not_told_as_done(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = exports.of("dcgan")
    right = FORMATS["safetensors"]

    def wrong(path: Path, generator: Any) -> Any:
        compute = right.load(path, generator)
        return lambda seeds: compute(seeds) + 2e-4

    monkeypatch.setitem(export.FORMATS, "safetensors", right._replace(load=wrong))  # type: ignore[arg-type]  # a dict
    with pytest.raises(ConfigurationFailed, match=r"differ by 0\.0002"):
        rendered(ExportIn(format="safetensors"))


def test_what_cannot_be_exported_is_told_with_the_cause(exports: Exports) -> None:
    """A branch on a picture's numbers is no operation of a program."""
    rendered = exports.of("dcgan")
    network = rendered.generators.of(rendered.file, device="cpu").network
    plain = network.forward
    network.forward = lambda latent_NZ: plain(latent_NZ) if latent_NZ.sum() < 1e9 else latent_NZ
    try:
        with pytest.raises(ConfigurationFailed, match="'dcgan' cannot be exported to torch_export: "):
            rendered(ExportIn(format="torch_export"))
    finally:
        del network.forward
