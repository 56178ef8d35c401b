"""What users mean by what they type on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError

from client.results import best_generator
from core.errors import InvalidRequest, NotFound
from core.schemas.training import ARCHITECTURE, SlaeganConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from client.http import Client
    from core.schemas.jobs import JobOut


def configuration(
    settings: list[str], defaults: Mapping[str, Any] | None = None, **given: Any
) -> SlaeganConfig:
    """The configuration from KEY=VALUE pairs, checked here before anything is uploaded.

    Args:
        settings: dots reach into nested parts; values are JSON, or else text.
        defaults: values of what is not given.
        **given: values of options; None where not given.

    Raises:
        InvalidRequest: names each wrong key or value.
    """
    values = dict(defaults or {}) | {name: value for name, value in given.items() if value is not None}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise InvalidRequest(f"--set {setting!r} is not of the form KEY=VALUE.")
        *parents, last = name.strip().split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        try:
            place[last] = json.loads(text)
        except json.JSONDecodeError:
            place[last] = text
    try:
        return SlaeganConfig.model_validate(values)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()]
        raise InvalidRequest("The configuration is wrong. " + "; ".join(wrong)) from None


def find_job(client: Client, text: str) -> JobOut:
    """The job that a user means: a whole id, `last`, or the beginning of an id.

    Raises:
        NotFound: none is meant.
        InvalidRequest: several are.
    """
    try:
        return client.job(UUID(text))
    except ValueError:
        pass  # Not a whole id.
    if text == "last":
        newest = next(client.jobs(), None)
        if newest is None:
            raise NotFound("There is no job yet: submit one with `slaegan train`.")
        return newest
    found = [job for job in client.jobs() if str(job.id).startswith(text.lower())]
    if not found:
        raise NotFound(f"No job's id begins with {text!r}: see `slaegan jobs`.")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} jobs' ids begin with {text!r}: give more of it.")
    return found[0]


def find_weights(client: Client, text: str) -> tuple[UUID, dict[str, Any]]:
    """The checkpoint that a user means to begin from, and the shape of its networks.

    Args:
        client: of the service.
        text: a job as `find_job` takes it: its newest training state, which has both networks, or else its best
            generator. Or the whole id of a checkpoint, of whose networks nothing is known here.

    Raises:
        NotFound: the job has no checkpoint yet, or there is no such job.
    """
    try:
        job = find_job(client, text)
    except NotFound:
        try:
            return UUID(text), {}
        except ValueError:
            pass  # Not a whole id.
        raise
    checkpoints = client.checkpoints(job.id)
    states = [item for item in checkpoints if item.kind == "state"]
    chosen = max(states, key=lambda item: item.images_seen) if states else best_generator(job, checkpoints)
    return chosen.id, {name: job.config[name] for name in ARCHITECTURE if name in job.config}
