"""retention of generators, early stops, fine-tuning"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OF_EVALUATIONS = "fk_evaluations_checkpoint_id_checkpoints"
OF_JOBS = "fk_jobs_init_from_checkpoints"


def upgrade() -> None:
    op.add_column(
        "checkpoints", sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("jobs", sa.Column("stop_reason", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("init_from", sa.Uuid(), nullable=True))
    op.create_foreign_key(OF_JOBS, "jobs", "checkpoints", ["init_from"], ["id"], ondelete="SET NULL")
    op.create_index("ix_jobs_init_from", "jobs", ["init_from"])
    op.alter_column("evaluations", "checkpoint_id", nullable=True)
    op.drop_constraint(OF_EVALUATIONS, "evaluations", type_="foreignkey")
    op.create_foreign_key(
        OF_EVALUATIONS, "evaluations", "checkpoints", ["checkpoint_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index("ix_evaluations_checkpoint_id", "evaluations", ["checkpoint_id"])


def downgrade() -> None:
    op.drop_index("ix_evaluations_checkpoint_id", "evaluations")
    op.drop_constraint(OF_EVALUATIONS, "evaluations", type_="foreignkey")
    op.execute("DELETE FROM evaluations WHERE checkpoint_id IS NULL")
    op.alter_column("evaluations", "checkpoint_id", nullable=False)
    op.create_foreign_key(
        OF_EVALUATIONS, "evaluations", "checkpoints", ["checkpoint_id"], ["id"], ondelete="CASCADE"
    )
    op.drop_index("ix_jobs_init_from", "jobs")
    op.drop_constraint(OF_JOBS, "jobs", type_="foreignkey")
    op.drop_column("jobs", "init_from")
    op.drop_column("jobs", "stop_reason")
    op.drop_column("checkpoints", "pinned")
