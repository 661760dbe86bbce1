"""Alembic's entry: run migrations in the transaction that the database opened."""

from alembic import context

from depthwright.service.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
