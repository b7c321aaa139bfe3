"""The core's tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "core_0001"
down_revision = None
branch_labels = ("core",)
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text()
_SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TIME = sa.DateTime()
_JSON = sa.JSON()
_BYTES = sa.LargeBinary()
_NUMBER = sa.Integer()
_BIG = sa.BigInteger()
_SMALL = sa.SmallInteger()
_FLAG = sa.Boolean()


def _column(name: str, kind: Any, *, null: bool = False, default: Any = None) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, server_default=default)


def _reference(
    table: str, column: str, target: str, *, ondelete: str | None = None
) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{target.partition('.')[0]}"
    return sa.ForeignKeyConstraint([column], [target], name=name, ondelete=ondelete)


def _names() -> list[sa.Column[Any]]:
    return [
        _column(f"san_{kind}", _TEXT, default="[]") for kind in ("dns", "ip", "email", "uri", "upn")
    ]


def _entity(table: str, *items: sa.schema.SchemaItem) -> None:
    op.create_table(
        table,
        sa.Column("id", _ID, nullable=False),
        *items,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sqlite_autoincrement=True,
    )


def _index(
    table: str, columns: str, *, name: str = "", unique: bool = False, where: str | None = None
) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"ix_{table}_{name or columns.replace(' ', '_')}",
        table,
        columns.split(),
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def upgrade() -> None:
    """Make them all, those without references first."""
    _part_1()
    _part_2()
    if op.get_context().dialect.name == "postgresql":
        op.create_foreign_key(_CYCLE, "core_ca", "core_certificate", ["certificate_id"], ["id"])
    op.execute("INSERT INTO core_counter (name, value) VALUES ('settings', 0)")


_CYCLE = "fk_core_ca_certificate_id_core_certificate"


def _part_1() -> None:
    # The two tables name each other: only SQLite lets the first name one that is not there yet.
    sqlite = op.get_context().dialect.name == "sqlite"
    cycle = [_reference("core_ca", "certificate_id", "core_certificate.id")] if sqlite else []
    _entity(
        "core_audit",
        _column("timestamp", _TIME),
        _column("actor_kind", _TEXT),
        _column("username", _TEXT),
        _column("user_id", _ID, null=True),
        _column("action", _TEXT),
        _column("resource_type", _TEXT),
        _column("resource_id", _TEXT, null=True),
        _column("resource_name", _TEXT, default=""),
        _column("details", _JSON),
        _column("ip_address", _TEXT, null=True),
        _column("user_agent", _TEXT, null=True),
        _column("success", _FLAG),
        _column("prev_hash", _TEXT, null=True),
        _column("entry_hash", _TEXT, null=True),
    )
    _index("core_audit", "action id")
    _index("core_audit", "resource_type resource_id")
    _index("core_audit", "timestamp")
    _index("core_audit", "username id")
    op.create_table(
        "core_counter",
        _column("name", _TEXT),
        _column("value", _BIG),
        sa.PrimaryKeyConstraint("name", name="pk_core_counter"),
    )
    _entity(
        "core_group",
        _column("name", _TEXT),
        _column("name_key", _TEXT),
        _column("description", _TEXT, default=""),
        _column("permissions", _TEXT, default="[]"),
        _column("created_at", _TIME),
        _column("updated_at", _TIME, null=True),
        sa.UniqueConstraint("name_key", name="uq_core_group_name_key"),
    )
    op.create_table(
        "core_job",
        _column("id", _TEXT),
        _column("owner", _TEXT),
        _column("title", _TEXT),
        _column("schedule", _TEXT, default=""),
        _column("paused", _FLAG, default=sa.false()),
        _column("pause_reason", _TEXT, default=""),
        _column("failures", _NUMBER, default="0"),
        _column("next_run_at", _TIME, null=True),
        _column("requested_at", _TIME, null=True),
        _column("last_run_at", _TIME, null=True),
        _column("last_duration_ms", _NUMBER, null=True),
        _column("last_error", _TEXT, default=""),
        _column("run_count", _NUMBER, default="0"),
        _column("failure_count", _NUMBER, default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_core_job"),
    )
    _entity(
        "core_key",
        _column("purpose", _TEXT),
        _column("owner", _TEXT, default="core"),
        _column("backend", _TEXT),
        _column("spec", _TEXT),
        _column("label", _TEXT, default=""),
        _column("locator", _JSON),
        _column("sealed", _TEXT, null=True),
        _column("created_at", _TIME),
        _column("created_by", _TEXT),
    )
    _entity(
        "core_outbox",
        _column("name", _TEXT),
        _column("version", _NUMBER, default="1"),
        _column("payload", _JSON),
        _column("created_at", _TIME),
        _column("delivered_at", _TIME, null=True),
        _column("attempts", _NUMBER, default="0"),
        _column("last_error", _TEXT, default=""),
    )
    _index("core_outbox", "delivered_at")
    _index("core_outbox", "id", name="pending", where="delivered_at IS NULL")
    op.create_table(
        "core_plugin",
        _column("name", _TEXT),
        _column("version", _TEXT, default=""),
        _column("state", _TEXT),
        _column("step", _TEXT, default=""),
        _column("reason", _TEXT, default=""),
        _column("settings_revision", _NUMBER, default="0"),
        _column("updated_at", _TIME),
        sa.PrimaryKeyConstraint("name", name="pk_core_plugin"),
    )
    _entity(
        "core_role",
        _column("name", _TEXT),
        _column("name_key", _TEXT),
        _column("description", _TEXT, default=""),
        _column("permissions", _TEXT, default="[]"),
        _column("inherits_from", _ID, null=True),
        _column("is_system", _FLAG, default=sa.false()),
        _column("created_at", _TIME),
        _column("updated_at", _TIME, null=True),
        _reference("core_role", "inherits_from", "core_role.id"),
        sa.UniqueConstraint("name_key", name="uq_core_role_name_key"),
    )
    _entity(
        "core_secret_canary",
        _column("fingerprint", _TEXT),
        _column("sealed", _TEXT),
        _column("created_at", _TIME),
        sa.UniqueConstraint("fingerprint", name="uq_core_secret_canary_fingerprint"),
    )
    op.create_table(
        "core_setting",
        _column("key", _TEXT),
        _column("value", _JSON, null=True),
        _column("sealed", _TEXT, null=True),
        _column("version", _NUMBER, default="1"),
        _column("updated_at", _TIME),
        _column("updated_by", _TEXT),
        sa.PrimaryKeyConstraint("key", name="pk_core_setting"),
    )
    _entity(
        "core_template",
        _column("name", _TEXT),
        _column("name_key", _TEXT),
        _column("description", _TEXT, default=""),
        _column("template_type", _TEXT),
        _column("key_type", _TEXT),
        _column("validity_days", _NUMBER, default="397"),
        _column("digest", _TEXT, default="sha256"),
        _column("dn_template", _JSON),
        _column("extensions_template", _JSON),
        _column("pinned_subject_fields", _JSON),
        _column("is_system", _FLAG, default=sa.false()),
        _column("is_active", _FLAG, default=sa.true()),
        _column("ad_derived_subject", _FLAG, default=sa.false()),
        _column("autoenroll_enabled", _FLAG, default=sa.false()),
        _column("allowed_ad_group", _TEXT, null=True),
        _column("created_at", _TIME),
        _column("created_by", _TEXT),
        _column("updated_at", _TIME, null=True),
        _column("updated_by", _TEXT, null=True),
        _column("version", _NUMBER, default="1"),
        sa.UniqueConstraint("name_key", name="uq_core_template_name_key"),
    )
    _entity(
        "core_ca",
        _column("refid", _TEXT),
        _column("url_slug", _TEXT, null=True),
        _column("name", _TEXT),
        _column("parent_id", _ID, null=True),
        _column("certificate_id", _ID),
        _column("key_id", _ID, null=True),
        _column("is_active", _FLAG, default=sa.true()),
        _column("offline", _FLAG, default=sa.false()),
        _column("digest", _TEXT, default="auto"),
        _column("path_length", _NUMBER, null=True),
        _column("named_urls", _FLAG, default=sa.false()),
        _column("cdp_enabled", _FLAG, default=sa.false()),
        _column("cdp_urls", _TEXT, default="[]"),
        _column("ocsp_enabled", _FLAG, default=sa.false()),
        _column("ocsp_urls", _TEXT, default="[]"),
        _column("aia_ca_issuers_enabled", _FLAG, default=sa.false()),
        _column("aia_ca_issuers_urls", _TEXT, default="[]"),
        _column("cps_enabled", _FLAG, default=sa.false()),
        _column("cps_uri", _TEXT, null=True),
        _column("cps_oid", _TEXT, null=True),
        _column("crl_validity_days", _NUMBER, default="7"),
        _column("crl_publish_interval_hours", _NUMBER, default="24"),
        _column("crl_digest", _TEXT, default="auto"),
        _column("delta_crl_enabled", _FLAG, default=sa.false()),
        _column("delta_crl_interval", _NUMBER, default="4"),
        _column("imported_from", _TEXT, null=True),
        _column("created_at", _TIME),
        _column("created_by", _TEXT),
        _column("version", _NUMBER, default="1"),
        *cycle,
        _reference("core_ca", "key_id", "core_key.id"),
        _reference("core_ca", "parent_id", "core_ca.id"),
        sa.UniqueConstraint("certificate_id", name="uq_core_ca_certificate_id"),
        sa.UniqueConstraint("refid", name="uq_core_ca_refid"),
        sa.UniqueConstraint("url_slug", name="uq_core_ca_url_slug"),
    )
    _index("core_ca", "key_id")
    _index("core_ca", "parent_id")
    op.create_table(
        "core_ca_template_pin",
        _column("ca_id", _ID),
        _column("template_id", _ID),
        _column("created_at", _TIME),
        _column("created_by", _TEXT),
        _reference("core_ca_template_pin", "ca_id", "core_ca.id", ondelete="CASCADE"),
        _reference("core_ca_template_pin", "template_id", "core_template.id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("ca_id", "template_id", name="pk_core_ca_template_pin"),
        sqlite_with_rowid=False,
    )
    _index("core_ca_template_pin", "template_id")
    op.create_table(
        "core_job_lease",
        _column("job_id", _TEXT),
        _column("fence", _BIG),
        _column("holder", _TEXT, null=True),
        _column("expires_at", _TIME, null=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_core_job_lease"),
        _reference("core_job_lease", "job_id", "core_job.id"),
    )
    _entity(
        "core_job_run",
        _column("job_id", _TEXT),
        _column("fence", _BIG),
        _column("worker", _TEXT),
        _column("status", _TEXT),
        _column("progress", _TEXT, default=""),
        _column("error", _TEXT, default=""),
        _column("started_at", _TIME),
        _column("finished_at", _TIME, null=True),
        _column("duration_ms", _NUMBER, null=True),
        _reference("core_job_run", "job_id", "core_job.id"),
    )
    _index("core_job_run", "job_id id")
    _index("core_job_run", "started_at")
    _entity(
        "core_user",
        _column("username", _TEXT),
        _column("username_key", _TEXT),
        _column("email", _TEXT),
        _column("email_key", _TEXT, null=True),
        _column("full_name", _TEXT, default=""),
        _column("password_hash", _TEXT, null=True),
        _column("role", _TEXT),
        _column("custom_role_id", _ID, null=True),
        _column("active", _FLAG, default=sa.true()),
        _column("force_password_change", _FLAG, default=sa.false()),
        _column("auth_source", _TEXT, default="local"),
        _column("preferences", _JSON),
        _column("created_at", _TIME),
        _column("last_login", _TIME, null=True),
        _column("login_count", _NUMBER, default="0"),
        _column("failed_logins", _NUMBER, default="0"),
        _column("locked_until", _TIME, null=True),
        _column("password_changed_at", _TIME, null=True),
        _column("version", _NUMBER, default="1"),
        _reference("core_user", "custom_role_id", "core_role.id"),
        sa.UniqueConstraint("email_key", name="uq_core_user_email_key"),
        sa.UniqueConstraint("username_key", name="uq_core_user_username_key"),
    )
    _index("core_user", "custom_role_id")
    _entity(
        "core_api_key",
        _column("user_id", _ID),
        _column("name", _TEXT),
        _column("key_hash", _TEXT),
        _column("key_prefix", _TEXT),
        _column("permissions", _TEXT, default="[]"),
        _column("is_active", _FLAG, default=sa.true()),
        _column("created_at", _TIME),
        _column("expires_at", _TIME, null=True),
        _column("last_used_at", _TIME, null=True),
        _column("last_used_ip", _TEXT, null=True),
        _reference("core_api_key", "user_id", "core_user.id", ondelete="CASCADE"),
        sa.UniqueConstraint("key_hash", name="uq_core_api_key_key_hash"),
    )
    _index("core_api_key", "user_id")


def _part_2() -> None:
    _entity(
        "core_certificate",
        _column("refid", _TEXT),
        _column("ca_id", _ID, null=True),
        _column("serial", _SORTED),
        _column("is_ca", _FLAG, default=sa.false()),
        _column("revocation", _SMALL, default="0"),
        _column("source", _TEXT),
        _column("client", _TEXT, default=""),
        _column("not_before", _TIME),
        _column("not_after", _TIME),
        _column("subject", _SORTED),
        _column("common_name", _TEXT, null=True),
        _column("issuer", _SORTED),
        _column("description", _SORTED),
        _column("key_type", _SORTED),
        _column("signature_algorithm", _TEXT),
        *_names(),
        _column("subject_key_id", _TEXT, null=True),
        _column("authority_key_id", _TEXT, null=True),
        _column("thumbprint_sha256", _TEXT),
        _column("thumbprint_sha1", _TEXT),
        _column("spki_sha256", _TEXT),
        _column("cert_type", _TEXT),
        _column("ocsp_uri", _TEXT, null=True),
        _column("must_staple", _FLAG, default=sa.false()),
        _column("template_id", _ID, null=True),
        _column("key_id", _ID, null=True),
        _column("revoked_at", _TIME, null=True),
        _column("revocation_reason", _TEXT, null=True),
        _column("invalidity_date", _TIME, null=True),
        _column("renews", _ID, null=True),
        _column("state", _TEXT, default="issued"),
        _column("idempotency_key", _TEXT, null=True),
        _column("created_at", _TIME),
        _column("created_by", _TEXT),
        _column("der", _BYTES),
        _reference("core_certificate", "ca_id", "core_ca.id"),
        _reference("core_certificate", "key_id", "core_key.id"),
        _reference("core_certificate", "renews", "core_certificate.id"),
        _reference("core_certificate", "template_id", "core_template.id"),
        sa.UniqueConstraint("refid", name="uq_core_certificate_refid"),
        sa.UniqueConstraint("thumbprint_sha256", name="uq_core_certificate_thumbprint_sha256"),
    )
    _index("core_certificate", "is_ca ca_id id source revocation not_after", name="by_ca")
    _index("core_certificate", "is_ca id ca_id source revocation not_after", name="by_created")
    _index(
        "core_certificate",
        "is_ca description id ca_id source revocation not_after",
        name="by_description",
    )
    _index(
        "core_certificate", "is_ca issuer id ca_id source revocation not_after", name="by_issuer"
    )
    _index(
        "core_certificate",
        "is_ca key_type id ca_id source revocation not_after",
        name="by_key_type",
    )
    _index("core_certificate", "is_ca not_after id ca_id source revocation", name="by_not_after")
    _index(
        "core_certificate",
        "is_ca not_before id ca_id source revocation not_after",
        name="by_not_before",
    )
    _index("core_certificate", "serial ca_id", name="by_serial", unique=True)
    _index("core_certificate", "is_ca revocation not_after id ca_id source", name="by_status")
    _index(
        "core_certificate", "is_ca subject id ca_id source revocation not_after", name="by_subject"
    )
    _index(
        "core_certificate",
        "spki_sha256",
        name="compromised",
        where="revocation_reason = 'keyCompromise'",
    )
    _index(
        "core_certificate",
        "source idempotency_key",
        name="idempotency",
        unique=True,
        where="idempotency_key IS NOT NULL",
    )
    _index("core_certificate", "key_id", where="key_id IS NOT NULL")
    _index("core_certificate", "authority_key_id", name="orphans", where="ca_id IS NULL")
    _index("core_certificate", "renews", where="renews IS NOT NULL")
    _index("core_certificate", "ca_id revoked_at", name="revoked", where="revocation > 0")
    _index("core_certificate", "subject_key_id", where="is_ca")
    _index("core_certificate", "template_id", where="template_id IS NOT NULL")
    op.create_table(
        "core_deleted_certificate",
        _column("ca_id", _ID),
        _column("serial", _TEXT),
        _column("thumbprint_sha256", _TEXT),
        _column("spki_sha256", _TEXT),
        _column("not_after", _TIME),
        _column("revoked_at", _TIME, null=True),
        _column("revocation_reason", _TEXT, null=True),
        _column("invalidity_date", _TIME, null=True),
        _column("deleted_at", _TIME),
        _column("deleted_by", _TEXT),
        sa.PrimaryKeyConstraint("ca_id", "serial", name="pk_core_deleted_certificate"),
        _reference("core_deleted_certificate", "ca_id", "core_ca.id"),
        sqlite_with_rowid=False,
    )
    _index(
        "core_deleted_certificate",
        "spki_sha256",
        name="compromised",
        where="revocation_reason = 'keyCompromise'",
    )
    op.create_table(
        "core_group_member",
        _column("group_id", _ID),
        _column("user_id", _ID),
        _column("role", _TEXT, default="member"),
        _column("joined_at", _TIME),
        sa.PrimaryKeyConstraint("group_id", "user_id", name="pk_core_group_member"),
        _reference("core_group_member", "group_id", "core_group.id", ondelete="CASCADE"),
        _reference("core_group_member", "user_id", "core_user.id", ondelete="CASCADE"),
    )
    _index("core_group_member", "user_id")
    _entity(
        "core_session",
        _column("token_hash", _TEXT),
        _column("user_id", _ID),
        _column("auth_method", _TEXT),
        _column("ip_address", _TEXT, null=True),
        _column("user_agent", _TEXT, null=True),
        _column("created_at", _TIME),
        _column("last_activity", _TIME),
        _column("expires_at", _TIME),
        _column("absolute_expires_at", _TIME),
        _reference("core_session", "user_id", "core_user.id", ondelete="CASCADE"),
        sa.UniqueConstraint("token_hash", name="uq_core_session_token_hash"),
    )
    _index("core_session", "expires_at")
    _index("core_session", "user_id")
    op.create_table(
        "core_certificate_term",
        _column("term", _SORTED),
        _column("certificate_id", _ID),
        sa.PrimaryKeyConstraint("term", "certificate_id", name="pk_core_certificate_term"),
        _reference("core_certificate_term", "certificate_id", "core_certificate.id"),
        sqlite_with_rowid=False,
    )
    _index("core_certificate_term", "certificate_id term", name="certificate_id")
    _entity(
        "core_csr",
        _column("refid", _TEXT),
        _column("description", _TEXT, default=""),
        _column("subject", _TEXT),
        _column("common_name", _TEXT, null=True),
        _column("key_type", _TEXT),
        *_names(),
        _column("spki_sha256", _TEXT),
        _column("key_id", _ID, null=True),
        _column("certificate_id", _ID, null=True),
        _column("source", _TEXT),
        _column("created_at", _TIME),
        _column("created_by", _TEXT),
        _column("der", _BYTES),
        _reference("core_csr", "certificate_id", "core_certificate.id", ondelete="SET NULL"),
        _reference("core_csr", "key_id", "core_key.id"),
        sa.UniqueConstraint("refid", name="uq_core_csr_refid"),
    )
    _index("core_csr", "certificate_id")
    _index("core_csr", "key_id")
    _entity(
        "core_held_request",
        _column("refid", _TEXT),
        _column("operation", _TEXT),
        _column("origin", _TEXT),
        _column("client", _TEXT, default=""),
        _column("idempotency_key", _TEXT, null=True),
        _column("payload", _JSON),
        _column("subject", _TEXT, default=""),
        _column("reason", _TEXT),
        _column("policy", _TEXT, default=""),
        _column("state", _TEXT),
        _column("approvals", _JSON),
        _column("ca_id", _ID, null=True),
        _column("certificate_id", _ID, null=True),
        _column("requested_by", _TEXT),
        _column("requested_by_id", _ID, null=True),
        _column("created_at", _TIME),
        _column("resolved_at", _TIME, null=True),
        _reference("core_held_request", "ca_id", "core_ca.id"),
        _reference(
            "core_held_request", "certificate_id", "core_certificate.id", ondelete="SET NULL"
        ),
        sa.UniqueConstraint(
            "origin", "idempotency_key", name="uq_core_held_request_origin_idempotency_key"
        ),
        sa.UniqueConstraint("refid", name="uq_core_held_request_refid"),
    )
    _index("core_held_request", "ca_id")
    _index("core_held_request", "certificate_id")
    _index("core_held_request", "state")
    _entity(
        "core_intent",
        _column("ca_id", _ID, null=True),
        _column("serial", _TEXT),
        _column("origin", _TEXT),
        _column("client", _TEXT, default=""),
        _column("idempotency_key", _TEXT, null=True),
        _column("subject", _TEXT),
        _column("request_digest", _TEXT),
        _column("request", _JSON),
        _column("tbs", _BYTES, null=True),
        _column("state", _TEXT),
        _column("reason", _TEXT, default=""),
        _column("certificate_id", _ID, null=True),
        _column("created_at", _TIME),
        _column("created_by", _TEXT),
        _column("updated_at", _TIME),
        _reference("core_intent", "ca_id", "core_ca.id"),
        _reference("core_intent", "certificate_id", "core_certificate.id", ondelete="SET NULL"),
        sa.UniqueConstraint("ca_id", "serial", name="uq_core_intent_ca_id_serial"),
    )
    _index("core_intent", "certificate_id")
    _index(
        "core_intent",
        "origin idempotency_key",
        name="idempotency",
        unique=True,
        where="state = 'signing' AND idempotency_key IS NOT NULL",
    )
    _index("core_intent", "updated_at", name="open", where="state = 'signing'")


_CHILDREN_FIRST = """
    core_intent core_held_request core_csr core_certificate_term core_session core_group_member
    core_deleted_certificate core_certificate core_api_key core_user core_job_run
    core_job_lease core_ca_template_pin core_ca core_template core_setting core_secret_canary
    core_role core_plugin core_outbox core_key core_job core_group core_counter core_audit
"""


def downgrade() -> None:
    """Remove them all, in the other order."""
    if op.get_context().dialect.name == "postgresql":
        op.drop_constraint(_CYCLE, "core_ca", type_="foreignkey")
    for table in _CHILDREN_FIRST.split():
        op.drop_table(table)
