"""What a process has one of, made when it is first asked for."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Made = TypeVar("Made")


class Once(Generic[Made]):
    """Calls a function once, whoever asks first; `functools.cache` lets threads that ask at the same time each call it.

    A process that forks makes its own where its parent has made none.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self.__doc__ = make.__doc__
        self._make = make
        self._lock = Lock()
        self._made: list[Made] = []

    def __call__(self) -> Made:
        made = self._made
        if not made:
            with self._lock:
                made = self._made
                if not made:
                    made = self._made = [self._make()]
        return made[0]

    def cache_clear(self) -> None:
        """Make it anew when it is next asked for."""
        self._made = []
