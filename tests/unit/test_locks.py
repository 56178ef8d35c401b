"""The lock files are complete on every Python that pyproject.toml allows, not only on the one that made them."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parents[2] / "requirements"


def needs(package: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in requires(package) or ()]
    except PackageNotFoundError:  # Not in every environment: only some Pythons need it.
        return []


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.11.14", "3.12.0", "3.13.0"])
@pytest.mark.parametrize("name", ["api", "worker", "dev"])
def test_what_a_locked_package_needs_is_locked(name: str, python: str) -> None:
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (FOLDER / f"{name}.txt").read_text(), flags=re.MULTILINE))
    here = {"python_full_version": python, "python_version": python.rpartition(".")[0], "extra": ""}
    missing = {
        f"{package} needs {needed}"
        for package in locked
        for needed in needs(package)
        if (needed.marker is None or needed.marker.evaluate(dict(here)))
        and canonicalize_name(needed.name) not in locked
    }
    assert not missing
