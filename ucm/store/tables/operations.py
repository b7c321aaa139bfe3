"""Settings, audit, outbox, jobs, plugins."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text

from ucm.api.db import Json, Sealed, UtcDateTime, metadata
from ucm.store.tables.columns import (
    Id,
    flag,
    moment,
    number,
    optional_text,
    primary_key,
    text,
)

counter = Table(
    "core_counter",  # revisions that processes compare to see whether a snapshot is stale
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

setting = Table(
    "core_setting",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Json),
    Column("sealed", Sealed),
    number("version", default=1),
    moment("updated_at"),
    text("updated_by"),
)

audit = Table(
    "core_audit",
    metadata,
    primary_key(),
    moment("timestamp"),
    text("actor_kind"),
    text("username"),
    Column("user_id", Id),  # no foreign key: the trail outlives the account
    text("action"),
    text("resource_type"),
    optional_text("resource_id"),
    text("resource_name", default=""),
    Column("details", Json, nullable=False),
    optional_text("ip_address"),
    optional_text("user_agent"),
    Column("success", Boolean, nullable=False),
    optional_text("prev_hash"),
    optional_text("entry_hash"),
    Index(None, "timestamp"),
    Index(None, "action", "id"),
    Index(None, "username", "id"),
    Index(None, "resource_type", "resource_id"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "core_outbox",
    metadata,
    primary_key(),
    text("name"),
    number("version", default=1),
    Column("payload", Json, nullable=False),
    moment("created_at"),
    moment("delivered_at", nullable=True),
    number("attempts", default=0),
    text("last_error", default=""),
    sqlite_autoincrement=True,
)
_pending = outbox.c.delivered_at.is_(None)
Index("ix_core_outbox_pending", outbox.c.id, sqlite_where=_pending, postgresql_where=_pending)
Index(None, outbox.c.delivered_at)

job = Table(
    "core_job",
    metadata,
    Column("id", Text, primary_key=True),
    text("owner"),
    text("title"),
    text("schedule", default=""),
    flag("paused", default=False),
    text("pause_reason", default=""),
    number("failures", default=0),
    moment("next_run_at", nullable=True),
    moment("requested_at", nullable=True),
    moment("last_run_at", nullable=True),
    Column("last_duration_ms", Integer),
    text("last_error", default=""),
    number("run_count", default=0),
    number("failure_count", default=0),
)

job_lease = Table(
    "core_job_lease",
    metadata,
    Column("job_id", Text, ForeignKey("core_job.id"), primary_key=True),
    Column("fence", BigInteger, nullable=False),  # grows with every lease, never falls
    optional_text("holder"),
    Column("expires_at", UtcDateTime),
)

job_run = Table(
    "core_job_run",
    metadata,
    primary_key(),
    Column("job_id", Text, ForeignKey("core_job.id"), nullable=False),
    Column("fence", BigInteger, nullable=False),
    text("worker"),
    text("status"),
    text("progress", default=""),
    text("error", default=""),
    moment("started_at"),
    moment("finished_at", nullable=True),
    Column("duration_ms", Integer),
    Index(None, "job_id", "id"),
    Index(None, "started_at"),
    sqlite_autoincrement=True,
)

plugin = Table(
    "core_plugin",
    metadata,
    Column("name", Text, primary_key=True),
    text("version", default=""),
    text("state"),
    text("step", default=""),
    text("reason", default=""),
    number("settings_revision", default=0),
    moment("updated_at"),
)

secret_canary = Table(
    "core_secret_canary",  # says which master key this database belongs to
    metadata,
    primary_key(),
    text("fingerprint", unique=True),
    Column("sealed", Sealed, nullable=False),
    moment("created_at"),
    sqlite_autoincrement=True,
)
