"""Server-sent events: the lines of a stream as events (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class ServerSentEvent:
    """One event; `id` is what a reconnecting client sends as Last-Event-ID."""

    id: str
    event: str
    data: str


class Parser:
    """Turns lines into events; comments and events without data are skipped, as is one that the end cuts off."""

    def __init__(self) -> None:
        self._id, self._event = "", ""
        self._data: list[str] = []

    def feed(self, line: str) -> ServerSentEvent | None:
        """The event that a line completes, if it does.

        Args:
            line: without its end.
        """
        if not line:
            told = None
            if self._data:
                told = ServerSentEvent(self._id, self._event or "message", "\n".join(self._data))
            self._event, self._data = "", []
            return told
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                self._id = value
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case _:
                pass  # A comment (its field is empty), retry, or what a later standard adds.
        return None


def parse(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """The events of lines without their ends."""
    return filter(None, map(Parser().feed, lines))
