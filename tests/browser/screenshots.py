"""Pictures of every page at three widths, light and dark: all into build/, a few into docs/ (`make screenshots`)."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from api.dashboard.pages import PAGES
from client.local.servers import running_servers
from core import db
from core.db import migrate
from tests.browser import seeded
from tests.browser.conftest import CHROMIUM, sign_in
from tests.integration.api.conftest import new_person, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

WIDTHS = (400, 1280, 2560)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
ALL = Path("build/screenshots")
CHOSEN = Path("docs/screenshots")
KEPT = {"jobs-1280-light", "job-1280-light", "job-400-light"}
TALLEST = 2_400


def addresses(ids: dict[str, str], dataset_id: str) -> Iterator[tuple[str, str]]:
    """Each page's name, and an address that has something to show."""
    for path, template in PAGES.items():
        filled = path.format(job_id=ids["alarm"], dataset_id=dataset_id)
        compared = f"?job={ids['alarm']}&job={ids['succeeded']}" if path == "/compare" else ""
        yield template.removesuffix(".html"), filled + compared


def shoot(page: Page, name: str) -> None:
    """Write a page as it is, in 256 colours."""
    page.wait_for_load_state("networkidle" if name.startswith("sign_in") else "load")
    expect(page.locator("[aria-busy], .spinner")).to_have_count(0, timeout=30_000)
    page.wait_for_timeout(1_500)  # Charts and pictures are drawn once there is time.
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    seen = whole.crop((0, 0, whole.width, min(whole.height, TALLEST))).convert("RGB").quantize(256)
    for folder in (ALL, *([CHOSEN] if name in KEPT else [])):
        folder.mkdir(parents=True, exist_ok=True)
        seen.save(folder / f"{name}.png", optimize=True)


def main() -> None:
    """Seed a service, and go through its pages."""
    with TemporaryDirectory() as folder, running_servers(Path(folder) / "servers") as servers:
        migrate(servers.database_url)
        urls = {"database_url": servers.database_url, "broker_url": servers.broker_url}
        with (
            running_api(Path(folder) / "api", **urls) as api,
            new_person(api) as person,
            sync_playwright() as engine,
        ):
            with db.sessions()() as session:
                ids = seeded.some_jobs(person, session)
            dataset_id = person.get("/v1/datasets").json()["items"][0]["id"]
            browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for scheme in SCHEMES:
                context = browser.new_context(
                    base_url=str(api.url), color_scheme=scheme, reduced_motion="reduce"
                )
                page = context.new_page()
                sign_in(page, person)
                for width in WIDTHS:
                    page.set_viewport_size({"width": width, "height": 900})
                    for name, address in addresses(ids, dataset_id):
                        page.goto(address)
                        shoot(page, f"{name}-{width}-{scheme}")
                context.close()
            browser.close()


if __name__ == "__main__":
    main()
