"""lint of datasets"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("lint", JSONB(), nullable=True))
    op.add_column(
        "dataset_images", sa.Column("facts", JSONB(), server_default=sa.text("'{}'"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("dataset_images", "facts")
    op.drop_column("datasets", "lint")
