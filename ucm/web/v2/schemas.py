"""The shapes of answers, for the OpenAPI document: what a client may rely on.

They describe the renderers' output; nothing is validated against them while serving.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel

Data = TypeVar("Data")

PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


class Shape(BaseModel):
    """Base; built when the document is made, which saves a tenth of the server's start."""

    model_config = ConfigDict(defer_build=True)


class PageMeta(Shape):
    """Where a page lies in its list; ``next_cursor`` continues it without counting pages."""

    total: int
    page: int
    per_page: int
    total_pages: int
    has_next: bool
    has_prev: bool
    next_cursor: str | None = None


class Envelope(Shape, Generic[Data]):
    """A success."""

    data: Data
    message: str | None = None
    meta: dict[str, Any] | None = None

    model_config = ConfigDict(json_schema_extra={"required": ["data"]})


class ListEnvelope(Shape, Generic[Data]):
    """A list, paged when ``meta`` is there."""

    data: list[Data]
    message: str | None = None
    meta: PageMeta | None = None


class KeyFields(Shape):
    """The key by its specification, algorithm and size in bits."""

    key_type: str
    key_algo: str
    key_algorithm: str
    key_size: int | None


class NameFields(Shape):
    """Subject attributes, the first of each kind."""

    common_name: str | None
    organization: str | None
    organizational_unit: str | None
    country: str | None
    state: str | None
    locality: str | None


class SanFields(Shape):
    """Subject alternative names by kind."""

    san_dns: list[str]
    san_ip: list[str]
    san_email: list[str]
    san_uri: list[str]
    san_upn: list[str]
    san_combined: str


class ExtensionItem(Shape):
    """One X.509 extension; ``value`` depends on its kind, hex when the kind is not known."""

    oid: str
    name: str
    critical: bool
    value: Any


class ChainMember(Shape):
    """One certificate of a chain."""

    subject: str
    issuer: str
    serial_number: str
    valid_to: str


class ChainStatus(Shape):
    """The chain from the certificate to its root, as far as it is known."""

    status: Literal["complete", "incomplete"]
    trust_source: str | None
    trust_anchor: str | None
    chain: list[ChainMember]


class CertificateItem(NameFields, KeyFields, SanFields):
    """A certificate."""

    id: int
    refid: str
    descr: str
    caref: str | None
    ca_id: int | None
    cert_type: str
    subject: str
    issuer: str
    serial_number: str
    aki: str | None
    ski: str | None
    valid_from: str
    valid_to: str
    not_valid_before: str
    not_valid_after: str
    revoked: bool
    revoked_at: str | None
    revoke_reason: str | None
    invalidity_at: str | None
    archived: bool
    imported_from: str | None
    created_at: str
    created_by: str
    source: str
    has_private_key: bool
    private_key_location: str | None
    ocsp_uri: str | None
    ocsp_must_staple: bool
    email: str | None
    cn: str | None
    issuer_name: str
    status: Literal["valid", "expiring", "expired", "revoked", "on_hold"]
    signature_algorithm: str
    thumbprint_sha1: str
    thumbprint_sha256: str
    days_remaining: int
    owner_group_id: int | None
    owner_group_name: str | None
    template_id: int | None
    template_name: str | None
    template_overrides: dict[str, Any] | None
    compliance_score: int
    compliance_grade: str
    is_ca: bool
    renews: int | None
    renewed_by: int | None


class ComplianceItem(Shape):
    """Points, grade, and points by criterion."""

    score: int
    grade: str
    breakdown: dict[str, int]


class CertificateDetail(CertificateItem):
    """A certificate with PEM, extensions and chain."""

    pem: str
    csr_pem: str | None
    extensions: list[ExtensionItem]
    chain_status: ChainStatus
    compliance: ComplianceItem
    ct_scts: list[Any]


class ApprovalItem(Shape):
    """The request waits for somebody's decision."""

    approval_required: Literal[True]
    approval_id: int
    policy_name: str
    status: Literal["pending_approval"]


class CertificateOrApproval(RootModel[CertificateItem | ApprovalItem]):
    """The certificate, or what says that it waits."""

    model_config = ConfigDict(defer_build=True)


class CertificateStats(Shape):
    """Counters; authorities' own certificates are not counted."""

    total: int
    valid: int
    expiring: int
    expired: int
    revoked: int
    on_hold: int
    sources: list[str]


class ComplianceStats(Shape):
    """Scores over all certificates."""

    average_score: float
    distribution: dict[str, int]
    total: int


class EkuItem(Shape):
    """A known purpose."""

    oid: str
    name: str


class CsrItem(NameFields, KeyFields, SanFields):
    """A certificate signing request."""

    id: int
    refid: str
    descr: str
    caref: None
    cert_type: None
    subject: str
    issuer: None
    serial_number: None
    valid_from: None
    valid_to: None
    revoked: bool
    created_at: str
    created_by: str
    source: str
    has_private_key: bool
    private_key_location: str | None
    email: str | None
    cn: str | None
    status: Literal["Pending", "Signed"]
    certificate_id: int | None
    signed_by: str | None


class CsrDetail(CsrItem):
    """A certificate signing request with its PEM."""

    csr_pem: str


class CaItem(NameFields):
    """A certificate authority."""

    id: int
    refid: str
    url_slug: str | None
    descr: str
    name: str
    serial: str
    serial_number: str
    caref: str | None
    parent_id: int | None
    certificate_id: int
    ski: str | None
    subject: str
    issuer: str
    valid_from: str
    issued: str
    valid_to: str
    expires: str
    expiry: str
    imported_from: str | None
    created_at: str
    created_by: str
    has_private_key: bool
    is_root: bool
    type: Literal["root", "intermediate"]
    is_active: bool
    status: Literal["active", "inactive", "offline", "expired", "revoked"]
    certs: int
    key_type: str
    hash_algorithm: str
    named_urls: bool
    cdp_enabled: bool
    cdp_url: str | None
    cdp_urls: list[str]
    delta_crl_enabled: bool
    delta_crl_interval: int
    crl_validity_days: int
    crl_publish_interval_hours: int
    crl_digest: str
    ocsp_enabled: bool
    ocsp_url: str | None
    ocsp_urls: list[str]
    aia_ca_issuers_enabled: bool
    aia_ca_issuers_url: str | None
    aia_ca_issuers_urls: list[str]
    cps_enabled: bool
    cps_uri: str | None
    cps_oid: str | None
    path_length: int | None
    name_constraints_permitted: list[str]
    name_constraints_excluded: list[str]
    policy_constraints_require: int | None
    policy_constraints_inhibit: int | None
    inhibit_any_policy: int | None
    sia_enabled: bool
    sia_urls: list[str]
    owner_group_id: int | None
    owner_group_name: str | None
    uses_hsm: bool
    hsm_key_id: int | None
    hsm_provider_id: int | None
    hsm_provider_name: str | None
    hsm_key_label: str | None
    offline: bool
    offline_mode: str | None
    offline_label: str | None


class Fingerprints(Shape):
    """Lower-case hex."""

    sha1: str
    sha256: str


class CaDetail(CaItem):
    """A certificate authority with PEM, extensions and chain."""

    pem: str
    extensions: list[ExtensionItem]
    fingerprints: Fingerprints
    chain_status: ChainStatus


class CaNode(CaItem):
    """An authority with those below it."""

    children: list[CaNode]


class TemplateItem(Shape):
    """A certificate template."""

    id: int
    name: str
    description: str
    template_type: str
    key_type: str
    validity_days: int
    digest: str
    dn_template: dict[str, Any]
    extensions_template: dict[str, Any]
    is_system: bool
    is_active: bool
    ad_derived_subject: bool
    autoenroll_enabled: bool
    allowed_ad_group: str | None
    pinned_subject_fields: dict[str, Any]
    created_at: str
    created_by: str
    updated_at: str | None
    updated_by: str | None
    usage_count: int


class PinnableTemplate(TemplateItem):
    """A template as an authority sees it: its operators want the pinned ones first."""

    is_pinned: bool
    pinned_at: str | None
    pinned_by: str | None


class TemplateImportResult(Shape):
    """Names by what happened to them."""

    imported: list[str]
    updated: list[str]
    skipped: list[str]


class BulkFailure(Shape):
    """Why one object of a bulk operation stayed as it was."""

    id: int
    error: str
    code: str


class BulkResult(Shape):
    """What happened to each object; a failure does not undo the others."""

    success: list[int]
    failed: list[BulkFailure]


class BulkSigned(BulkResult):
    """``certificates`` maps ids of requests or old certificates to the new certificates."""

    certificates: dict[str, int] = Field(default_factory=dict)


def file_response(*media_types: str) -> dict[str, Any]:
    """A download, for the ``responses`` of a view."""
    return {
        "description": "The file",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in media_types or ("application/octet-stream",)
        },
    }


def conflict_response() -> dict[str, Any]:
    """A 409 of a view that changes nothing (a key that is not there)."""
    return {"description": "The state of the object forbids it", "content": dict(PROBLEM_CONTENT)}


def missing_response() -> dict[str, Any]:
    """A 404 of a view whose path names no object."""
    return {"description": "There is no such object", "content": dict(PROBLEM_CONTENT)}
