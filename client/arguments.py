"""What users mean by what they type on the command line."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pydantic import ValidationError

from client.results import best_generator
from core.errors import InvalidRequest, NotFound
from core.schemas.datasets import DatasetOut
from core.schemas.families import FAMILIES, Config, parse_config
from core.schemas.jobs import JobIn, JobOut
from core.schemas.training import DEFAULT_FAMILY
from core.schemas.wording import place, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from client.http import SlaeGan

Thing = TypeVar("Thing", JobOut, DatasetOut)


def configuration(settings: list[str], defaults: Mapping[str, Any] | None = None, **given: Any) -> Config:
    """The configuration from KEY=VALUE pairs, checked here before anything is uploaded.

    Args:
        settings: dots reach into nested parts; values are JSON, or else text.
        defaults: values of what is not given, such as the shape of weights to begin from, with their family.
        **given: values of options; None where not given.

    Raises:
        InvalidRequest: there is no such family, or it is not that of the defaults, or keys or values are wrong: each is
            named.
    """
    # Copied whole, since dots reach into what belongs to somebody else.
    values = deepcopy(
        dict(defaults or {}) | {name: value for name, value in given.items() if value is not None}
    )
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise InvalidRequest(f"--set {setting!r} is not of the form KEY=VALUE.")
        *parents, last = name.strip().split(".")
        inner = values
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise InvalidRequest(
                    f"--set {setting!r} reaches into {parent}, which is {json.dumps(inner)} and has no parts."
                )
        try:
            inner[last] = json.loads(text)
        except json.JSONDecodeError:
            inner[last] = text
    family = values.get("family", DEFAULT_FAMILY)
    require_family(family)
    if defaults and defaults.get("family", family) != family:
        raise InvalidRequest(
            f"The weights to begin from are of family {defaults['family']!r}, which fit no {family!r}: leave the "
            "family out, or begin from another job."
        )
    try:
        return parse_config(values)
    except ValidationError as error:
        begin = f"The configuration is wrong (`slaegan models {family}` tells what may be set)."
        raise InvalidRequest(f"{begin} {_told(error)}") from None


def asked_job(**given: Any) -> JobIn:
    """A job to ask for, checked here before anything is uploaded.

    Args:
        **given: the fields of JobIn.

    Raises:
        InvalidRequest: values are wrong, or do not go together: each is named.
    """
    try:
        return JobIn.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(f"There can be no such job. {_told(error)}") from None


def _told(error: ValidationError) -> str:
    # The factory of a default was not called since the field that it looks at is wrong: that one is listed.
    listed = [entry for entry in error.errors() if entry["type"] != "default_factory_not_called"]
    return "; ".join(": ".join(filter(None, (place(entry), wording(entry)))) for entry in listed)


def require_family(family: object) -> None:
    """Raises InvalidRequest, with the known ones, where there is no such family of models."""
    if family not in [*FAMILIES]:  # which also takes what cannot be a key
        raise InvalidRequest(f"There is no family of models {family!r}: choose one of {', '.join(FAMILIES)}.")


def find_job(client: SlaeGan, text: str) -> JobOut:
    """The job that a user means: a whole id, `last`, or the beginning of an id.

    Raises:
        NotFound: none is meant.
        InvalidRequest: several are.
    """
    return _meant(text, client.job, client.jobs, kind="job", remedy="submit one with `slaegan train`")


def find_dataset(client: SlaeGan, text: str) -> DatasetOut:
    """The dataset that a user means: a whole id of any version, `last`, or the beginning of a newest version's id.

    Raises:
        NotFound: none is meant.
        InvalidRequest: several are.
    """
    remedy = "make one with `slaegan upload`"
    return _meant(text, client.dataset, client.datasets, kind="dataset", remedy=remedy)


def _meant(
    text: str,
    get: Callable[[UUID], Thing],
    newest_first: Callable[[], Iterator[Thing]],
    *,
    kind: str,
    remedy: str,
) -> Thing:
    try:
        return get(UUID(text))
    except ValueError:
        pass  # Not a whole id.
    if text == "last":
        newest = next(newest_first(), None)
        if newest is None:
            raise NotFound(f"There is no {kind} yet: {remedy}.")
        return newest
    found = [thing for thing in newest_first() if text and str(thing.id).startswith(text.lower())]
    if not found:
        raise NotFound(f"No {kind}'s id begins with {text!r}: see `slaegan {kind}s`.")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} {kind}s' ids begin with {text!r}: give more of it.")
    return found[0]


def find_weights(client: SlaeGan, text: str) -> tuple[UUID, dict[str, Any]]:
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
    kind = FAMILIES.get(job.family)
    shape = () if kind is None else kind.architecture
    return chosen.id, {name: job.config[name] for name in shape if name in job.config}
