"""A job's place in line as one number, and jobs that wait for another attempt apart from those that are due."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CLAIM, DELAYED = "ix_jobs_claim", "ix_jobs_delayed"
AGEING_S = 3600.0  # what a step of priority is worth to a job that was queued before there was a setting


def upgrade() -> None:
    """Give every job its rank; who was put back for another attempt is due at once."""
    op.add_column("jobs", sa.Column("rank", sa.Double, nullable=False, server_default=sa.text("0")))
    op.execute(sa.text("UPDATE jobs SET rank = created_at - priority * :ageing_s").bindparams(ageing_s=AGEING_S))
    op.drop_index(CLAIM, "jobs")
    _partial_index(CLAIM, ["rank", "id"], "waiting")
    _partial_index(DELAYED, ["not_before"], "delayed")


def downgrade() -> None:
    """Who waits for another attempt waits with the others, until its time."""
    op.execute("UPDATE jobs SET state = 'waiting' WHERE state = 'delayed'")
    op.drop_index(DELAYED, "jobs")
    op.drop_index(CLAIM, "jobs")
    with op.batch_alter_table("jobs") as table:
        table.drop_column("rank")
    _partial_index(CLAIM, [sa.text("priority DESC"), "id"], "waiting")


def _partial_index(name: str, columns: list[str | sa.TextClause], state: str) -> None:
    where = sa.text(f"state = '{state}'")
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
