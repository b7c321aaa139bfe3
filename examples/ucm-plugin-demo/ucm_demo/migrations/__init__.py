"""Alembic revisions of the plugin's tables; a released one never changes."""
