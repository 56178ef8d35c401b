"""evaluations on demand"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kind = sa.Column("kind", sa.String(), server_default=sa.text("'metrics'"), nullable=False)
    op.add_column("evaluations", kind)
    op.create_check_constraint(
        op.f("ck_evaluations_kind"), "evaluations", "kind in ('metrics', 'backtracking')"
    )


def downgrade() -> None:
    op.execute("DELETE FROM evaluations WHERE kind <> 'metrics'")
    op.drop_constraint(op.f("ck_evaluations_kind"), "evaluations", type_="check")
    op.drop_column("evaluations", "kind")
