from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "requirements" / "audit.py"
SPEC = importlib.util.spec_from_file_location("audit", SOURCE)
assert SPEC is not None
assert SPEC.loader is not None
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

HOLE = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"], "description": "bad"}


def report(*vulnerabilities: dict[str, Any]) -> dict[str, Any]:
    return {
        "dependencies": [
            {"name": "one", "version": "1.0", "vulns": list(vulnerabilities)},
            {"name": "other", "skip_reason": "not found"},
        ]
    }


def test_a_vulnerability_fails_until_it_is_accepted_by_any_of_its_names() -> None:
    lines, is_sound = audit.verdict(report(HOLE), {})
    assert not is_sound
    assert "PYSEC-2026-1" in lines[0]
    assert "mended in 2.0" in lines[0]
    assert "accepted.txt" in lines[1]
    for name in ("PYSEC-2026-1", "CVE-2026-1"):
        lines, is_sound = audit.verdict(report(HOLE), {name: "not reachable from here"})
        assert is_sound
        assert "not reachable from here" in lines[0]


def test_what_was_not_audited_is_not_called_sound() -> None:
    assert audit.verdict(report(), {}) == (["1 packages audited, 1 skipped (unknown to PyPI)"], True)
    nothing = {"dependencies": [{"name": "other", "skip_reason": "not found"}]}
    assert audit.verdict(nothing, {})[0] == ["Audit skipped: PyPI told nothing of any of the 1 packages."]


def test_an_acceptance_needs_its_reason() -> None:
    assert audit.accepted_ids("# why\n\nCVE-1 because\n") == {"CVE-1": "because"}
    with pytest.raises(ValueError, match="say why CVE-2"):
        audit.accepted_ids("CVE-2\n")
    assert isinstance(audit.accepted_ids((SOURCE.parent / "accepted.txt").read_text()), dict)
