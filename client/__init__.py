"""The Python client: `SlaeGan`, or `AsyncSlaeGan` on an event loop; and the command line, in client.cli.

    from client import SlaeGan

    with SlaeGan() as slaegan:          # finds the stack of `slaegan up`
        job = next(slaegan.jobs())
        job.wait()
        print(job.metrics())

What is listed here is the public surface; schemas are in core.schemas, errors in core.errors.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.bound import AsyncDataset, AsyncJob, Dataset, Job
    from client.http import AsyncSlaeGan, SlaeGan
    from client.pictures import Picture

__all__ = ["AsyncDataset", "AsyncJob", "AsyncSlaeGan", "Dataset", "Job", "Picture", "SlaeGan"]

_MODULES = {"AsyncSlaeGan": "http", "SlaeGan": "http", "Picture": "pictures"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the processes that guard a local stack need none of it, and start fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"client.{_MODULES.get(name, 'bound')}"), name)


def __dir__() -> list[str]:
    return __all__
