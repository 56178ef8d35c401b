"""alarms of jobs, pictures of evaluations"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("alarms", JSONB(), server_default=sa.text("'[]'"), nullable=False))
    op.add_column("evaluations", sa.Column("picture_key", sa.String(), nullable=True))
    op.add_column("evaluations", sa.Column("picture_sha256", sa.String(), nullable=True))
    op.add_column("evaluations", sa.Column("picture_size_bytes", sa.BigInteger(), nullable=True))
    op.create_unique_constraint("uq_evaluations_picture_key", "evaluations", ["picture_key"])
    op.create_check_constraint(
        op.f("ck_evaluations_picture_whole"),
        "evaluations",
        "num_nonnulls(picture_key, picture_sha256, picture_size_bytes) in (0, 3)",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_evaluations_picture_whole"), "evaluations", type_="check")
    op.drop_constraint("uq_evaluations_picture_key", "evaluations", type_="unique")
    for name in ("picture_size_bytes", "picture_sha256", "picture_key"):
        op.drop_column("evaluations", name)
    op.drop_column("jobs", "alarms")
