"""What a run of the garbage collection may do, and what it has found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Bounds:
    """How far a run goes.

    Attributes:
        grace_s: younger things stay, since what belongs to them may be on its way; longer than any process waits
            between putting a file into the store and committing its row.
        limit: so many things of one kind are removed, then the rest waits for the next run.
        dry_run: find, and remove nothing.
    """

    grace_s: float
    limit: int
    dry_run: bool = False

    @property
    def grace(self) -> timedelta:
        """The age below which things stay, to be held against the database's clock."""
        return timedelta(seconds=self.grace_s)

    @property
    def before(self) -> datetime:
        """What is older than this by the clocks of stores and machines is old enough."""
        return datetime.now(UTC) - self.grace


@dataclass
class Found:
    """Garbage of one kind; `more` where the run's limit left some of it."""

    count: int = 0
    size_bytes: int = 0
    more: bool = False

    def add(self, size_bytes: int = 0) -> None:
        """One more thing."""
        self.count += 1
        self.size_bytes += size_bytes


@dataclass
class Report:
    """What a run removed, or in a dry run would remove, by kind; and what kept it from doing so."""

    dry_run: bool
    kinds: dict[str, Found] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def more(self) -> bool:
        """Whether another run would find more at once."""
        return any(found.more for found in self.kinds.values())

    def lines(self) -> Iterator[str]:
        """What to tell a log or a person."""
        told = {kind: found for kind, found in self.kinds.items() if found.count}
        if not told:
            yield "Nothing to remove."
            return
        yield "Would be removed:" if self.dry_run else "Removed:"
        for kind, found in told.items():
            size = f", {found.size_bytes:,} bytes" if found.size_bytes else ""
            yield f"  {kind}: {found.count:,}{size}{', and there is more' if found.more else ''}"
