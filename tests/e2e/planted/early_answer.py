"""An API with a planted bug: it acknowledges a job that it never commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.main import main
from core.jobs import service

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.tables import Job

_create = service.create


def _and_do_not_commit(session: Session, **values: Any) -> Job:
    session.commit = session.flush  # type: ignore[method-assign]
    return _create(session, **values)


service.create = _and_do_not_commit

if __name__ == "__main__":
    main()
