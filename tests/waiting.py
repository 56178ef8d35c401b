"""Waiting for something to happen, with a deadline: no sleep for luck."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(happened: Callable[[], object], *, what: str = "it", patience_s: float = 20) -> None:
    """Look again and again until something is true; fail when that takes too long."""
    deadline = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}"
        time.sleep(0.01)
