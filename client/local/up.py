"""`slaegan up`: the stack in the foreground, until Ctrl-C."""

from __future__ import annotations

import signal
import time
import webbrowser
from contextlib import contextmanager
from typing import TYPE_CHECKING

from client import connection
from client.local.folder import DataFolder
from client.local.programs import external_urls
from client.local.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType

    from client.local.place import Place
    from client.local.programs import Program

_WATCH_S = 0.5


class StopRequested(Exception):  # a wish, not an error
    """The user, or the system, wants the stack to stop."""


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], None]]:
    """Turn SIGINT, SIGTERM and SIGHUP into a wish that the block asks for, so that no step is torn apart.

    Yields:
        A function that raises StopRequested once a signal has come.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    def check() -> None:
        if received:
            raise StopRequested

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in signals}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up(
    data: Path,
    *,
    place: Place,
    say: Callable[[str], None],
    open_page: bool = False,
    services: Sequence[Program] | None = None,
) -> None:
    """Run the stack until a signal comes.

    Args:
        data: the data folder.
        place: where the API listens.
        say: shows a line to the user.
        open_page: whether to open the API's page in the browser when it is ready.
        services: what to run beside the servers; by default the API, the workers and beat.

    Raises:
        StackFailed: what prevents the start, or ended the stack, and what to do about it.
    """
    folder = DataFolder(data)
    with stop_on_signals() as check_stop:
        say(f"Starting in {folder.path} …")
        try:
            with running_stack(
                folder,
                place=place,
                say=say,
                check_stop=check_stop,
                services=services,
                external=external_urls(),
            ) as stack:
                connection.point_to(folder.path)
                say(f"Ready: {place.url}   Dashboard: open it in a browser, and sign in with the key")
                say(f"Data folder: {folder.path}   API key: in {folder.client_json}   Logs: {folder.logs}")
                say("Ctrl-C stops everything.")
                if open_page:
                    webbrowser.open(place.url)
                while True:
                    check_stop()
                    stack.check()
                    time.sleep(_WATCH_S)
        except StopRequested:
            say("Stopped.")
