"""Deliveries that an archive has taken and not yet committed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEX = "ix_deliveries_sent"


def upgrade() -> None:
    """Add the transaction that an archive will speak of, and the index of those that wait for its word."""
    op.add_column("deliveries", sa.Column("commitment_uid", sa.String(64)))
    sent = sa.text("state = 'sent'")
    op.create_index(INDEX, "deliveries", ["not_before"], sqlite_where=sent, postgresql_where=sent)
    op.create_index("ix_deliveries_commitment", "deliveries", ["commitment_uid"])


def downgrade() -> None:
    """Whoever waits for a commitment is sent again."""
    op.execute("UPDATE deliveries SET state = 'waiting' WHERE state = 'sent'")
    op.drop_index("ix_deliveries_commitment", "deliveries")
    op.drop_index(INDEX, "deliveries")
    with op.batch_alter_table("deliveries") as table:
        table.drop_column("commitment_uid")
