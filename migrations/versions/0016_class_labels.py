"""class labels of datasets' pictures"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset_images", sa.Column("label", sa.String(), nullable=True))
    op.add_column("datasets", sa.Column("classes", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("datasets", "classes")
    op.drop_column("dataset_images", "label")
