"""Ask PyPI whether a locked package has a known vulnerability: `python requirements/audit.py`, part of `make check`.

A vulnerability fails the check until the package is renewed (`make lock UPGRADE=--upgrade`) or accepted: a line with
its id and the reason in accepted.txt. Where PyPI does not tell, the audit is skipped and says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TIMEOUT_S = 50


def main() -> int:
    """Audit what the images install; 1 if there is a vulnerability that nobody accepted."""
    accepted = accepted_ids((FOLDER / "accepted.txt").read_text())
    try:
        report = _report()
    except (subprocess.TimeoutExpired, ValueError) as error:
        print(f"Audit skipped, since PyPI does not tell: {str(error)[-500:]}")
        return 0
    lines, is_sound = verdict(report, accepted)
    print("\n".join(lines))
    return 0 if is_sound else 1


def accepted_ids(text: str) -> dict[str, str]:
    """Ids and reasons of accepted vulnerabilities.

    Raises:
        ValueError: a line has no reason.
    """
    accepted = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            vulnerability, _, reason = line.strip().partition(" ")
            if not reason.strip():
                raise ValueError(f"accepted.txt: say why {vulnerability} is accepted, in the same line.")
            accepted[vulnerability] = reason.strip()
    return accepted


def verdict(report: dict[str, Any], accepted: dict[str, str]) -> tuple[list[str], bool]:
    """What to print of pip-audit's report, and whether the check passes.

    Args:
        report: its JSON.
        accepted: of `accepted_ids`.
    """
    packages = report["dependencies"]
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        return [f"Audit skipped: PyPI told nothing of any of the {len(packages)} packages."], True
    lines, is_sound = [], True
    for package in audited:
        for found in package["vulns"]:
            names = {found["id"], *found.get("aliases", [])}
            reason = next((accepted[name] for name in sorted(names) if name in accepted), None)
            is_sound = is_sound and reason is not None
            fixed = ", ".join(found.get("fix_versions", [])) or "no release"
            what = f"accepted ({reason})" if reason else "NOT ACCEPTED"
            lines.append(f"{package['name']} {package['version']}: {found['id']}, {what}; mended in {fixed}")
    if not is_sound:
        lines.append(
            "Renew the package with `make lock UPGRADE=--upgrade`. If a fix has to land first, or the hole does not "
            "concern us, add a line `ID why` to requirements/accepted.txt."
        )
    skipped = len(packages) - len(audited)
    lines.append(
        f"{len(audited)} packages audited" + (f", {skipped} skipped (unknown to PyPI)" if skipped else "")
    )
    return lines, is_sound


def _report() -> dict[str, Any]:
    files = [word for name in ("api.txt", "worker.txt") for word in ("--requirement", str(FOLDER / name))]
    command = [
        *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "pypi", "--format", "json"),
        *("--disable-pip", "--require-hashes", "--progress-spinner", "off", *files),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if not done.stdout.strip():
        raise ValueError(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    sys.exit(main())
