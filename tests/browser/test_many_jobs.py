"""A thousand rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

from core import db
from tests.browser import seeded

if TYPE_CHECKING:
    from tests.integration.api.conftest import Person


def test_a_thousand_jobs_stay_smooth(signed_in: Page, owner: Person) -> None:
    with db.sessions()() as session:
        seeded.many_jobs(session, seeded.submit(owner, "The first")["id"], number=1_000)
    signed_in.goto("/")
    expect(signed_in.locator("tbody tr")).to_have_count(50)
    more = signed_in.get_by_role("button", name="Show more")
    for shown in (250, 450, 650, 850, 1001):
        more.click()
        expect(signed_in.locator("tbody tr")).to_have_count(shown)
    expect(more).to_be_hidden()
    # Processor time of the page's own thread, so that a busy machine does not count.
    counters = signed_in.context.new_cdp_session(signed_in)
    counters.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy_s() -> float:
        metrics = counters.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    before_s = busy_s()
    frames = signed_in.evaluate("""async () => {
      const begin = performance.now();
      let frames = 0;
      while (frames < 60 || performance.now() < begin + 2500) {  // A poll passes meanwhile.
        scrollBy(0, 120);
        await new Promise(requestAnimationFrame);
        frames += 1;
      }
      return frames;
    }""")
    frame_ms = 1000 * (busy_s() - before_s) / frames
    print(f"scrolling through 1,001 rows takes {frame_ms:.1f} ms of processor time a frame")  # noqa: T201  # for who runs it with -s
    assert frame_ms < 50
