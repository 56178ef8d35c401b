from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.unit.generation.deployed_files import Rendered, richest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks of these tests are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def slaegan(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return Rendered(tmp_path_factory.mktemp("slaegan"), richest("slaegan"))


@pytest.fixture(scope="session")
def stylegan2(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return Rendered(tmp_path_factory.mktemp("stylegan2"), richest("stylegan2"))
