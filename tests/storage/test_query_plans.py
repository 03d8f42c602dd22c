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
from storage.lifecycle import StudyState
from storage.outbox import next_due_statement
from storage.queue import claim_statement, wake_statement
from storage.retention import Rules, removable_statement
from tests.support.backlog import fill_deliveries, fill_jobs, fill_studies

ROWS = 100_000
# How many are done; the others wait, or are delayed. The plan must not depend on it.
DONE = {"nearly all done": (ROWS - 20, "waiting"), "nearly all waiting": (20, "waiting"), "delayed": (20, "delayed")}


@pytest.fixture(params=DONE)
def filled(db: Database, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A transaction on 100,000 jobs and as many deliveries, of which some wait."""
    done, state = DONE[request.param]
    with db.transaction() as connection:
        fill_jobs(connection, ROWS, done=done, state=state)
        fill_deliveries(connection, ROWS, done=done)
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
    """The index is used, no table is read whole (only what a CTE has found), and nothing is sorted."""
    assert any(index in step for step in steps), steps
    for step in steps:
        assert not any(word in step for word in ("Seq Scan", "Sort", "Bitmap", "TEMP B-TREE")), steps
        assert step in ("SCAN CONSTANT ROW", "SCAN first") or not step.startswith("SCAN") or index in step, steps


def test_claims_read_only_their_partial_indexes(filled: Connection) -> None:
    """The next job, and the next delivery, is its index's first entry, however many are done or waiting."""
    assert_indexed(plan(filled, claim_statement("worker 1", 60)), "ix_jobs_claim")
    assert_indexed(plan(filled, next_due_statement(["pacs"])), "ix_deliveries_due")


def test_waking_reads_only_its_partial_index(filled: Connection) -> None:
    """Those whose pause is over are the first entries of their index, however many are delayed."""
    assert_indexed(plan(filled, wake_statement()), "ix_jobs_delayed")


@pytest.mark.parametrize("finished", [20, ROWS - 20])
def test_the_oldest_finished_study_is_its_indexes_first(db: Database, finished: int) -> None:
    """Retention walks the finished studies in their order, and looks their jobs and deliveries up by index."""
    with db.transaction() as connection:
        fill_studies(connection, ROWS, done=finished)
        fill_jobs(connection, 1000, done=990)
        fill_deliveries(connection, 1000, done=990)
        connection.execute(text("UPDATE jobs SET study_instance_uid = '1.3.' || revision"))
    with db.transaction() as connection:
        connection.execute(text("ANALYZE"))
        statement = removable_statement(Rules((StudyState.DONE,), only_delivered=True), 3600.0, 1)
        steps = plan(connection, statement)
    assert any("ix_studies_finished" in step for step in steps), steps
    for step in steps:
        assert not any(word in step for word in ('"Sort"', "TEMP B-TREE", "SCAN jobs", "SCAN deliveries")), steps
        assert not ("Seq Scan" in step and '"studies"' in step), steps


def test_what_is_explained_is_what_runs(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """`claim`, `wake_delayed` and `claim_batch` run the statements that are explained here."""
    built = []
    for module, name in (
        (queue, "claim_statement"),
        (queue, "wake_statement"),
        (outbox, "next_due_statement"),
    ):
        build = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, build=build, name=name: built.append(name) or build(*args))
    with db.transaction() as connection:
        queue.wake_delayed(connection)
        queue.claim(connection, "worker 1", 60)
        outbox.claim_batch(connection, "sender 1", 60, ["pacs"])
    assert built == ["wake_statement", "claim_statement", "next_due_statement"]
