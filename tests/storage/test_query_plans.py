"""The statements that run all the time use their indexes, at a size where it matters.

A claim or a look-up that reads the whole table would get slower with every study that was ever received.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from storage import outbox, queue
from storage.database import Connection, Database
from storage.outbox import next_due_statement
from storage.queue import claim_statement

ROWS = 100_000
# How many are done; the others wait. The plan must not depend on it.
DONE = {"nearly all done": ROWS - 20, "nearly all waiting": 20}

SERIES = {
    "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :rows) ",
    "postgresql": "WITH n(n) AS (SELECT generate_series(1, :rows)) ",
}
STUDY_ROW = (
    "INSERT INTO studies (study_instance_uid, state, revision, reason, first_received_at, last_received_at) "
    "VALUES ('1.2', 'queued', 1, '', 0, 0)"
)
JOB_ROWS = (
    "INSERT INTO jobs (study_instance_uid, revision, package, state, priority, attempt, max_attempts, not_before, "
    "created_at, last_error, summary) {series}"
    "SELECT '1.2', n, 'p', CASE WHEN n <= :done THEN 'done' ELSE 'waiting' END, n % 7, 0, 3, 0, 0, '', '' FROM n"
)
DELIVERY_ROWS = (
    "INSERT INTO deliveries (job_id, destination, sop_instance_uid, sop_class_uid, transfer_syntax_uid, object_key, "
    "state, attempt, failures, not_before, created_at, last_error) {series}"
    "SELECT n, 'pacs', '1.' || n, '1', '1', 'k', CASE WHEN n <= :done THEN 'delivered' ELSE 'waiting' END, "
    "0, 0, n % 7, 0, '' FROM n"
)


@pytest.fixture(params=DONE)
def filled(db: Database, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A transaction on 100,000 jobs and as many deliveries, of which some wait."""
    with db.transaction() as connection:
        series = SERIES[connection.dialect.name]
        if connection.dialect.name == "postgresql":  # foreign keys one by one take most of the time
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(STUDY_ROW))
        for statement in (JOB_ROWS, DELIVERY_ROWS):
            connection.execute(text(statement.format(series=series)), {"done": DONE[request.param], "rows": ROWS})
    with db.transaction() as connection:
        connection.execute(text("ANALYZE"))
        yield connection


def plan(connection: Connection, statement: Any) -> list[str]:
    """The plan's steps, one line each, as the database words them."""
    dialect = connection.dialect
    if dialect.name == "sqlite":  # with bound values, as it runs: SQLite does not look at them when it plans
        bound = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        values = tuple(bound.params[name] for name in bound.positiontup)
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {bound}", values)]
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    (explained,) = connection.execute(text(f"EXPLAIN (FORMAT JSON) {compiled}")).scalar_one()
    return [json.dumps(node) for node in nodes(explained["Plan"])]


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk a PostgreSQL plan, each node without those below it."""
    yield {key: value for key, value in node.items() if key != "Plans"}
    for below in node.get("Plans", ()):
        yield from nodes(below)


def assert_indexed(steps: list[str], index: str) -> None:
    """The index is used, no table is read whole, and nothing is sorted."""
    assert any(index in step for step in steps), steps
    for step in steps:
        assert not any(word in step for word in ("Seq Scan", "Sort", "Bitmap", "TEMP B-TREE")), steps
        assert step == "SCAN CONSTANT ROW" or not step.startswith("SCAN") or index in step, steps


def test_claims_read_only_their_partial_indexes(filled: Connection) -> None:
    """The next job, and the next delivery, is its index's first entry, however many are done or waiting."""
    assert_indexed(plan(filled, claim_statement("worker 1", 60)), "ix_jobs_claim")
    assert_indexed(plan(filled, next_due_statement(["pacs"])), "ix_deliveries_due")


def test_what_is_explained_is_what_runs(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """`claim` and `claim_batch` run the statements that are explained here."""
    built = []
    for module, name in ((queue, "claim_statement"), (outbox, "next_due_statement")):
        build = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, build=build, name=name: built.append(name) or build(*args))
    with db.transaction() as connection:
        queue.claim(connection, "worker 1", 60)
        outbox.claim_batch(connection, "sender 1", 60, ["pacs"])
    assert built == ["claim_statement", "next_due_statement"]
