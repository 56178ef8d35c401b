"""states and limits"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BEFORE = "status in ('queued', 'running', 'evaluating', 'succeeded', 'failed', 'cancelled')"
AFTER = "status in ('queued', 'running', 'evaluating', 'paused', 'succeeded', 'failed', 'cancelled')"
LEASED = "(lease_token is null) = (claimed_at is null)"

# Whatever a program does, a job goes from state to state as the table says, takes an event's number with each step,
# and has that event when the transaction ends.
TRANSITION = """
create function jobs_transition() returns trigger language plpgsql as $$
begin
  if not (
    (new.run = old.run and (old.status, new.status) in (
      ('queued', 'running'), ('queued', 'paused'), ('queued', 'cancelled'), ('queued', 'failed'),
      ('running', 'queued'), ('running', 'evaluating'), ('running', 'paused'), ('running', 'cancelled'),
      ('running', 'failed'), ('evaluating', 'succeeded'), ('evaluating', 'cancelled'),
      ('paused', 'queued'), ('paused', 'cancelled')
    ))
    or (new.run = old.run + 1 and new.status = 'queued' and old.status in ('succeeded', 'failed', 'cancelled'))
  ) then
    raise exception 'job % cannot go from % (run %) to % (run %)',
      old.id, old.status, old.run, new.status, new.run using errcode = 'check_violation';
  end if;
  if new.event_seq <> old.event_seq + 1 then
    raise exception 'job % changes its state without an event of its own', old.id using errcode = 'check_violation';
  end if;
  return new;
end $$
"""
TOLD = """
create function jobs_transition_told() returns trigger language plpgsql as $$
begin
  if not exists (select from job_events where job_id = new.id and seq = new.event_seq) then
    raise exception 'job % changed its state and event % is missing', new.id, new.event_seq
      using errcode = 'check_violation';
  end if;
  return null;
end $$
"""
APPEND_ONLY = """
create function job_events_append_only() returns trigger language plpgsql as $$
begin
  raise exception 'events are never changed' using errcode = 'check_violation';
end $$
"""
TRIGGERS = (
    """create trigger jobs_transition before update on jobs for each row
       when (old.status is distinct from new.status or old.run is distinct from new.run)
       execute function jobs_transition()""",
    """create constraint trigger jobs_transition_told after update on jobs deferrable initially deferred
       for each row when (old.status is distinct from new.status) execute function jobs_transition_told()""",
    """create trigger job_events_append_only before update on job_events for each row
       execute function job_events_append_only()""",
)


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("pause_requested", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("jobs", sa.Column("out_of_memory", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("run_s", sa.Double(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("max_queue_s", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("max_run_s", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("drain", sa.String(), nullable=True))
    op.execute("update jobs set claimed_at = now() where lease_token is not null")
    op.drop_constraint(op.f("ck_jobs_status"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_status"), "jobs", AFTER)
    op.create_check_constraint(op.f("ck_jobs_claimed_while_leased"), "jobs", LEASED)
    op.create_check_constraint(op.f("ck_workers_drain"), "workers", "drain in ('finish', 'hand_back')")
    op.drop_index("ix_jobs_queue", table_name="jobs")
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        ["tenant_id", sa.literal_column("priority desc"), "queued_at"],
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_jobs_running", "jobs", ["tenant_id"], postgresql_where=sa.text("status = 'running'"))
    for statement in (TRANSITION, TOLD, APPEND_ONLY, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop trigger job_events_append_only on job_events")
    op.execute("drop trigger jobs_transition_told on jobs")
    op.execute("drop trigger jobs_transition on jobs")
    for function in ("job_events_append_only", "jobs_transition_told", "jobs_transition"):
        op.execute(f"drop function {function}()")
    op.drop_index("ix_jobs_running", table_name="jobs")
    op.drop_index("ix_jobs_queue", table_name="jobs")
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        [sa.literal_column("priority desc"), "queued_at"],
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.drop_constraint(op.f("ck_workers_drain"), "workers")
    op.drop_constraint(op.f("ck_jobs_claimed_while_leased"), "jobs")
    op.execute("update jobs set status = 'queued' where status = 'paused'")
    op.drop_constraint(op.f("ck_jobs_status"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_status"), "jobs", BEFORE)
    op.drop_column("workers", "drain")
    for column in (
        *(
            "max_run_s",
            "max_queue_s",
            "not_before",
            "run_s",
            "claimed_at",
            "out_of_memory",
            "pause_requested",
        ),
    ):
        op.drop_column("jobs", column)
