"""One line a message, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from core import logbook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
HOSTILE = "x\n2026-01-01T00:00:00.000Z INFO slaegan.api: forged\r\x1b[2J\x00\u2028\x85\ud800 end"


@pytest.fixture
def log() -> Iterator[Callable[..., io.StringIO]]:
    """Sets the process's logging up for a test, with what it writes; afterwards all is as before."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def setup(log_format: Any, **options: Any) -> io.StringIO:
        stream = io.StringIO()
        logbook.setup(log_format, stream=stream, **options)
        return stream

    yield setup
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[str]:
    written = stream.getvalue()
    assert written.endswith("\n")
    return written[:-1].split("\n")


def fail(message: str) -> None:
    raise ValueError(message)


def test_a_json_line(log: Callable[..., io.StringIO]) -> None:
    stream = log("json")
    with logbook.bound(request_id="r-1", job="j"), logbook.bound(job="k"):
        logging.getLogger("a.b").info("%d things", 3, extra={"fields": {"status": 200, "key": None}})
    logging.getLogger("a.b").warning("outside")
    first, second = map(json.loads, lines(stream))
    assert re.fullmatch(TIME, first.pop("time"))
    assert first == {
        "level": "INFO", "logger": "a.b", "message": "3 things",
        "request_id": "r-1", "job": "k", "status": 200, "key": None,
    }  # fmt: skip
    assert second.keys() == {"time", "level", "logger", "message"}


def test_an_exception_is_one_field(log: Callable[..., io.StringIO]) -> None:
    stream = log("json")
    try:
        fail(HOSTILE)
    except ValueError:
        logging.getLogger("a").exception("It failed.")
    [line] = lines(stream)
    told = json.loads(line)["exception"]
    assert told.startswith("Traceback (most recent call last):\n")
    assert f"ValueError: {HOSTILE}" in told


def test_a_text_line(log: Callable[..., io.StringIO]) -> None:
    stream = log("text")
    with logbook.bound(request_id="r-1"):
        logging.getLogger("a.b").info("%d things", 3, extra={"fields": {"key": None, "path": "/a b"}})
    [line] = lines(stream)
    assert re.fullmatch(rf"{TIME} INFO a\.b: 3 things request_id=r-1 key=- path=/a\\x20b", line)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_value_forges_a_line(log: Callable[..., io.StringIO], log_format: str) -> None:
    stream = log(log_format)
    with logbook.bound(request_id=HOSTILE):
        logging.getLogger("a").info("said %s", HOSTILE, extra={"fields": {"worker": HOSTILE}})
    assert len(lines(stream)) == len(stream.getvalue().splitlines()) == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", stream.getvalue())
    try:
        fail(HOSTILE)
    except ValueError:
        logging.getLogger("a").exception("It failed.")
    begun = [line for line in stream.getvalue().splitlines() if not line.startswith("    ")]
    assert len(begun) == 2, begun


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_written(log: Callable[..., io.StringIO], log_format: str) -> None:
    stream = log(log_format)
    key, hook = "slg_" + "kK3y" * 10, "whsec_" + "s3cR+/=" * 5
    said = f"{key} in Bearer t0k3n-secret to postgresql+psycopg://me:p4ssw0rd@host:5432/db, {hook}"
    with logbook.bound(header=key):
        logging.getLogger("a").error(said, extra={"fields": {"url": "redis://:p4ssw0rd@host/0"}})
        try:
            fail(said)
        except ValueError:
            logging.getLogger("a").exception("It failed.")
    for secret in ("kK3y", "s3cR", "t0k3n", "p4ssw0rd"):
        assert secret not in stream.getvalue()
    assert "postgresql+psycopg://me:***@host:5432/db" in stream.getvalue()


@pytest.mark.parametrize(
    "plain", ["http://127.0.0.1:8000/v1/jobs", "see https://example.com:443/a@b", "slg_"]
)
def test_what_is_no_secret_stays(plain: str) -> None:
    assert logbook.without_secrets(plain) == plain


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("/v1/jobs/Bearer%20slg_s3cret", "/v1/jobs/Bearer%20***"),
        ("/v1/jobs/bearer%20s3cret", "/v1/jobs/bearer%20***"),
        ("/v1/jobs/bearer+s3cret", "/v1/jobs/bearer+***"),
        ("BEARER s3cret", "BEARER ***"),
        ("xbearer s3cret", "xbearer ***"),
        ("/v1/%3Aslg_s3cret", "/v1/%3Aslg_***"),
        ("x_slg_s3cret", "x_slg_***"),
        ("SLG_s3cret", "SLG_***"),
        ("%3Awhsec_s3cret", "%3Awhsec_***"),
    ],
)
def test_secrets_are_found_however_they_are_written(said: str, written: str) -> None:
    assert logbook.without_secrets(said) == written


def test_threads_take_the_fields_along_when_told_to(log: Callable[..., io.StringIO]) -> None:
    stream = log("json")
    with logbook.bound(job="j"):
        thread = threading.Thread(
            target=copy_context().run, args=(logging.getLogger("a").info, "from a thread")
        )
    thread.start()
    thread.join()
    assert json.loads(stream.getvalue())["job"] == "j"
    assert logbook.field("job") is None


def test_what_others_set_up_is_replaced_and_warnings_go_the_same_way(log: Callable[..., io.StringIO]) -> None:
    logging.basicConfig(stream=sys.stdout, force=True)
    stream = log("json", level=logging.WARNING)
    logging.getLogger("uvicorn.error").info("too low")
    logging.getLogger("uvicorn.error").warning("high enough")
    assert [json.loads(line)["logger"] for line in lines(stream)] == ["uvicorn.error"]
