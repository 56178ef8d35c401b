from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tests_that_the_page_names_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`((?:unit|integration|e2e|browser)/[\w/.]+)`", page)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_the_settings_that_the_page_names_exist() -> None:
    settings = (ROOT / "core" / "settings.py").read_text()
    page = (ROOT / "docs" / "security.md").read_text()
    named = {name.removeprefix("SLAEGAN_") for name in re.findall(r"`([A-Z]+_[A-Z_]+)(?:=\w+)?`", page)}
    assert {"TRUSTED_PROXIES", "ALLOWED_HOSTS", "HSTS_S"} <= named
    assert {name for name in named if f"    {name.lower()}: " not in settings} == set()
