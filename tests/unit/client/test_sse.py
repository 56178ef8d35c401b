from __future__ import annotations

from client.sse import ServerSentEvent, parse


def test_events_comments_and_joined_lines() -> None:
    lines = [
        "event: queued",
        "id: 1",
        "data: {",
        "data:  }",
        "",
        ": keep-alive",
        "",
        "data: x",
        "",
        "retry: 5",
        "",
    ]
    assert list(parse(lines)) == [
        ServerSentEvent("1", "queued", "{\n }"),
        ServerSentEvent("1", "message", "x"),
    ]


def test_an_event_that_the_end_cuts_off_is_left_out() -> None:
    assert list(parse(["id: 1", "data: whole", "", "id: 2", "data: ha"])) == [
        ServerSentEvent("1", "message", "whole")
    ]
