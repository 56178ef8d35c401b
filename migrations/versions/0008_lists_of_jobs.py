"""lists of jobs"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BY_STATUS = "ix_jobs_tenant_id_status_created_at_id"
BY_DATASET = "ix_jobs_dataset_id_created_at_id"


def upgrade() -> None:
    op.create_index(op.f(BY_STATUS), "jobs", ["tenant_id", "status", "created_at", "id"])
    op.create_index(op.f(BY_DATASET), "jobs", ["dataset_id", "created_at", "id"])
    op.drop_index(op.f("ix_jobs_dataset_id"), table_name="jobs")


def downgrade() -> None:
    op.create_index(op.f("ix_jobs_dataset_id"), "jobs", ["dataset_id"])
    op.drop_index(op.f(BY_DATASET), table_name="jobs")
    op.drop_index(op.f(BY_STATUS), table_name="jobs")
