from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from client import connection
from client.connection import Connection
from core.errors import InvalidRequest, Unauthenticated

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = Connection("http://127.0.0.1:8000", "slg_local")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_what_is_given_needs_nothing_else(data: Path) -> None:
    assert connection.find(url="http://far", key="k", data=data) == Connection("http://far", "k")


def test_an_address_without_its_scheme_is_told() -> None:
    with pytest.raises(InvalidRequest, match="write http:// before it"):
        connection.find(url="localhost:8000", key="k", data=None)


def test_the_pointer_leads_to_the_newest_stack(data: Path) -> None:
    connection.save(LOCAL, folder=data)
    connection.point_to(data)
    assert connection.find(url=None, key=None, data=None) == LOCAL
    assert connection.find(url=None, key="mine", data=None) == Connection(LOCAL.url, "mine")
    assert connection.newest_data_folder() == data


def test_a_pointer_to_a_folder_that_went_falls_back_to_the_default(data: Path) -> None:
    connection.point_to(data / "gone")
    connection.default_data_folder().mkdir(parents=True)
    connection.save(LOCAL, folder=connection.default_data_folder())
    assert connection.find(url=None, key=None, data=None) == LOCAL


def test_a_key_never_goes_to_another_service(data: Path) -> None:
    connection.save(LOCAL, folder=data)
    with pytest.raises(Unauthenticated, match="No API key is known"):
        connection.find(url="http://far", key=None, data=data)


def test_nothing_known_says_what_to_do(data: Path) -> None:
    with pytest.raises(Unauthenticated, match="slaegan up"):
        connection.find(url=None, key=None, data=data)


def test_the_key_is_for_its_owner_alone(data: Path) -> None:
    connection.save(LOCAL, folder=data)
    assert stat.S_IMODE((data / "client.json").stat().st_mode) == 0o600
    assert LOCAL.key not in repr(LOCAL)
