"""Shapes of answers about accounts, the audit log, jobs and plugins, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from ucm.web.v2.schemas import Shape


class Message(Shape):
    """Nothing but a sentence."""

    message: str


class UserItem(Shape):
    """An account."""

    id: int
    username: str
    email: str
    full_name: str
    role: str
    custom_role_id: int | None
    active: bool
    mfa_enabled: bool
    force_password_change: bool
    created_at: str
    last_login: str | None
    login_count: int
    failed_logins: int
    locked_until: str | None
    auth_source: str


class ProfileItem(UserItem):
    """The own account."""

    timezone: str


class SignInItem(Shape):
    """A new session; its token is in the cookie."""

    user: UserItem
    role: str
    permissions: list[str]
    auth_method: str
    csrf_token: str
    force_password_change: bool
    timezone: str
    date_format: str
    show_time: bool


class VerifyItem(Shape):
    """Who is signed in; without a session only ``authenticated``."""

    authenticated: bool
    user: UserItem | None = None
    role: str | None = None
    permissions: list[str] | None = None
    csrf_token: str | None = None
    session_timeout: int | None = None


class SessionItem(Shape):
    """A session of the account."""

    id: int
    ip_address: str | None
    user_agent: str | None
    auth_method: str
    created_at: str
    last_activity: str
    expires_at: str
    is_current: bool


class ApiKeyItem(Shape):
    """An API key without its secret."""

    id: int
    name: str
    key_prefix: str
    permissions: list[str]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    is_active: bool
    is_expired: bool


class ApiKeyMade(ApiKeyItem):
    """An API key with its secret, which is shown this once."""

    key: str


class PasswordPolicyItem(Shape):
    """Rules of new passwords."""

    min_length: int
    max_length: int
    rules: list[str]


class RoleItem(Shape):
    """A role."""

    name: str
    description: str
    permissions: list[str]
    all_permissions: list[str]
    is_system: bool
    user_count: int


class EffectivePermissionsItem(Shape):
    """What an account may do."""

    user_id: int
    role: str
    permissions: list[str]


class AuditItem(Shape):
    """An audit row."""

    id: int
    timestamp: str
    username: str
    action: str
    resource_type: str
    resource_id: str | None
    resource_name: str
    details: dict[str, Any]
    ip_address: str | None
    user_agent: str | None
    success: bool
    prev_hash: str | None
    entry_hash: str | None


class AuditActionItem(Shape):
    """An action that may be written."""

    name: str
    title: str
    category: str


class AuditActionsItem(Shape):
    """All actions and their categories."""

    actions: list[AuditActionItem]
    categories: list[str]


class AuditStatsItem(Shape):
    """Numbers of a period."""

    total_logs: int
    success_count: int
    failure_count: int
    success_rate: float
    top_actions: list[dict[str, Any]]
    top_users: list[dict[str, Any]]
    recent_failures: list[AuditItem]


class JobItem(Shape):
    """A scheduled job."""

    id: str
    name: str
    label: str
    owner: str
    interval: str
    last_run: str | None
    next_run: str | None
    requested_at: str | None
    run_count: int
    failure_count: int
    last_duration_ms: int | None
    last_error: str | None
    paused: bool
    pause_reason: str | None
    running: bool


class JobRunItem(Shape):
    """A run of a job."""

    id: int
    job: str
    status: str
    progress: str
    error: str | None
    started_at: str
    finished_at: str | None
    duration_ms: int | None


class ServiceItem(Shape):
    """This process."""

    version: str
    pid: int
    uptime_seconds: int
    memory_mb: float
    python_version: str


class VersionItem(Shape):
    """The version."""

    version: str


class PluginItem(Shape):
    """An installed plugin."""

    name: str
    title: str
    summary: str
    version: str
    distribution: str
    enabled: bool
    required: bool
    state: str
    step: str
    reason: str
    guards: list[str]
    requires: list[str]
    url_prefixes: list[str]
    api: str
    stability: str
    docs: str
    faults: dict[str, int]


class SettingItem(Shape):
    """One setting; a secret has no value, only ``is_set``."""

    key: str
    name: str
    description: str
    value: Any
    default: Any
    source: str
    locked: bool
    secret: bool
    is_set: bool


class ChangedItem(Shape):
    """What a change of settings changed."""

    changed: list[str]


class DashboardItem(Shape):
    """Counters of the moment."""

    total_certificates: int
    valid_certificates: int
    expiring_soon: int
    expired: int
    revoked: int
    on_hold: int
    total_cas: int
    active_cas: int
    pending_csrs: int


class CertificateHit(Shape):
    """A certificate that was found."""

    id: int
    descr: str
    subject: str
    common_name: str | None
    serial_number: str
    valid_to: str
    status: str


class CaHit(Shape):
    """An authority that was found."""

    id: int
    name: str
    subject: str
    valid_to: str
    created_at: str | None = None


class SearchItem(Shape):
    """What was found; ``users`` only for those who may read accounts."""

    certificates: list[CertificateHit]
    cas: list[CaHit]
    templates: list[dict[str, Any]]
    users: list[dict[str, Any]] | None = None
