"""Authorities, certificates, requests, templates, keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from ucm.api.db import Der, Json, Sealed, metadata
from ucm.store.tables.columns import (
    Id,
    Sorted,
    flag,
    moment,
    number,
    optional_text,
    primary_key,
    reference,
    text,
    text_list,
)

key = Table(
    "core_key",
    metadata,
    primary_key(),
    text("purpose"),
    text("owner", default="core"),  # or the plugin's name, which alone may use it
    text("backend"),
    text("spec"),
    text("label", default=""),
    Column("locator", Json, nullable=False),
    Column("sealed", Sealed),
    moment("created_at"),
    text("created_by"),
    sqlite_autoincrement=True,
)

template = Table(
    "core_template",
    metadata,
    primary_key(),
    text("name"),
    text("name_key", unique=True),  # the name as it is compared: folded case
    text("description", default=""),
    text("template_type"),
    text("key_type"),
    number("validity_days", default=397),
    text("digest", default="sha256"),
    Column("dn_template", Json, nullable=False),
    Column("extensions_template", Json, nullable=False),
    Column("pinned_subject_fields", Json, nullable=False),
    flag("is_system", default=False),
    flag("is_active", default=True),
    flag("ad_derived_subject", default=False),
    flag("autoenroll_enabled", default=False),
    optional_text("allowed_ad_group"),
    moment("created_at"),
    text("created_by"),
    moment("updated_at", nullable=True),
    optional_text("updated_by"),
    number("version", default=1),
    sqlite_autoincrement=True,
)

ca = Table(
    "core_ca",
    metadata,
    primary_key(),
    text("refid", unique=True),
    optional_text("url_slug", unique=True),
    text("name"),
    reference("parent_id", "core_ca"),
    # The two tables name each other; where the database can, this side is added afterwards.
    reference(
        "certificate_id",
        "core_certificate",
        nullable=False,
        use_alter=True,
        name="fk_core_ca_certificate_id_core_certificate",
    ),
    reference("key_id", "core_key"),
    flag("is_active", default=True),
    flag("offline", default=False),
    text("digest", default="auto"),
    Column("path_length", Integer),
    flag("named_urls", default=False),
    flag("cdp_enabled", default=False),
    text_list("cdp_urls"),
    flag("ocsp_enabled", default=False),
    text_list("ocsp_urls"),
    flag("aia_ca_issuers_enabled", default=False),
    text_list("aia_ca_issuers_urls"),
    flag("cps_enabled", default=False),
    optional_text("cps_uri"),
    optional_text("cps_oid"),
    number("crl_validity_days", default=7),
    number("crl_publish_interval_hours", default=24),
    text("crl_digest", default="auto"),
    flag("delta_crl_enabled", default=False),
    number("delta_crl_interval", default=4),
    optional_text("imported_from"),
    moment("created_at"),
    text("created_by"),
    number("version", default=1),
    UniqueConstraint("certificate_id"),
    Index(None, "parent_id"),
    Index(None, "key_id"),
    sqlite_autoincrement=True,
)

ca_template_pin = Table(
    "core_ca_template_pin",  # templates that an authority's operators want to see first
    metadata,
    Column("ca_id", Id, ForeignKey("core_ca.id", ondelete="CASCADE"), primary_key=True),
    Column("template_id", Id, ForeignKey("core_template.id", ondelete="CASCADE"), primary_key=True),
    moment("created_at"),
    text("created_by"),
    Index(None, "template_id"),
    sqlite_with_rowid=False,
)

certificate = Table(
    "core_certificate",
    metadata,
    primary_key(),
    text("refid"),
    reference("ca_id", "core_ca"),  # the issuer; none for roots and for foreign certificates
    Column("serial", Sorted, nullable=False),
    flag("is_ca", default=False),
    # 0 good, 1 revoked, 2 on hold: one number, so that indexes can answer status filters
    Column("revocation", SmallInteger, nullable=False, server_default="0"),
    text("source"),
    text("client", default=""),
    moment("not_before"),
    moment("not_after"),
    Column("subject", Sorted, nullable=False),
    optional_text("common_name"),
    Column("issuer", Sorted, nullable=False),
    Column("description", Sorted, nullable=False),
    Column("key_type", Sorted, nullable=False),
    text("signature_algorithm"),
    text_list("san_dns"),
    text_list("san_ip"),
    text_list("san_email"),
    text_list("san_uri"),
    text_list("san_upn"),
    optional_text("subject_key_id"),
    optional_text("authority_key_id"),
    text("thumbprint_sha256"),
    text("thumbprint_sha1"),
    text("spki_sha256"),
    text("cert_type"),
    optional_text("ocsp_uri"),
    flag("must_staple", default=False),
    reference("template_id", "core_template"),
    reference("key_id", "core_key"),
    moment("revoked_at", nullable=True),
    optional_text("revocation_reason"),
    moment("invalidity_date", nullable=True),
    reference("renews", "core_certificate"),
    text("state", default="issued"),
    optional_text("idempotency_key"),
    moment("created_at"),
    text("created_by"),
    Column("der", Der, nullable=False),  # last: lists read the row's head only
    # Serial first: it also serves the order by serial and the search for its beginning.
    Index("ix_core_certificate_by_serial", "serial", "ca_id", unique=True),
    UniqueConstraint("refid"),
    UniqueConstraint("thumbprint_sha256"),
    sqlite_autoincrement=True,
)

# Lists: each order has an index that starts with it and holds every filter column, so that the ids
# of a page and their count are answered from the index alone.
_ORDERS = {
    "created": ("id", "ca_id", "source", "revocation", "not_after"),
    "not_after": ("not_after", "id", "ca_id", "source", "revocation"),
    "not_before": ("not_before", "id", "ca_id", "source", "revocation", "not_after"),
    "status": ("revocation", "not_after", "id", "ca_id", "source"),
    "subject": ("subject", "id", "ca_id", "source", "revocation", "not_after"),
    "issuer": ("issuer", "id", "ca_id", "source", "revocation", "not_after"),
    "description": ("description", "id", "ca_id", "source", "revocation", "not_after"),
    "key_type": ("key_type", "id", "ca_id", "source", "revocation", "not_after"),
    "ca": ("ca_id", "id", "source", "revocation", "not_after"),
}
for _order, _columns in _ORDERS.items():
    Index(
        f"ix_core_certificate_by_{_order}",
        certificate.c.is_ca,
        *(certificate.c[column] for column in _columns),
    )

_c = certificate.c


def _partial(
    name: str, *columns: Column[Any], where: ColumnElement[bool], unique: bool = False
) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial(
    "ix_core_certificate_idempotency",
    _c.source,
    _c.idempotency_key,
    where=_c.idempotency_key.is_not(None),
    unique=True,
)
_partial("ix_core_certificate_template_id", _c.template_id, where=_c.template_id.is_not(None))
_partial("ix_core_certificate_key_id", _c.key_id, where=_c.key_id.is_not(None))
_partial("ix_core_certificate_renews", _c.renews, where=_c.renews.is_not(None))
_partial("ix_core_certificate_revoked", _c.ca_id, _c.revoked_at, where=_c.revocation > 0)
_partial(
    "ix_core_certificate_compromised",
    _c.spki_sha256,
    where=_c.revocation_reason == "keyCompromise",
)
_partial("ix_core_certificate_subject_key_id", _c.subject_key_id, where=_c.is_ca)
_partial("ix_core_certificate_orphans", _c.authority_key_id, where=_c.ca_id.is_(None))

certificate_term = Table(
    "core_certificate_term",
    metadata,
    Column("term", Sorted, primary_key=True),
    Column("certificate_id", Id, ForeignKey("core_certificate.id"), primary_key=True),
    Index("ix_core_certificate_term_certificate_id", "certificate_id", "term"),
    sqlite_with_rowid=False,
)

deleted_certificate = Table(
    "core_deleted_certificate",  # keeps the serial reserved, and on the CRL until it expires
    metadata,
    Column("ca_id", Id, ForeignKey("core_ca.id"), primary_key=True),
    Column("serial", Text, primary_key=True),
    text("thumbprint_sha256"),
    text("spki_sha256"),
    moment("not_after"),
    moment("revoked_at", nullable=True),
    optional_text("revocation_reason"),
    moment("invalidity_date", nullable=True),
    moment("deleted_at"),
    text("deleted_by"),
    sqlite_with_rowid=False,
)
_partial(
    "ix_core_deleted_certificate_compromised",
    deleted_certificate.c.spki_sha256,
    where=deleted_certificate.c.revocation_reason == "keyCompromise",
)

csr = Table(
    "core_csr",
    metadata,
    primary_key(),
    text("refid", unique=True),
    text("description", default=""),
    text("subject"),
    optional_text("common_name"),
    text("key_type"),
    text_list("san_dns"),
    text_list("san_ip"),
    text_list("san_email"),
    text_list("san_uri"),
    text_list("san_upn"),
    text("spki_sha256"),
    reference("key_id", "core_key"),
    reference("certificate_id", "core_certificate", ondelete="SET NULL"),
    text("source"),
    moment("created_at"),
    text("created_by"),
    Column("der", Der, nullable=False),
    Index(None, "certificate_id"),
    Index(None, "key_id"),
    sqlite_autoincrement=True,
)

intent = Table(
    "core_intent",  # what is about to be signed; outlives a crash between signing and storing
    metadata,
    primary_key(),
    reference("ca_id", "core_ca"),
    text("serial"),
    text("origin"),
    text("client", default=""),
    optional_text("idempotency_key"),
    text("subject"),
    text("request_digest"),
    Column("request", Json, nullable=False),
    Column("tbs", LargeBinary),
    text("state"),
    text("reason", default=""),
    reference("certificate_id", "core_certificate", ondelete="SET NULL"),
    moment("created_at"),
    text("created_by"),
    moment("updated_at"),
    UniqueConstraint("ca_id", "serial"),
    Index(None, "certificate_id"),
    sqlite_autoincrement=True,
)
_open_intent = intent.c.state == "signing"
_partial("ix_core_intent_open", intent.c.updated_at, where=_open_intent)
_partial(
    "ix_core_intent_idempotency",
    intent.c.origin,
    intent.c.idempotency_key,
    where=_open_intent & intent.c.idempotency_key.is_not(None),
    unique=True,
)

held_request = Table(
    "core_held_request",
    metadata,
    primary_key(),
    text("refid", unique=True),
    text("operation"),
    text("origin"),
    text("client", default=""),
    optional_text("idempotency_key"),
    Column("payload", Json, nullable=False),
    text("subject", default=""),
    text("reason"),
    text("policy", default=""),
    text("state"),
    Column("approvals", Json, nullable=False),
    reference("ca_id", "core_ca"),
    reference("certificate_id", "core_certificate", ondelete="SET NULL"),
    text("requested_by"),
    Column("requested_by_id", Id),  # no foreign key: the request outlives the account
    moment("created_at"),
    moment("resolved_at", nullable=True),
    UniqueConstraint("origin", "idempotency_key"),
    Index(None, "state"),
    Index(None, "ca_id"),
    Index(None, "certificate_id"),
    sqlite_autoincrement=True,
)
