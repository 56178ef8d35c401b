"""Garbage collection: what no row names, no rule keeps and no process uses goes.

It may be run at any time, as often as one likes, by several at once, and be killed at any moment: each step stands for
itself, rows go before their files, and what one run leaves the next one finds.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from core.errors import InfrastructureError
from core.garbage.files import collect_files, collect_unfinished
from core.garbage.logs import collect_tails
from core.garbage.machine import collect_caches, collect_resumable, collect_scratch, collect_uploads
from core.garbage.renderings import collect_renderings
from core.garbage.report import Found, Report
from core.garbage.rows import (
    collect_answers,
    collect_audit_entries,
    collect_datasets,
    collect_expired,
    collect_generators,
    collect_pictures,
    collect_states,
    collect_workers,
)
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.garbage.report import Bounds

logger = logging.getLogger(__name__)


def collect(bounds: Bounds, *, data_dir: Path | None) -> Report:
    """Look for garbage of every kind, and remove it unless the run is dry.

    Args:
        bounds: how far to go; a grace below two leases counts as two leases.
        data_dir: this machine's, of a worker or of a local stack; None: leave the machine alone.

    Returns:
        What was found; a kind that failed is among its problems, and the others were gone through.
    """
    # However short a grace is asked for: who holds a lease goes on trying to commit for as long.
    bounds = replace(bounds, grace_s=max(bounds.grace_s, 2 * settings().lease_s))
    # Rows go first: what they leave in the store if this is interrupted is among the files of the next run.
    kinds: dict[str, Callable[[Bounds, Found], None]] = {
        "log lines (moved to the store)": collect_tails,
        "generators": collect_generators,
        "training states": collect_states,
        "generations and exports": collect_renderings,
        "rows of deleted datasets": collect_datasets,
        "answers kept for a day": collect_answers,
        "pictures of no dataset": collect_pictures,
        "rows of lost workers": collect_workers,
        "expired uploads": collect_expired,
        "old entries of the audit trail": collect_audit_entries,
        "files without a row": collect_files,
        "unfinished files": collect_unfinished,
    }
    if data_dir is not None:
        kinds |= {
            "abandoned uploads": partial(collect_uploads, data_dir=data_dir),
            "files of uploads that are over": partial(collect_resumable, data_dir=data_dir),
            "scratch folders of lost workers": partial(collect_scratch, data_dir=data_dir),
            "unused cache files": partial(collect_caches, data_dir=data_dir),
        }
    report = Report(dry_run=bounds.dry_run)
    for kind, look in kinds.items():
        found = report.kinds[kind] = Found()
        try:
            look(bounds, found)
        except (InfrastructureError, DBAPIError, OSError) as error:
            report.problems.append(f"{kind}: {error}")
    logger.info("%s", " ".join(line.strip() for line in report.lines()))
    for problem in report.problems:
        logger.warning("The garbage collection could not finish: %s", problem)
    return report
