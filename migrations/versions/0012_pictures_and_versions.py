"""each picture once a tenant; versions of datasets"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SHARED = """
SELECT count(*) FROM (
  SELECT sha256 FROM dataset_images JOIN datasets ON datasets.id = dataset_images.dataset_id
  WHERE deleted_at IS NULL GROUP BY dataset_images.tenant_id, sha256 HAVING count(DISTINCT dataset_id) > 1
) AS shared
"""
FACTS = ("storage_key", "width", "height", "size_bytes")


def upgrade() -> None:
    _share_pictures()
    op.add_column("datasets", sa.Column("series_id", sa.Uuid()))
    op.add_column("datasets", sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column("datasets", sa.Column("parent_id", sa.Uuid()))
    for name in ("added_count", "removed_count"):
        op.add_column("datasets", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE datasets SET series_id = id, added_count = image_count")
    op.alter_column("datasets", "series_id", nullable=False)
    op.create_unique_constraint(op.f("uq_datasets_series_id_version"), "datasets", ["series_id", "version"])
    op.create_check_constraint(
        op.f("ck_datasets_first_without_parent"), "datasets", "(version = 1) = (parent_id is null)"
    )
    op.add_column(
        "jobs", sa.Column("dataset_version", sa.Integer(), server_default=sa.text("1"), nullable=False)
    )


def _share_pictures() -> None:
    op.create_table(
        "pictures",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("storage_key", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "touched_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_pictures_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("tenant_id", "sha256", name=op.f("pk_pictures")),
        sa.UniqueConstraint("storage_key", name=op.f("uq_pictures_storage_key")),
    )
    op.add_column("dataset_images", sa.Column("tenant_id", sa.Uuid()))
    op.execute(
        "UPDATE dataset_images SET tenant_id = datasets.tenant_id FROM datasets "
        "WHERE datasets.id = dataset_images.dataset_id"
    )
    # The oldest copy stays. No row names the others any more: the garbage collection takes them.
    op.execute(
        "INSERT INTO pictures (tenant_id, sha256, storage_key, width, height, size_bytes) "
        "SELECT DISTINCT ON (i.tenant_id, i.sha256) i.tenant_id, i.sha256, i.storage_key, i.width, i.height, "
        "i.size_bytes FROM dataset_images i JOIN datasets d ON d.id = i.dataset_id "
        "ORDER BY i.tenant_id, i.sha256, d.created_at, d.id, i.position"
    )
    op.alter_column("dataset_images", "tenant_id", nullable=False)
    op.create_foreign_key(
        op.f("fk_dataset_images_tenant_id_sha256_pictures"),
        "dataset_images",
        "pictures",
        ["tenant_id", "sha256"],
        ["tenant_id", "sha256"],
        ondelete="RESTRICT",
    )
    op.create_index(op.f("ix_dataset_images_tenant_id_sha256"), "dataset_images", ["tenant_id", "sha256"])
    for name in FACTS:
        op.drop_column("dataset_images", name)


def downgrade() -> None:
    _refuse_shared()
    op.drop_column("jobs", "dataset_version")
    op.drop_constraint(op.f("ck_datasets_first_without_parent"), "datasets")
    op.drop_constraint(op.f("uq_datasets_series_id_version"), "datasets")
    # Each version becomes a dataset of its own.
    for name in ("series_id", "version", "parent_id", "added_count", "removed_count"):
        op.drop_column("datasets", name)
    op.add_column("dataset_images", sa.Column("storage_key", sa.String()))
    op.add_column("dataset_images", sa.Column("width", sa.Integer()))
    op.add_column("dataset_images", sa.Column("height", sa.Integer()))
    op.add_column("dataset_images", sa.Column("size_bytes", sa.BigInteger()))
    columns = ", ".join(f"{name} = pictures.{name}" for name in FACTS)
    op.execute(
        f"UPDATE dataset_images SET {columns} FROM pictures "  # noqa: S608  # the columns are named above
        "WHERE pictures.tenant_id = dataset_images.tenant_id AND pictures.sha256 = dataset_images.sha256"
    )
    for name in FACTS:
        op.alter_column("dataset_images", name, nullable=False)
    op.drop_index(op.f("ix_dataset_images_tenant_id_sha256"), table_name="dataset_images")
    op.drop_constraint(op.f("fk_dataset_images_tenant_id_sha256_pictures"), "dataset_images")
    op.drop_column("dataset_images", "tenant_id")
    op.drop_table("pictures")


def _refuse_shared() -> None:
    """The older version of the service takes a dataset's files to be its own: with one dataset it deletes them all."""
    if shared := op.get_bind().execute(sa.text(SHARED)).scalar_one():
        raise CommandError(
            f"Pictures that more than one dataset holds: {shared}. Before revision 0012 every dataset has files of its "
            "own, and the deletion of one would take the others' pictures with it. Delete datasets until none shares "
            "pictures with another, or restore a backup of the time before. Nothing was changed."
        )
