"""What goes into and comes out of the issuance pipeline.

Every certificate UCM signs is described by an ``IssuanceRequest`` and passes the same steps:
policy, profile, lint, sign, verify, store, publish.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from ucm.api.csr import CertificateRequest
from ucm.api.keys import KeyRecord, KeyRef, KeySpec, SignatureScheme

if TYPE_CHECKING:
    from ucm.api.views import CertificateView


class Operation(enum.Enum):
    """Operations that a plugin may guard."""

    ISSUE = "issue"
    REVOKE = "revoke"
    KEY_USE = "key-use"


@dataclass(frozen=True, slots=True)
class Origin:
    """By which way a request came in: ``api``, ``cli``, ``renewal`` or a protocol's id, and who
    asked there.
    """

    kind: str
    client: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.client}" if self.client else self.kind


class CertificateKind(enum.Enum):
    """What a certificate is for; decides the rules that no template can widen."""

    END_ENTITY = "end-entity"
    ROOT_CA = "root-ca"
    INTERMEDIATE_CA = "intermediate-ca"


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """The template of a certificate: what it may contain and for how long (catalogue: certificate
    templates).

    Key usage names are RFC 5280's (``digitalSignature``), extended key usages are dotted OIDs. An
    empty ``key_types`` allows every ``KeySpec``; an empty ``san_types`` allows dns, ip, email and
    uri.
    """

    name: str
    kind: CertificateKind = CertificateKind.END_ENTITY
    template_id: int | None = None
    key_usage: frozenset[str] = frozenset()
    extended_key_usage: tuple[str, ...] = ()
    extended_key_usage_critical: bool = False
    key_types: frozenset[KeySpec] = frozenset()
    san_types: frozenset[str] = frozenset()
    default_validity: timedelta = timedelta(days=365)
    max_validity: timedelta = timedelta(days=3650)
    digest: str = "auto"
    pinned_subject: Mapping[str, str] = field(default_factory=dict)
    default_subject: Mapping[str, str] = field(default_factory=dict)
    protocol_only: bool = False
    ocsp_no_check: bool = False
    no_rev_avail: bool = False
    allowed_extra_ekus: frozenset[str] | None = None
    """``None``: any of the catalogue's purposes an operator may ask for; never anyExtendedKeyUsage.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class CAParameters:
    """What only a CA certificate carries (RFC 5280 4.2.1.9-11, 4.2.1.14)."""

    path_length: int | None = None
    permitted_subtrees: tuple[x509.GeneralName, ...] = ()
    excluded_subtrees: tuple[x509.GeneralName, ...] = ()
    inhibit_any_policy: int | None = None
    require_explicit_policy: int | None = None
    inhibit_policy_mapping: int | None = None
    policy_oids: tuple[str, ...] = ()
    cps_uri: str | None = None
    key_usage: frozenset[str] = frozenset({"keyCertSign", "cRLSign"})
    extended_key_usage: tuple[str, ...] = ()
    sia_urls: tuple[str, ...] = ()
    digest: str = "auto"
    """With which hash the new authority will sign; its certificate is its issuer's matter."""
    named_urls: bool = False
    """Whether the new authority's publications are found under its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuanceRequest:
    """A wish for a certificate. Exactly one of ``csr`` and ``public_key`` is set.

    ``csr`` is a parsed request whose proof of possession was verified; with ``public_key`` (SPKI
    DER) the origin vouches for possession (key made by UCM, CMP POP, renewal). ``subject`` and
    ``names`` are what the caller asks for; with a CSR and both ``None`` the CSR's own are taken.
    CSR extensions are read, never copied. ``key`` is the stored key that belongs to the
    certificate, ``new_key`` one that is stored with it; either must be the private half of what is
    certified (``Invalid``, ``key-mismatch``), an authority's for an authority only, and a plugin
    names only keys of its own (``Forbidden``). ``ca_id`` ``None`` makes a self-signed root
    whose ``key`` or ``new_key`` signs.
    """

    origin: Origin
    ca_id: int | None
    profile: str | int | Profile
    csr: CertificateRequest | None = None
    public_key: bytes | None = field(default=None, repr=False)
    subject: x509.Name | None = None
    names: tuple[x509.GeneralName, ...] | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    validity: timedelta | None = None
    extra_ekus: tuple[str, ...] = ()
    must_staple: bool = False
    ca_parameters: CAParameters | None = None
    key: KeyRef | None = None
    new_key: KeyRecord | None = None
    renews: int | None = None
    description: str = ""
    comment: str = ""
    idempotency_key: str | None = None
    requested_extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    """Registered extensions (``ucm_extensions``) that the origin asks for; others are refused."""
    approvals: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateDraft:
    """The certificate that will be signed, complete but for the signature; frozen from
    ``ucm_check_draft`` on.
    """

    profile: Profile
    subject: x509.Name
    issuer: x509.Name
    names: tuple[x509.GeneralName, ...]
    public_key: bytes = field(repr=False)
    serial: int
    not_before: datetime
    not_after: datetime
    extensions: tuple[x509.Extension[x509.ExtensionType], ...]
    scheme: SignatureScheme

    @property
    def is_ca(self) -> bool:
        """Whether this draft is a CA certificate."""
        return self.profile.kind is not CertificateKind.END_ENTITY


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftPatch:
    """What a plugin may change in a draft: add registered extensions, shorten the validity. Nothing
    else.
    """

    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal: stable code, the reason, what would change it, and the field it is about (RFC 6901
    pointer).
    """

    code: str
    detail: str
    hint: str = ""
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now: the request waits until somebody decides (approval plugins)."""

    reason: str
    policy: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedCertificate:
    """A signed, stored certificate."""

    id: int
    serial: str
    der: bytes = field(repr=False)
    ca_id: int | None
    not_after: datetime
    claimed: bool = True
    """False when ``on_stored`` raised: the certificate is kept as ``issued_unclaimed``."""
    view: CertificateView = field(repr=False, compare=False, kw_only=True)
    """The row as it was stored, before ``on_stored`` wrote more."""


@dataclass(frozen=True, slots=True)
class Held:
    """The request was stored and waits; ``resume(request_id)`` starts it again from step one."""

    request_id: int
    reason: str


IssuanceResult = IssuedCertificate | Held


class RevocationReason(enum.Enum):
    """RFC 5280 5.3.1 CRLReason; ``removeFromCRL`` exists in delta CRLs only and is not a reason to
    revoke.
    """

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    AA_COMPROMISE = "aACompromise"

    @property
    def code(self) -> int:
        """The CRLReason number."""
        return _REASON_CODES[self]


_REASON_CODES = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.CA_COMPROMISE: 2,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.CERTIFICATE_HOLD: 6,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
    RevocationReason.AA_COMPROMISE: 10,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RevocationRequest:
    """A wish to revoke (or hold) one certificate."""

    certificate_id: int
    reason: RevocationReason
    origin: Origin
    invalidity_date: datetime | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ExtensionKind:
    """An extension OID that a plugin may put into a draft, and whether it may be critical."""

    oid: str
    title: str
    critical: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileTemplate:
    """A profile that a plugin brings (OCSP responder, TSA, SCEP RA), usable by its name only."""

    profile: Profile
    title: str
