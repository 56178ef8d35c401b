from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.datasets.decoder import Decoder
from core.settings import Settings, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DECODING = Settings(database_url="unused://", broker_url="unused://", storage_url="unused://")


@pytest.fixture(autouse=True)
def _service_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What scratch folders read; these tests have no servers."""
    for name in ("DATABASE_URL", "BROKER_URL"):
        monkeypatch.setenv(name, "unused://")
    monkeypatch.setenv("STORAGE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("SLAEGAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SLAEGAN_STORE_RESERVE_BYTES", "0")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def limits() -> Callable[..., Settings]:
    """The settings with other limits."""
    return lambda **values: settings().model_copy(update=values)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    """One process for a file of tests; `decoder.folder` is what it may read and write."""
    folder = tmp_path_factory.mktemp("decoder")
    with Decoder(folder, limits=DECODING) as made:
        yield made
