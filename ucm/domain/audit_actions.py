"""Audit actions of the core. A unit of work refuses to write any other (plugins declare theirs)."""

from __future__ import annotations

from ucm.api.contributions import AuditAction

AUTH = "auth"
USERS = "users"
CERTIFICATES = "certificates"
CAS = "cas"
CSRS = "csrs"
TEMPLATES = "templates"
SETTINGS = "settings"
API_KEYS = "api_keys"
SECURITY = "security"
SYSTEM = "system"

_TITLES: dict[str, dict[str, str]] = {
    AUTH: {
        "login_success": "Signed in",
        "login_failure": "Sign-in refused",
        "logout": "Signed out",
        "password_change": "Password changed",
        "session_revoke": "Session ended by its owner or an administrator",
    },
    USERS: {
        "user_create": "Account created",
        "user_update": "Account changed",
        "user_delete": "Account deleted",
        "user_activate": "Account enabled",
        "user_deactivate": "Account disabled",
        "user_unlock": "Lockout lifted",
        "users_bulk_deleted": "Accounts deleted in bulk",
        "role_change": "Role of an account changed",
    },
    API_KEYS: {
        "apikey_create": "API key created",
        "apikey_update": "API key changed",
        "apikey_revoke": "API key revoked",
        "apikey_delete": "API key deleted",
        "apikey_regenerate": "API key replaced by a new secret",
    },
    CAS: {
        "ca_created": "Authority created",
        "ca_updated": "Authority changed",
        "ca_deleted": "Authority deleted",
        "ca_imported": "Authority imported",
        "ca_renewed": "Certificate of an authority renewed",
        "ca_exported": "Authority exported",
        "ca_refused": "Change of an authority refused",
        "cas_bulk_deleted": "Authorities deleted in bulk",
        "template_pinned_to_ca": "Template pinned to an authority",
        "template_unpinned_from_ca": "Template no longer pinned to an authority",
    },
    CERTIFICATES: {
        "certificate_created": "Certificate issued",
        "certificate_refused": "Issuance refused by policy, profile or lint",
        "certificate_held": "Issuance waits for a decision",
        "certificate_recovered": "Unfinished issuance settled after a restart",
        "certificate_imported": "Certificate imported",
        "certificate_updated": "Certificate record changed",
        "certificate_renamed": "Certificate renamed",
        "certificate_renewed": "Certificate renewed as a new one",
        "certificate_exported": "Certificate exported",
        "certificate_key_exported": "Private key of a certificate exported",
        "certificate_key_uploaded": "Private key attached to a certificate",
        "certificate_unheld": "Hold lifted",
        "cert_revoked": "Certificate revoked or put on hold",
        "cert_deleted": "Certificate record deleted",
        "certificates_bulk_revoked": "Certificates revoked in bulk",
        "certificates_bulk_renewed": "Certificates renewed in bulk",
        "certificates_bulk_deleted": "Certificate records deleted in bulk",
        "certificates_exported": "Certificates exported in bulk",
    },
    CSRS: {
        "csr_create": "Signing request created",
        "csr_generated": "Signing request made with a key of the server",
        "csr_uploaded": "Signing request uploaded",
        "csr_imported": "Signing request imported",
        "csr_key_uploaded": "Private key attached to a signing request",
        "csr_exported": "Signing request exported",
        "csr_key_exported": "Private key of a signing request exported",
        "csr_refused": "Signing request refused",
        "csr_signed": "Signing request signed",
        "csr_delete": "Signing request deleted",
        "csrs_bulk_signed": "Signing requests signed in bulk",
        "csrs_bulk_deleted": "Signing requests deleted in bulk",
    },
    TEMPLATES: {
        "template_create": "Template created",
        "template_update": "Template changed",
        "template_delete": "Template deleted",
        "template_duplicate": "Template duplicated",
        "template_import": "Template imported",
        "template_refused": "Change of a template refused",
        "templates_bulk_deleted": "Templates deleted in bulk",
    },
    SETTINGS: {
        "settings_update": "Settings changed",
    },
    SECURITY: {
        "permission_denied": "Request without the permission it needs",
        "csrf_failure": "Request with a missing or wrong CSRF token",
        "rate_limited": "Too many requests",
    },
    SYSTEM: {
        "encryption_enabled": "Encryption of keys switched on",
        "system_encrypt": "Keys encrypted at rest",
        "master_key_created": "Master key made",
        "master_key_rotated": "Master key rotated",
        "master_key_rotation_started": "Rotation of the master key started",
        "master_key_downloaded": "Master key downloaded",
        "scheduler_task_run": "Job started by hand",
        "audit_exported": "Audit log exported",
        "audit_cleanup": "Old audit rows deleted",
        "system_optimize": "Database compacted",
        "system_integrity_check": "Database checked",
        "plugin_purged": "Data of a plugin dropped",
        "https_regenerate": "Server certificate made anew",
        "https_refused": "Replacement of the server certificate refused",
        "https_apply": "Server certificate replaced by an issued one",
    },
}

CORE_AUDIT_ACTIONS: tuple[AuditAction, ...] = tuple(
    AuditAction(name, title, category)
    for category, actions in _TITLES.items()
    for name, title in actions.items()
)
CATEGORIES: tuple[str, ...] = tuple(_TITLES)
_CATEGORY_OF = {action.name: action.category for action in CORE_AUDIT_ACTIONS}


def category_of(action: str) -> str:
    """The category of a core action; ``plugin`` for all others."""
    return _CATEGORY_OF.get(action, "plugin")


def is_core_action(action: str) -> bool:
    """Whether the core declares the action."""
    return action in _CATEGORY_OF
