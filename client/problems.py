"""What went wrong elsewhere as an error of the one tree: in the service, or in an install without a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from core import errors
from core.schemas.pages import Problem

if TYPE_CHECKING:
    import httpx


def raise_for_problem(response: httpx.Response) -> None:
    """Raise the error that a problem+json body describes; a success passes.

    Args:
        response: may be a stream that nobody has read yet.

    Raises:
        SlaeganError: of the class that the problem's code names; InfrastructureError when something else than
            the service answered.
    """
    if response.is_success:
        return
    body = response.read()
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        raise stranger(response) from None
    details = {**problem.details, **({"errors": problem.errors} if problem.errors else {})}
    message = problem.detail + "".join(f" [{_located(entry)}]" for entry in problem.errors)
    raise errors.from_code(problem.code, message, **details)


def stranger(response: httpx.Response) -> errors.InfrastructureError:
    """The error of an answer that is none of this service's."""
    address = response.request.url.copy_with(query=None)  # That of a signed URL is a key.
    return errors.InfrastructureError(
        f"{address} answered {response.status_code} {response.reason_phrase}, not in the way of "
        "this service: is the address right, or does a proxy stand between?",
        status=response.status_code,
    )


def not_installed(error: ModuleNotFoundError) -> errors.SlaeganError:
    """The error of a client-only install that is asked for what runs on its own machine."""
    return errors.SlaeganError(
        f"The local stack is not installed ({error.name} is missing): pip install 'slaegan[local]'"
    )


def _located(entry: dict[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in entry.items())
