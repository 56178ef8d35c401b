"""The commands of docs/api.md, as they stand there."""

from __future__ import annotations

import base64
import hmac
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from uuid import uuid4

import pytest

from core import db
from core.jobs import endings
from core.schemas.webhooks import DEFAULT_EVENTS, WebhookEvent
from core.webhooks import signing
from tests.integration.api import story
from tests.integration.api.conftest import new_person
from tests.picture_files import pngs, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.integration.api.conftest import Api

    Make = Callable[..., AbstractContextManager[Api]]

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_run_with_curl(own_api: Make, tmp_path: Path) -> None:
    """Without a worker, whose part the test takes; with a real training it is in tests/e2e/test_tutorial.py."""
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    submit, rest = block[1].split("# 3. Watch")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "emoji-faces.zip").write_bytes(zipped(pngs(5)))

    def bash(script: str, **variables: str) -> str:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **variables}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout

    with own_api() as api, new_person(api) as person, db.sessions()() as session:
        key = person.headers["Authorization"].removeprefix("Bearer ")
        (tmp_path / "slaegan-data").mkdir()
        (tmp_path / "slaegan-data" / "client.json").write_text(json.dumps({"url": str(api.url), "key": key}))
        job_id = bash(f"{submit}\necho $JOB").strip()
        assert (tmp_path / "preview.jpg").stat().st_size > 0
        attempt = story.start(session, {"id": job_id})
        made = story.checkpoint(session, attempt, b"weights", images_seen=8)
        story.evaluation(session, attempt, made, images_seen=8, fid=12.5)
        endings.finish(session, attempt)
        session.commit()
        known = submit.split("# 1. Upload")[0]
        told = bash(f"{known}# 3. Watch{rest}", JOB=job_id)
        refused = f'{known}\ncurl -s --fail-with-body -H "$AUTH" $URL/v1/jobs/nonsense | field \'["id"]\''
        with pytest.raises(subprocess.CalledProcessError) as failed:
            bash(refused)
        assert failed.value.stderr.startswith("One value is wrong: see errors.")
        with pytest.raises(subprocess.CalledProcessError, match="status 1") as failed:
            bash(f"{known}\ncurl -sf $URL/v1/jobs | field '[\"id\"]'")
        assert failed.value.stderr.startswith("Refused: ")
    assert "event: succeeded" in told
    assert '"fid":12.5' in told
    assert told.endswith("generator.safetensors: OK\n")
    assert (tmp_path / "generator.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_check_of_a_webhook() -> None:
    """What the page says of signatures holds for ours, by library and by hand."""
    text = PAGE.read_text()
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)  # noqa: S102  # the page's own code
    secret, message_id, body = signing._new_secret(), uuid4(), '{"type": "job.succeeded"}'
    headers = signing.headers(message_id, body, keys=[signing._new_secret(), secret])
    assert names["receive"](secret, body.encode(), headers) == {"type": "job.succeeded"}
    with pytest.raises(names["WebhookVerificationError"]):
        names["receive"](secret, body.encode() + b" ", headers)
    signed = f"{message_id}.{headers['webhook-timestamp']}.{body}".encode()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    by_hand = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert f"v1,{by_hand}" in headers["webhook-signature"].split(" ")


def test_the_events_of_webhooks_are_those_on_the_page() -> None:
    section = PAGE.read_text().split("## Webhooks")[1].split("```json")[0]
    named = set(re.findall(r"`([a-z_]+)`", section)) - {"events"}
    assert named == set(get_args(WebhookEvent))
    assert set(re.findall(r"`([a-z_]+)`", section.split("there are also")[0])) - {"events"} == set(
        DEFAULT_EVENTS
    )
