"""Writes the OpenAPI document into a file: `python -m api.document docs/openapi.json`, which `make openapi` does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from api.main import create_app


def written(document: dict[str, Any]) -> str:
    """The document as text, the same for the same document: sorted, one space a step."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(written(create_app().openapi()), encoding="utf-8")
