"""Studies whose files were removed to make room."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FINISHED, REMOVING = "ix_studies_finished", "ix_studies_removing"


def upgrade() -> None:
    """Add how many instances were removed, and the indexes of what may be and of what is being removed."""
    op.add_column("studies", sa.Column("removed_instances", sa.Integer()))
    finished = sa.text("state IN ('done', 'failed', 'unmatched')")
    op.create_index(FINISHED, "studies", ["last_received_at"], sqlite_where=finished, postgresql_where=finished)
    removing = sa.text("state = 'removing'")
    op.create_index(REMOVING, "studies", ["study_instance_uid"], sqlite_where=removing, postgresql_where=removing)


def downgrade() -> None:
    """Forget removed studies; one that is being removed is finished again, and its missing files will be told."""
    op.execute("DELETE FROM studies WHERE state = 'removed'")
    op.execute("UPDATE studies SET state = 'failed' WHERE state = 'removing'")
    op.drop_index(REMOVING, "studies")
    op.drop_index(FINISHED, "studies")
    with op.batch_alter_table("studies") as table:
        table.drop_column("removed_instances")
