"""What others announced of a study: examination steps, and instances that are available."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UID = sa.String(64)


def upgrade() -> None:
    """Make the two tables and their indexes."""
    op.create_table(
        "notices",
        sa.Column("notice_uid", UID, nullable=False),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("notice_uid", "study_instance_uid", name="pk_notices"),
    )
    op.create_index("ix_notices_study", "notices", ["study_instance_uid"])
    op.create_index("ix_notices_received", "notices", ["received_at"])
    op.create_table(
        "announced",
        sa.Column("notice_uid", UID, nullable=False),
        sa.Column("sop_instance_uid", UID, nullable=False),
        sa.Column("series_instance_uid", UID, nullable=False),
        sa.Column("sop_class_uid", UID, nullable=False),
        sa.PrimaryKeyConstraint("notice_uid", "sop_instance_uid", name="pk_announced"),
    )


def downgrade() -> None:
    """Forget what was announced."""
    op.drop_table("announced")
    op.drop_table("notices")
