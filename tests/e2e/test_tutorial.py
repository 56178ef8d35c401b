"""The tutorial of docs/api.md, word for word: from nothing to a checkpoint that a real training made."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

from benchmarks.stack import free_port
from tests.e2e.conftest import ROOT, clean_environment, launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SLAEGAN = str(Path(sys.executable).with_name("slaegan"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Up]:
    """`slaegan up` in a folder that looks like a clone of the repository to whoever types commands."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    data, port = tmp_path / "slaegan-data", free_port()
    command = [SLAEGAN, "up", "--data", str(data), "--port", str(port)]
    environment = clean_environment(tmp_path)
    up = launch(
        command, data=data, port=port, output=tmp_path / "up.txt", cwd=tmp_path, environment=environment
    )
    try:
        yield up.wait_ready(timeout_s=200)
    finally:
        up.end()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tutorial_ends_with_a_checkpoint(stack: Up, tmp_path: Path) -> None:
    block = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert block is not None
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block[1]],
        cwd=tmp_path, env={"PATH": "/usr/local/bin:/usr/bin:/bin"}, check=False, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + stack.text()
    assert "event: succeeded" in done.stdout
    assert (
        len(re.findall(r"^event: evaluated$", done.stdout, re.MULTILINE)) == 3
    )  # at 0, in the middle, at the end
    assert done.stdout.endswith("generator.safetensors: OK\n")
    with safe_open(tmp_path / "generator.safetensors", framework="pt") as weights:
        assert len(weights.keys()) > 10
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "preview.jpg").read_bytes().startswith(b"\xff\xd8")
