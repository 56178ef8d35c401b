"""kinds of pictures of a snapshot"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ONE_EACH = "uq_samples_job_id_run_images_seen"


def upgrade() -> None:
    op.add_column("samples", sa.Column("kind", sa.String(), server_default="grid", nullable=False))
    op.create_unique_constraint(f"{ONE_EACH}_kind", "samples", ["job_id", "run", "images_seen", "kind"])
    op.drop_constraint(ONE_EACH, "samples")


def downgrade() -> None:
    # Their files lose the rows that name them, and the garbage collection takes them.
    op.execute("DELETE FROM samples WHERE kind <> 'grid'")
    op.create_unique_constraint(ONE_EACH, "samples", ["job_id", "run", "images_seen"])
    op.drop_constraint(f"{ONE_EACH}_kind", "samples")
    op.drop_column("samples", "kind")
