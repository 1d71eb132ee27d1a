"""Applies migrations on the connection it is handed; the gateway calls it inside its own transaction and lock."""

from __future__ import annotations

from alembic import context

from gateway.records.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
