"""generations and exports"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_CHECKS = {
    "what": "what in ('generation', 'export')",
    "status": "status in ('queued', 'running', 'done', 'failed', 'cancelled')",
    "leased_while_running": "(status = 'running') = (lease_token is not null)",
    "lease_whole": "(lease_token is null) = (lease_expires_at is null)",
    "done_with_facts": "(status = 'done') = (facts is not null)",
    "failed_with_reason": "(status = 'failed') = (error is not null)",
    "finished": "(status in ('queued', 'running')) = (finished_at is null)",
    "picture_only_while_needed": "picture is null or status in ('queued', 'running')",
}


def upgrade() -> None:
    op.create_table(
        "renderings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("checkpoint_id", sa.Uuid(), nullable=True),
        sa.Column("images_seen", sa.BigInteger(), nullable=False),
        sa.Column("generator_sha256", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("request_hash", sa.String(), nullable=False),
        sa.Column("picture", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("facts", JSONB(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("origin", JSONB(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_renderings_{name}")) for name, rule in _CHECKS.items()),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_renderings_tenant_id_tenants")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_renderings_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoints.id"],
            name=op.f("fk_renderings_checkpoint_id_checkpoints"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_renderings")),
        sa.UniqueConstraint(
            "job_id",
            "generator_sha256",
            "request_hash",
            name=op.f("uq_renderings_job_id_generator_sha256_request_hash"),
        ),
    )
    for columns in (["job_id", "what", "created_at", "id"], ["tenant_id", "started_at"], ["finished_at"]):
        op.create_index(op.f(f"ix_renderings_{'_'.join(columns)}"), "renderings", columns)
    op.create_index(op.f("ix_renderings_checkpoint_id"), "renderings", ["checkpoint_id"])
    for name, columns, status in (
        ("queue", ["tenant_id", "created_at"], "queued"),
        ("running", ["tenant_id"], "running"),
        ("leased", ["lease_expires_at"], "running"),
    ):
        where = sa.text(f"status = '{status}'")
        op.create_index(f"ix_renderings_{name}", "renderings", columns, postgresql_where=where)
    op.create_table(
        "rendered_files",
        sa.Column("rendering_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("storage_key", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rendering_id"],
            ["renderings.id"],
            name=op.f("fk_rendered_files_rendering_id_renderings"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("rendering_id", "name", name=op.f("pk_rendered_files")),
        sa.UniqueConstraint("rendering_id", "position", name=op.f("uq_rendered_files_rendering_id_position")),
        sa.UniqueConstraint("storage_key", name=op.f("uq_rendered_files_storage_key")),
    )


def downgrade() -> None:
    op.drop_table("rendered_files")
    op.drop_table("renderings")
