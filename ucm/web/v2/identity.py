"""How accounts, sessions and API keys look in the API. Hashes and secrets never do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ucm.services.auth import SignedIn
from ucm.store.api_keys import ApiKeyView
from ucm.store.sessions import SessionView
from ucm.store.users import UserView

DISPLAY_DEFAULTS = {"timezone": "UTC", "date_format": "short", "show_time": True}


def user_document(user: UserView) -> dict[str, Any]:
    """One account."""
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "full_name": user.full_name,
        "role": user.role,
        "custom_role_id": user.custom_role_id,
        "active": user.active,
        "mfa_enabled": False,
        "force_password_change": user.force_password_change,
        "created_at": user.created_at,
        "last_login": user.last_login,
        "login_count": user.login_count,
        "failed_logins": user.failed_logins,
        "locked_until": user.locked_until,
        "auth_source": user.auth_source,
    }


def display_of(user: UserView) -> dict[str, Any]:
    """How the account wants times shown."""
    return {name: user.preferences.get(name, default) for name, default in DISPLAY_DEFAULTS.items()}


def sign_in_document(signed_in: SignedIn, *, csrf_token: str) -> dict[str, Any]:
    """Answer to a sign-in."""
    user = signed_in.user
    return {
        "user": user_document(user),
        "role": user.role,
        "permissions": sorted(signed_in.actor.permissions),
        "auth_method": "password",
        "csrf_token": csrf_token,
        "force_password_change": user.force_password_change,
        **display_of(user),
    }


def api_key_document(key: ApiKeyView, *, now: datetime) -> dict[str, Any]:
    """One API key without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "key_prefix": key.key_prefix,
        "permissions": list(key.permissions),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "is_active": key.is_active,
        "is_expired": key.expires_at is not None and key.expires_at <= now,
    }


def session_document(session: SessionView, *, current: bool) -> dict[str, Any]:
    """One session without its token."""
    return {
        "id": session.id,
        "ip_address": session.ip_address,
        "user_agent": session.user_agent,
        "auth_method": session.auth_method,
        "created_at": session.created_at,
        "last_activity": session.last_activity,
        "expires_at": session.expires_at,
        "is_current": current,
    }
