"""The connection of one client: uvicorn's protocol of HTTP/1.1, with an end to its patience.

uvicorn waits for ever for a head that trickles in and for a client that does not read, and refuses in plain text.
Bodies that trickle in are cut off by `api.shell`, which knows when the application waits for them.
"""

from __future__ import annotations

import fcntl
import logging
import sys
import termios
from array import array
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.envelope import SECURITY_HEADERS, Envelope
from api.errors import problem_response
from core.errors import HeadTooLarge, Overloaded, RequestError, SlaeganError, TooSlow

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send
    from uvicorn._types import ASGI3Application

    from api.instruments import Instruments
    from core.settings import Settings

_logger = logging.getLogger("slaegan.api")
MAX_HEAD_BYTES = 32 * 1024
# How long a refused client may take to read the answer: closed at once, a connection with unread bytes is reset.
_LINGER_S = 2.0
_RETRY_AFTER_S = 5


class Connection(H11Protocol):
    """One connection, from its first byte to its last.

    Args:
        settings: its timeouts, its least rate, and how many connections there may be.
        instruments: count what is refused here.
        options: uvicorn's own.
    """

    def __init__(self, *, settings: Settings, instruments: Instruments, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings
        self._instruments = instruments
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._quiet_since = self.loop.time()
        self._is_refused = False

    @property
    def is_quiet(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > self._settings.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_awaiting_head()
        self._stop_watching_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._stop_awaiting_head()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._await_head()

    def on_response_complete(self) -> None:
        self._quiet_since = self.loop.time()
        super().on_response_complete()
        self._watch_last_bytes()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_last_bytes()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watching_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as a problem; uvicorn calls this while it handles h11's error."""
        error = sys.exc_info()[1]
        hint = getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST)
        if hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            message = f"The head of the request has more than {MAX_HEAD_BYTES} bytes: send fewer or shorter headers."
            self._refuse(HeadTooLarge(message, limit_bytes=MAX_HEAD_BYTES))
        else:
            self._refuse(RequestError(f"This is no request of HTTP/1.1: {error or msg}."))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._settings.head_timeout_s, self._on_late_head)

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_late_head(self) -> None:
        self._head_timer = None
        if self.conn.trailing_data[0]:
            patience_s = self._settings.head_timeout_s
            self._refuse(TooSlow(f"The head of the request was not complete within {patience_s:g} s."))
        else:
            self.transport.abort()

    def _make_room(self) -> None:
        """Drop the connection that has been quiet for the longest time; if all are busy, refuse this one."""
        others = (cast("Connection", other) for other in self.connections if other is not self)
        quiet = [other for other in others if other.is_quiet]
        if quiet:
            oldest = min(quiet, key=lambda other: other._quiet_since)  # noqa: SLF001  # of this class
            # Now, so that the next one to come does not choose it again.
            self.connections.discard(oldest)
            oldest.transport.abort()
        else:
            refusal = Envelope(_overloaded, instruments=self._instruments, hsts_s=self._settings.hsts_s)
            self.app = cast("ASGI3Application", refusal)

    def _refuse(self, error: SlaeganError) -> None:
        """Answer before, or instead of, the application; read no more, and close."""
        self._is_refused = True
        request_id = uuid4().hex
        self._instruments.refused(error.code)
        facts = {"request_id": request_id, "status": error.status}
        _logger.info("refused: %s", error.message, extra={"fields": facts})
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        answer = problem_response({"path": "", "state": {"request_id": request_id}}, error)
        headers = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            *SECURITY_HEADERS,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        head = h11.Response(status_code=error.status, headers=headers, reason=HTTPStatus(error.status).phrase)
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write_eof()
        self._head_timer = self.loop.call_later(_LINGER_S, self.transport.abort)

    def _watch_last_bytes(self) -> None:
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._watch_writing()

    def _watch_writing(self) -> None:
        if self._write_timer is None:
            patience_s = self._settings.write_timeout_s
            self._write_timer = self.loop.call_later(patience_s, self._check_writing, self._unread_bytes())

    def _stop_watching_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _check_writing(self, before_bytes: int) -> None:
        """Nothing was written since the last look: what is fewer now has been read."""
        self._write_timer = None
        patience_s = self._settings.write_timeout_s
        read_bytes = before_bytes - self._unread_bytes()
        if read_bytes < self._settings.min_bytes_per_s * patience_s:
            _logger.info("a client that read %d bytes in %g s is cut off", read_bytes, patience_s)
            self.transport.abort()
        else:
            self._watch_writing()

    def _unread_bytes(self) -> int:
        """What the client has not acknowledged: the kernel buffers megabytes, which hide a slow but living reader."""
        queued = array("i", [0])
        # Not every kernel tells.
        with suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self.transport.get_write_buffer_size() + queued[0]


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    error = Overloaded(
        f"All connections of the service are busy: try again in {_RETRY_AFTER_S} s.",
        retry_after_s=_RETRY_AFTER_S,
    )
    await problem_response(scope, error, headers={"Connection": "close"})(scope, receive, send)
