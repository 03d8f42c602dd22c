"""What tells this database from all others, so that an archive can name the one that has its rows."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and its one row."""
    table = op.create_table(
        "identity",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_identity"),
    )
    op.bulk_insert(table, [{"uuid": str(uuid.uuid4())}])


def downgrade() -> None:
    """Forget it; a database that is brought up again later is another one to its archive."""
    op.drop_table("identity")
