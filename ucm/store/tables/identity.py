"""Users, sessions, API keys, groups, roles."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table

from ucm.api.db import Json, metadata
from ucm.store.tables.columns import (
    Id,
    flag,
    moment,
    number,
    optional_text,
    primary_key,
    reference,
    text,
    text_list,
)

role = Table(
    "core_role",
    metadata,
    primary_key(),
    text("name"),
    text("name_key", unique=True),
    text("description", default=""),
    text_list("permissions"),
    reference("inherits_from", "core_role"),
    flag("is_system", default=False),
    moment("created_at"),
    moment("updated_at", nullable=True),
    sqlite_autoincrement=True,
)

user = Table(
    "core_user",
    metadata,
    primary_key(),
    text("username"),
    text("username_key", unique=True),  # the name as it is compared: folded case
    text("email"),
    optional_text("email_key", unique=True),  # of local accounts only
    text("full_name", default=""),
    optional_text("password_hash"),
    text("role"),
    reference("custom_role_id", "core_role"),
    flag("active", default=True),
    flag("force_password_change", default=False),
    text("auth_source", default="local"),
    Column("preferences", Json, nullable=False),
    moment("created_at"),
    moment("last_login", nullable=True),
    number("login_count", default=0),
    number("failed_logins", default=0),
    moment("locked_until", nullable=True),
    moment("password_changed_at", nullable=True),
    number("version", default=1),
    Index(None, "custom_role_id"),
    sqlite_autoincrement=True,
)

session = Table(
    "core_session",
    metadata,
    primary_key(),
    text("token_hash", unique=True),
    reference("user_id", "core_user", nullable=False, ondelete="CASCADE"),
    text("auth_method"),
    optional_text("ip_address"),
    optional_text("user_agent"),
    moment("created_at"),
    moment("last_activity"),
    moment("expires_at"),
    moment("absolute_expires_at"),
    Index(None, "user_id"),
    Index(None, "expires_at"),
    sqlite_autoincrement=True,
)

api_key = Table(
    "core_api_key",
    metadata,
    primary_key(),
    reference("user_id", "core_user", nullable=False, ondelete="CASCADE"),
    text("name"),
    text("key_hash", unique=True),
    text("key_prefix"),
    text_list("permissions"),
    flag("is_active", default=True),
    moment("created_at"),
    moment("expires_at", nullable=True),
    moment("last_used_at", nullable=True),
    optional_text("last_used_ip"),
    Index(None, "user_id"),
    sqlite_autoincrement=True,
)

group = Table(
    "core_group",
    metadata,
    primary_key(),
    text("name"),
    text("name_key", unique=True),
    text("description", default=""),
    text_list("permissions"),
    moment("created_at"),
    moment("updated_at", nullable=True),
    sqlite_autoincrement=True,
)

group_member = Table(
    "core_group_member",
    metadata,
    Column("group_id", Id, ForeignKey("core_group.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Id, ForeignKey("core_user.id", ondelete="CASCADE"), primary_key=True),
    text("role", default="member"),
    moment("joined_at"),
    Index(None, "user_id"),
)
