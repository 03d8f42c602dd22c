"""Rows by the hundred thousand, made inside the database: a backlog as it is after a long outage, or years of work."""

from sqlalchemy import text

from storage.database import Connection

SERIES = {
    "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :rows) ",
    "postgresql": "WITH n(n) AS (SELECT generate_series(1, :rows)) ",
}
STUDY_ROW = (
    "INSERT INTO studies (study_instance_uid, state, revision, reason, first_received_at, last_received_at) "
    "VALUES ('1.2', 'queued', 1, '', 0, 0)"
)
JOB_ROWS = (
    "INSERT INTO jobs (study_instance_uid, revision, package, state, priority, rank, attempt, max_attempts, "
    "not_before, created_at, last_error, summary) {series}"
    "SELECT '1.2', n, 'p', CASE WHEN n <= :done THEN 'done' WHEN n % 1000 = 0 THEN 'waiting' ELSE :state END, "
    "0, n % 7, 0, 3, n % 5, 0, '', '' FROM n"
)
DELIVERY_ROWS = (
    "INSERT INTO deliveries (job_id, destination, sop_instance_uid, sop_class_uid, transfer_syntax_uid, object_key, "
    "state, attempt, failures, not_before, created_at, last_error) {series}"
    "SELECT n, 'pacs', '1.' || n, '1', '1', 'k', CASE WHEN n <= :done THEN 'delivered' ELSE 'waiting' END, "
    "0, 0, n % 7, 0, '' FROM n"
)
STUDY_ROWS = (
    "INSERT INTO studies (study_instance_uid, state, revision, reason, first_received_at, last_received_at) {series}"
    "SELECT '1.3.' || n, CASE WHEN n <= :done THEN 'done' ELSE 'receiving' END, 1, '', n, n FROM n"
)


def fill_studies(connection: Connection, rows: int, *, done: int) -> None:
    """Studies without anything else, the first and oldest `done` of them finished."""
    statement = STUDY_ROWS.format(series=SERIES[connection.dialect.name])
    connection.execute(text(statement), {"rows": rows, "done": done})


def fill_jobs(connection: Connection, rows: int, *, done: int = 0, state: str = "waiting") -> None:
    """Jobs of one study: the first `done` are done, of the others each thousandth waits and the rest is in `state`."""
    _quickly(connection)
    connection.execute(text(STUDY_ROW))
    statement = JOB_ROWS.format(series=SERIES[connection.dialect.name])
    connection.execute(text(statement), {"rows": rows, "done": done, "state": state})


def fill_deliveries(connection: Connection, rows: int, *, done: int = 0) -> None:
    """One delivery of each of the jobs that are there, the first `done` delivered."""
    _quickly(connection)
    statement = DELIVERY_ROWS.format(series=SERIES[connection.dialect.name])
    connection.execute(text(statement), {"rows": rows, "done": done})


def _quickly(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # foreign keys one by one take most of the time
        connection.execute(text("SET LOCAL session_replication_role = replica"))
