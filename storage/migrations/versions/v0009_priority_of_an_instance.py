"""With which priority an instance was sent, so that urgent studies go first."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; of what was received before nobody knows it."""
    op.add_column("instances", sa.Column("priority", sa.Integer))


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE instances DROP COLUMN priority")
