"""What is to be fetched from a PACS: missing images, and earlier studies."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UID = sa.String(64)
FINISHED = "ix_studies_finished"
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "retrievals",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("wanted_study_uid", UID, nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("leased_by", sa.Text),
        sa.Column("lease_until", sa.Double),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retrievals"),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["studies.study_instance_uid"], name="fk_retrievals_study_instance_uid"
        ),
        sa.UniqueConstraint("study_instance_uid", "kind", "wanted_study_uid", name="uq_retrievals_study_instance_uid"),
        sqlite_autoincrement=True,
    )
    for name, state, column in (
        ("ix_retrievals_due", "waiting", "not_before"),
        ("ix_retrievals_leased", "leased", "lease_until"),
    ):
        where = sa.text(f"state = '{state}'")
        op.create_index(name, "retrievals", [column], sqlite_where=where, postgresql_where=where)
    op.create_index("ix_retrievals_wanted", "retrievals", ["wanted_study_uid"])
    _index_finished("state IN ('done', 'failed', 'unmatched', 'prior')")


def downgrade() -> None:
    """Forget what was to be fetched; earlier studies stay as they are, and count as not analysed."""
    op.execute("UPDATE studies SET state = 'unmatched' WHERE state = 'prior'")
    op.drop_table("retrievals")
    _index_finished("state IN ('done', 'failed', 'unmatched')")


def _index_finished(condition: str) -> None:
    where = sa.text(condition)
    op.drop_index(FINISHED, "studies")
    op.create_index(FINISHED, "studies", ["last_received_at"], sqlite_where=where, postgresql_where=where)
