"""keys' last use, the audit trail, and the time that attempts hold devices"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
# Retention removes what is old; nobody removes what is new.
APPEND_ONLY = """
create function audit_entries_append_only() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and old.created_at < clock_timestamp() - interval '90 days' then
    return old;
  end if;
  raise exception 'audit entries are never changed, and kept for 90 days' using errcode = 'check_violation';
end $$
"""
TRIGGERS = (
    """create trigger audit_entries_append_only before update or delete on audit_entries for each row
       execute function audit_entries_append_only()""",
    """create trigger audit_entries_not_emptied before truncate on audit_entries for each statement
       execute function audit_entries_append_only()""",
)
RUNNING = """
insert into job_attempts (id, job_id, tenant_id, kind, run, number, worker, device, started_at)
select j.lease_token, j.id, j.tenant_id, 'training', j.run, j.attempt, coalesce(j.worker, ''), w.device, j.claimed_at
from jobs j left join workers w on w.name = j.worker where j.status = 'running'
"""


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("hint", sa.String(), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("replaced_by", sa.Uuid(), nullable=True))
    _create_audit_entries()
    _create_job_attempts()
    for statement in (APPEND_ONLY, *TRIGGERS, RUNNING):
        op.execute(statement)


def _create_audit_entries() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("method", sa.String(), nullable=True),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.CheckConstraint("actor in ('key', 'operator')", name=op.f("ck_audit_entries_actor")),
        sa.CheckConstraint(
            "(actor = 'key') = (key_id is not null)", name=op.f("ck_audit_entries_key_of_a_key")
        ),
        sa.CheckConstraint(
            "num_nonnulls(key_id, request_id, method, path) in (0, 4)",
            name=op.f("ck_audit_entries_request_whole"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_audit_entries_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index(
        op.f("ix_audit_entries_tenant_id_created_at_id"), "audit_entries", ["tenant_id", "created_at", "id"]
    )
    op.create_index(op.f("ix_audit_entries_created_at"), "audit_entries", ["created_at"])


def _create_job_attempts() -> None:
    op.create_table(
        "job_attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("evaluation_id", sa.Uuid(), nullable=True),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.CheckConstraint(
            "kind in ('training', 'metrics', 'backtracking')", name=op.f("ck_job_attempts_kind")
        ),
        sa.CheckConstraint(
            "(kind = 'training') = (evaluation_id is null)",
            name=op.f("ck_job_attempts_evaluation_of_an_evaluation"),
        ),
        sa.CheckConstraint(
            "(ended_at is null) = (outcome is null)", name=op.f("ck_job_attempts_ended_somehow")
        ),
        sa.CheckConstraint("ended_at >= started_at", name=op.f("ck_job_attempts_ended_after_its_start")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_attempts_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_job_attempts_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_attempts")),
    )
    op.create_index(
        op.f("ix_job_attempts_job_id_started_at_id"), "job_attempts", ["job_id", "started_at", "id"]
    )
    op.create_index(op.f("ix_job_attempts_tenant_id_started_at"), "job_attempts", ["tenant_id", "started_at"])
    training, still_open = sa.text("kind = 'training'"), sa.text("ended_at is null")
    op.create_index(
        "uq_job_attempts_number", "job_attempts", ["job_id", "number"], unique=True, postgresql_where=training
    )
    op.create_index("ix_job_attempts_open", "job_attempts", ["job_id"], postgresql_where=still_open)


def downgrade() -> None:
    op.drop_table("job_attempts")
    op.drop_table("audit_entries")
    op.execute("drop function audit_entries_append_only()")
    op.drop_column("api_keys", "replaced_by")
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("api_keys", "hint")
