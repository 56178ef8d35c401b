"""monitoring"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

DEAD = "ix_webhook_deliveries_dead"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("origin", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_index("ix_jobs_waiting", "jobs", ["queued_at"], postgresql_where=sa.text("status = 'queued'"))
    op.create_index("ix_jobs_paused", "jobs", ["id"], postgresql_where=sa.text("status = 'paused'"))
    op.create_index(DEAD, "webhook_deliveries", ["id"], postgresql_where=sa.text("status = 'dead'"))
    # Events come in the order of time: a few kilobytes tell in which pages a stretch of it lies.
    op.create_index(
        "ix_job_events_at",
        "job_events",
        ["at"],
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on", "pages_per_range": "32"},
    )


def downgrade() -> None:
    op.drop_index("ix_job_events_at", table_name="job_events")
    op.drop_index(DEAD, table_name="webhook_deliveries")
    op.drop_index("ix_jobs_paused", table_name="jobs")
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    op.drop_column("jobs", "origin")
