"""Studies with their instances, the queue and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UID = sa.String(64)
STATE = sa.String(16)
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the four tables and their indexes."""
    _create_studies()
    _create_instances()
    _create_jobs()
    _create_deliveries()


def downgrade() -> None:
    """Drop everything."""
    for table in ("deliveries", "jobs", "instances", "studies"):
        op.drop_table(table)


def _create_studies() -> None:
    op.create_table(
        "studies",
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("first_received_at", sa.Double, nullable=False),
        sa.Column("last_received_at", sa.Double, nullable=False),
        sa.Column("restarted_at", sa.Double),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_studies"),
    )
    _partial_index("ix_studies_receiving", "studies", ["first_received_at"], "receiving")


def _create_instances() -> None:
    op.create_table(
        "instances",
        sa.Column("sop_instance_uid", UID, nullable=False),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("series_instance_uid", UID, nullable=False),
        sa.Column("sop_class_uid", UID, nullable=False),
        sa.Column("transfer_syntax_uid", UID, nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name="pk_instances"),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name="fk_instances_study_instance_uid",
            deferrable=True,
            initially="DEFERRED",
        ),
    )
    op.create_index("ix_instances_study", "instances", ["study_instance_uid", "sop_instance_uid"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("package", sa.Text, nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("claimed_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("leased_by", sa.Text),
        sa.Column("lease_until", sa.Double),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name="fk_jobs_study_instance_uid",
        ),
        sa.UniqueConstraint("study_instance_uid", "revision", "package", name="uq_jobs_study_instance_uid"),
        sqlite_autoincrement=True,
    )
    _partial_index("ix_jobs_claim", "jobs", [sa.text("priority DESC"), "id"], "waiting")
    _partial_index("ix_jobs_leased", "jobs", ["lease_until"], "leased")


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("job_id", NUMBER, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("sop_instance_uid", UID, nullable=False),
        sa.Column("sop_class_uid", UID, nullable=False),
        sa.Column("transfer_syntax_uid", UID, nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("leased_by", sa.Text),
        sa.Column("lease_until", sa.Double),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_deliveries_job_id"),
        sa.UniqueConstraint("job_id", "destination", "sop_instance_uid", name="uq_deliveries_job_id"),
        sqlite_autoincrement=True,
    )
    _partial_index("ix_deliveries_due", "deliveries", ["not_before", "id"], "waiting")
    _partial_index("ix_deliveries_leased", "deliveries", ["lease_until"], "leased")


def _partial_index(name: str, table: str, columns: list[str | sa.TextClause], state: str) -> None:
    where = sa.text(f"state = '{state}'")
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
