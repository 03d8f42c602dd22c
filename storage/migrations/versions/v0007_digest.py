"""An instance's digest may be of other algorithms than SHA-256; its length tells which."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename the column; what was received keeps its digest, and so its results their UIDs."""
    op.execute("ALTER TABLE instances RENAME COLUMN sha256 TO digest")


def downgrade() -> None:
    """Rename it back; a version without other digests takes what was received under them for damaged."""
    op.execute("ALTER TABLE instances RENAME COLUMN digest TO sha256")
