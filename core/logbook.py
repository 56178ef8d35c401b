"""How all processes of the service write their logs: as text for people, or one JSON object a line for machines.

The standard library's logging with a formatter: what libraries say (uvicorn, Celery, SQLAlchemy) goes the same way, and
what a library of structured logs would add is these few lines. No value can forge a line: control characters are
escaped. No secret that looks like one of ours is written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOUND: ContextVar[dict[str, Any]] = ContextVar("bound", default={})  # noqa: B039  # never changed in place
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# API keys and webhook secrets by their prefix, whatever stands before it (in an address a colon is %3A); bearer tokens,
# also with a blank as addresses have it; and passwords in URLs.
_SECRETS = re.compile(r"((?i:slg_|whsec_|bearer(?: |%20|\+)))[^\s'\",]{4,}|(://[^\s:/@]*:)[^\s/@]+(?=@)")

# Plain ASCII: a lone surrogate of a file's name could not be written otherwise.
_ENCODER = json.JSONEncoder(default=str)
_MARKS = ("slg_", "whsec_", "bearer", "://")


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Put fields on every line that is written inside, also in threads that take this context along."""
    token = _BOUND.set({**_BOUND.get(), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


def field(name: str) -> Any:
    """A field of the present context; None where nobody has set it."""
    return _BOUND.get().get(name)


def setup(
    log_format: Literal["text", "json"], *, level: int = logging.INFO, stream: TextIO | None = None
) -> None:
    """Have the whole process log in one format; what others have set up before is replaced.

    Args:
        log_format: the setting.
        level: of what is written at least.
        stream: by default stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)  # the library's signature
    # It would write the addresses of webhooks, which may hold secrets.
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields, and a traceback as one string."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **{name: _plain(value) for name, value in _fields(record).items()},
        }
        if record.exc_info:
            said["exception"] = without_secrets(self.formatException(record.exc_info))
        if record.stack_info:
            said["stack"] = without_secrets(record.stack_info)
        return _ENCODER.encode(said)


class TextLines(logging.Formatter):
    """`time LEVEL logger: message name=value …`; a traceback's lines are indented, so that none can be forged."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_word(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        more = self.formatException(record.exc_info) if record.exc_info else ""
        more += f"\n{record.stack_info}" if record.stack_info else ""
        return "\n    ".join(_escaped(without_secrets(part)) for part in (line, *more.splitlines()))


def without_secrets(text: str) -> str:
    """Text without keys, passwords in URLs and tokens."""
    lower = text.lower()
    if not any(mark in lower for mark in _MARKS):  # a tenth of the expression's time
        return text
    return _SECRETS.sub(lambda found: f"{found[1] or found[2]}***", text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**_BOUND.get(), **getattr(record, "fields", {})}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    return without_secrets(value) if isinstance(value, str) else value


def _word(value: Any) -> str:
    """A field's value without blanks, which would end it."""
    return "-" if value is None else str(value).replace(" ", "\\x20")


def _escaped(text: str) -> str:
    return text if text.isprintable() else _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
