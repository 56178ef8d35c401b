"""examples/quickstart.ipynb, every cell of it, on the service's own processes."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from safetensors import safe_open

from core.keys import ensure_local_key
from tests.e2e.conftest import ROOT
from tests.e2e.system import running_system

if TYPE_CHECKING:
    from pathlib import Path

# Half a minute on a free machine; evaluations yield to whatever else runs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
# Of the bundled pictures so many, since every one of them costs the evaluation time.
PICTURES = 8
CELL_S = 600


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    ran = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in ran] == [([], None)] * len(ran)


def test_the_notebook_runs_to_its_end(
    database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        zipfile.ZipFile(ROOT / "examples" / "emoji-faces.zip") as bundled,
        zipfile.ZipFile(tmp_path / "emoji-faces.zip", "w") as fewer,
    ):
        for name in bundled.namelist()[:PICTURES]:
            fewer.writestr(name, bundled.read(name))
    with running_system(database_url, broker_url, tmp_path) as system:
        monkeypatch.setenv("SLAEGAN_URL", system.url)
        monkeypatch.setenv("SLAEGAN_API_KEY", ensure_local_key(system.environment["DATABASE_URL"]))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        # Folders of its own: whoever has IPython, too, may have configured it.
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
            monkeypatch.setenv(name, str(tmp_path / name.lower()))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        run = NotebookClient(
            notebook, timeout=CELL_S, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        run.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [output["data"].get("text/html", "") for output in outputs if "data" in output]
    assert f"<td>{PICTURES}</td>" in pages[1]
    assert sum("data:image/jpeg;base64," in page for page in pages) == 1  # the contact sheet
    assert sum(page.count("data:image/png;base64,") for page in pages) == 3  # curve, grid, grid
    assert any("<table" in page and "vgg16" in page for page in pages)
    assert "succeeded" in "".join(output.get("text", "") for output in outputs)
    with safe_open(tmp_path / "generator.safetensors", framework="pt") as weights:
        assert len(weights.keys()) > 10
