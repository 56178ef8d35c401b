"""The pages: shells alike for everybody, public like the files that they name; their scripts ask the API for the rest.

So a link from elsewhere opens its page although the browser keeps a strict cookie back on that first request.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.dashboard.assets import address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

router = APIRouter(include_in_schema=False)
# Which template answers at which path.
PAGES = {
    "/": "jobs.html",
    "/jobs/{job_id}": "job.html",
    "/datasets": "datasets.html",
    "/datasets/{dataset_id}": "dataset.html",
    "/new": "new.html",
    "/compare": "compare.html",
    "/playground/{job_id}": "playground.html",
    "/workers": "workers.html",
    "/sign-in": "sign_in.html",
}
# Nothing is inline, and nothing comes from elsewhere. The two hashes are of style elements that plotly makes; its
# pictures are data: and blob: addresses.
POLICY = (
    "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
_PATTERN = re.compile("|".join(re.sub(r"{\w+}", "[^/]+", path) for path in PAGES))
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["asset"] = address


def is_page(path: str) -> bool:
    """Whether a page is at this path."""
    return _PATTERN.fullmatch(path) is not None


@cache
def _rendered(template: str) -> str:
    return _templates.get_template(template).render()


def _endpoint(template: str) -> Callable[[], Awaitable[HTMLResponse]]:
    async def page() -> HTMLResponse:
        return HTMLResponse(_rendered(template), headers=_HEADERS)

    return page


for _path, _template in PAGES.items():
    router.add_api_route(_path, _endpoint(_template), name=_template.removesuffix(".html"))
