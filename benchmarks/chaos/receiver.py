"""Where the webhooks of chaos runs arrive: a server of this process that keeps what came, and refuses some of it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED = 4  # every so manieth message is answered with an error, and has to come again
EVENTS = ("evaluated", "succeeded", "failed", "cancelled")


@dataclass
class Receiver:
    """What has arrived.

    Attributes:
        url: where to send.
        ids: webhook-ids by job and number of the event; more than one is a violation.
        taken: webhook-ids that were answered with 200.
    """

    url: str
    ids: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    count: int = 0

    def take(self, webhook_id: str, body: bytes) -> bool:
        """Keep a message; whether it is taken, or has to come again."""
        said = json.loads(body)["data"]
        self.ids.setdefault((said["job_id"], said["seq"]), set()).add(webhook_id)
        self.count += 1
        if self.count % _REFUSED == 0:
            return False
        self.taken.add(webhook_id)
        return True


@contextmanager
def listening() -> Iterator[Receiver]:
    """Receive on a free port of the loopback until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                taken = receiver.take(self.headers["webhook-id"], body)
            self.send_response(200 if taken else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
