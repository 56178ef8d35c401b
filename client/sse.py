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


def parse(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Turn lines into events; comments and events without data are skipped, as is one that the end cuts off.

    Args:
        lines: without their line ends.
    """
    last_id, event, data = "", "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield ServerSentEvent(last_id, event or "message", "\n".join(data))
            event, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "id":
                last_id = value
            case "event":
                event = value
            case "data":
                data.append(value)
            case _:
                pass  # A comment (its field is empty), retry, or what a later standard adds.
