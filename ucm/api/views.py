"""Frozen read models. No ORM object leaves the store; these do."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from ucm.api.issuance import RevocationReason
from ucm.api.keys import KeyRef


class CertificateStatus(enum.Enum):
    """Derived from revocation and time; ``EXPIRING`` means within 30 days."""

    VALID = "valid"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ON_HOLD = "on_hold"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicationUrls:
    """URLs that go into what a CA issues. ``{ca_refid}`` is already replaced."""

    crl_distribution_points: tuple[str, ...] = ()
    ocsp: tuple[str, ...] = ()
    ca_issuers: tuple[str, ...] = ()
    policy_oid: str | None = None
    cps_uri: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CaPublication:
    """What an operator set for one authority; lists may hold the placeholder ``{ca_refid}``."""

    named_urls: bool = False
    cdp_enabled: bool = False
    cdp_urls: tuple[str, ...] = ()
    ocsp_enabled: bool = False
    ocsp_urls: tuple[str, ...] = ()
    aia_ca_issuers_enabled: bool = False
    aia_ca_issuers_urls: tuple[str, ...] = ()
    cps_enabled: bool = False
    cps_uri: str | None = None
    cps_oid: str | None = None
    crl_validity_days: int = 7
    crl_publish_interval_hours: int = 24
    crl_digest: str = "auto"
    delta_crl_enabled: bool = False
    delta_crl_interval: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class CaView:
    """One authority.
    ``certificate`` is parsed once per row version and shared: treat it as read-only.
    """

    id: int
    refid: str
    name: str
    parent_id: int | None
    certificate_id: int
    certificate: x509.Certificate = field(repr=False)
    der: bytes = field(repr=False)
    serial: str
    subject: str
    not_before: datetime
    not_after: datetime
    key: KeyRef | None
    is_active: bool
    offline: bool
    revoked: bool
    """Its present certificate is revoked for good; nothing may be issued any more."""
    digest: str
    path_length: int | None
    urls: PublicationUrls
    publication: CaPublication = field(default_factory=CaPublication)
    url_slug: str | None = None
    imported_from: str | None
    created_at: datetime
    created_by: str
    version: int

    @property
    def is_root(self) -> bool:
        """Whether the certificate is self-issued."""
        return self.certificate.subject == self.certificate.issuer


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateView:
    """One certificate row.
    Name lists hold text in canonical form; ``serial`` is lower-case hex, no leading zeros.
    """

    id: int
    refid: str
    description: str
    ca_id: int | None
    serial: str
    subject: str
    common_name: str | None
    issuer: str
    not_before: datetime
    not_after: datetime
    key_type: str
    signature_algorithm: str
    san_dns: tuple[str, ...] = ()
    san_ip: tuple[str, ...] = ()
    san_email: tuple[str, ...] = ()
    san_uri: tuple[str, ...] = ()
    san_upn: tuple[str, ...] = ()
    subject_key_id: str | None = None
    authority_key_id: str | None = None
    thumbprint_sha256: str
    cert_type: str
    source: str
    template_id: int | None
    key: KeyRef | None
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None
    invalidity_date: datetime | None
    renews: int | None
    renewed_by: int | None
    is_ca: bool
    state: str
    """``issued``, ``issued_unclaimed`` or ``imported``."""
    created_at: datetime
    created_by: str
    thumbprint_sha1: str = ""
    spki_sha256: str = ""
    ocsp_uri: str | None = None
    must_staple: bool = False
    client: str = ""
    idempotency_key: str | None = None
    der: bytes = field(default=b"", repr=False)

    def status(self, now: datetime) -> CertificateStatus:
        """The status at ``now``; revocation outranks expiry."""
        if self.revoked_at is not None:
            on_hold = self.revocation_reason is RevocationReason.CERTIFICATE_HOLD
            return CertificateStatus.ON_HOLD if on_hold else CertificateStatus.REVOKED
        if now > self.not_after:
            return CertificateStatus.EXPIRED
        if (self.not_after - now).days < 30:
            return CertificateStatus.EXPIRING
        return CertificateStatus.VALID


@dataclass(frozen=True, kw_only=True, slots=True)
class CsrView:
    """A stored certificate signing request; ``certificate_id`` is set once it was signed."""

    id: int
    refid: str
    description: str
    subject: str
    common_name: str | None
    der: bytes = field(repr=False)
    key_type: str
    san_dns: tuple[str, ...] = ()
    san_ip: tuple[str, ...] = ()
    san_email: tuple[str, ...] = ()
    san_uri: tuple[str, ...] = ()
    san_upn: tuple[str, ...] = ()
    key: KeyRef | None
    certificate_id: int | None
    source: str
    created_at: datetime
    created_by: str
