"""What axe-core says against a page, for people who do not see it or use no mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Page

GRAVE = {"serious", "critical"}


def serious(page: Page) -> list[str]:
    """The grave findings of a page as it is now, each with the elements that it is about."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {', '.join(' '.join(node['target']) for node in found['nodes'])}"
        for found in violations
        if found["impact"] in GRAVE
    ]
