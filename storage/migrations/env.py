"""Run by alembic for each command, on the connection and in the transaction that `storage.migrate` made."""

from alembic import context

from storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a column: the table is rebuilt
    compare_server_default=True,
)
context.run_migrations()
