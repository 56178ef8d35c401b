"""The OpenAPI document as a page: Swagger UI out of a wheel, so that it works offline and under a strict policy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

router = APIRouter(include_in_schema=False)

PAGE = "/docs"
# Swagger UI's pictures are data: addresses in its style sheet. Nothing is inline, and nothing comes from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HTML = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SLAE-GAN training service</title>
<link rel="icon" type="image/png" href="{PAGE}/favicon-32x32.png">
<link rel="stylesheet" href="{PAGE}/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="{PAGE}/swagger-ui-bundle.js"></script>
<script src="{PAGE}/start.js"></script>
</body>
</html>
"""
# Without validatorUrl, Swagger UI would show the document to a validator on the Internet.
_START = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
ADDRESSES = frozenset({PAGE, f"{PAGE}/start.js", *(f"{PAGE}/{name}" for name in _FILES)})
_CACHED = {"Cache-Control": "public, max-age=3600"}


@router.get(PAGE)
async def docs() -> HTMLResponse:
    return HTMLResponse(_HTML, headers={"Content-Security-Policy": POLICY})


@router.get(f"{PAGE}/start.js")
async def docs_start() -> Response:
    return Response(_START, media_type="text/javascript", headers=_CACHED)


@router.get(f"{PAGE}/swagger-ui-bundle.js")
async def docs_script() -> FileResponse:
    return _file("swagger-ui-bundle.js")


@router.get(f"{PAGE}/swagger-ui.css")
async def docs_style() -> FileResponse:
    return _file("swagger-ui.css")


@router.get(f"{PAGE}/favicon-32x32.png")
async def docs_icon() -> FileResponse:
    return _file("favicon-32x32.png")


def _file(name: str) -> FileResponse:
    """A file of the wheel, whose own code is not needed and not run."""
    package = importlib.util.find_spec("fastapi_swagger")
    assert package is not None
    assert package.origin is not None
    return FileResponse(Path(package.origin).parent / "resources" / name, headers=_CACHED)
