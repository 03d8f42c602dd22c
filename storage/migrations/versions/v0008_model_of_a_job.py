"""Which model did a job, so that what another one did can be done again."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the digest of the package's manifest; of what is done already nobody knows it."""
    op.add_column("jobs", sa.Column("model_sha256", sa.String(64), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("model_sha256")
