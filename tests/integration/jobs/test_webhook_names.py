"""Where a delivery connects to, and as whom it knows the other side."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from core.schemas.webhooks import Webhook
from core.webhooks import deliver
from core.webhooks.tables import WebhookDelivery
from tests.integration.jobs.test_webhooks import configure
from tests.receiver import receiving
from worker.tasks import deliver_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.jobs.tables import Job
    from tests.integration.jobs.conftest import Sessions

pytestmark = pytest.mark.usefixtures("_worker_settings")
NAME = "hooks.example"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name leads to this machine when it is first asked for, and to another one ever after."""
    configure(monkeypatch, webhook_private_addresses=True, webhook_retries_s=[0])
    ask, asked = socket.getaddrinfo, []

    def answer(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != NAME:
            return ask(host, port, *args, **options)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "192.0.2.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def test_a_name_is_looked_up_once_and_its_address_connected_to(
    submit: Callable[..., Job], asked: list[str]
) -> None:
    with receiving() as receiver:
        submit(webhook=Webhook(url=receiver.url(host=NAME), events=["queued"]))
        deliver_webhooks()
        (request,) = receiver.received
    assert request.headers["Host"] == f"{NAME}:{receiver.port}"
    assert asked == [NAME]


def certificate(folder: Path, name: str) -> Path:
    """A certificate of a name, signed by itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(tz=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(("name", "status"), [(NAME, "delivered"), ("other.example", "dead")])
def test_the_certificate_must_be_of_the_name_not_of_the_address(
    *,
    db: Sessions,
    submit: Callable[..., Job],
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    status: str,
) -> None:
    file = certificate(tmp_path, name)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    names: list[str | None] = []
    server.sni_callback = lambda _socket, asked_for, _context: names.append(asked_for)
    trusting = ssl.create_default_context(cafile=file)
    monkeypatch.setattr(deliver, "_tls", lambda: trusting)
    with receiving(tls=server) as receiver:
        url = receiver.url(host=NAME).replace("http://", "https://")
        submit(webhook=Webhook(url=url, events=["queued"]))
        deliver_webhooks()
    assert set(names) == {NAME}
    assert asked[0] == NAME
    with db() as session:
        delivery = session.scalars(select(WebhookDelivery)).one()
    assert delivery.status == status
    assert len(receiver.received) == (status == "delivered")
