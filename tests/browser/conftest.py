"""The pages in a real Chromium, over a real API with real servers behind it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from core import db
from tests.browser import seeded
from tests.integration.api.conftest import Api, Person, new_person, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 30_000  # a deadline, for busy machines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of this folder alone: pytest asks each conftest about all items."""
    if CHROMIUM is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(
                    pytest.mark.skip(reason="Chromium is not installed: apt-get install chromium")
                )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        # Root in a container has no user namespaces for Chromium's own sandbox.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def api(module_database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service that the tests of a module share."""
    folder = tmp_path_factory.mktemp("api")
    with running_api(folder, database_url=module_database_url, broker_url=broker_url) as api:
        yield api


@pytest.fixture(scope="module")
def owner(api: Api) -> Iterator[Person]:
    """The tenant whose pages are looked at."""
    with new_person(api) as person:
        yield person


@pytest.fixture(scope="module")
def jobs(owner: Person) -> dict[str, str]:
    """One job in each state, by what it is."""
    with db.sessions()() as session:
        return seeded.some_jobs(owner, session)


@pytest.fixture(scope="module")
def context(browser: Browser, api: Api) -> Iterator[BrowserContext]:
    """A browser whose cache the tests of a module share: plotly is read once."""
    expect.set_options(timeout=PATIENCE_MS)
    context = browser.new_context(base_url=str(api.url), reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page of nobody; whatever its console says against it fails the test."""
    page = context.new_page()
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # A refusal that the page shows is no fault of the page; Chromium writes it to the console all the same.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    if page.url.startswith("http"):
        page.evaluate("localStorage.clear()")
    for opened in context.pages:
        opened.close()
    context.clear_cookies()
    assert complaints == []


@pytest.fixture
def signed_in(page: Page, owner: Person) -> Page:
    """The owner's page, signed in by a session of the owner's key."""
    sign_in(page, owner)
    return page


def key_of(person: Person) -> str:
    return person.headers["Authorization"].removeprefix("Bearer ")


def sign_in(page: Page, person: Person) -> None:
    """What the sign-in page does, without the page."""
    answer = page.context.request.post("/session", headers={"Authorization": f"Bearer {key_of(person)}"})
    assert answer.status == 204, answer.text()
