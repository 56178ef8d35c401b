"""log lines in chunks in the store; the id that a store is marked with"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("log_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.execute(
        "UPDATE jobs SET log_seq = last.seq "
        "FROM (SELECT job_id, max(seq) AS seq FROM log_lines GROUP BY job_id) AS last WHERE last.job_id = jobs.id"
    )
    op.create_table(
        "log_chunks",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("storage_key", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("first_seq between 1 and last_seq", name=op.f("ck_log_chunks_lines")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_log_chunks_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "first_seq", name=op.f("pk_log_chunks")),
        sa.UniqueConstraint("storage_key", name=op.f("uq_log_chunks_storage_key")),
    )

    op.create_table(
        "service",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service")),
    )
    op.execute("INSERT INTO service DEFAULT VALUES")


def downgrade() -> None:
    op.drop_table("service")
    # The lines in the store are lost to the older version; what is still in the database stays.
    op.drop_table("log_chunks")
    op.drop_column("jobs", "log_seq")
