"""Run by alembic: the steps, over the connection that was opened."""

from alembic import context

from turnsmith.serve.store.tables import Table

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
