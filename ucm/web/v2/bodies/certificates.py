"""Bodies of ``/certificates``."""

from __future__ import annotations

from typing import Literal

from flask_openapi3.models.file import FileStorage
from pydantic import AliasChoices, Field

from ucm.api.issuance import RevocationReason
from ucm.web.requests import Body, Query, RowId
from ucm.web.v2.bodies.common import (
    Country,
    Description,
    DnValue,
    EkuText,
    Ids,
    Line,
    OptionalBody,
    Paging,
    Password,
    SanText,
    Upload,
)

CertificateType = Literal["server", "client", "combined", "code_signing", "email"]
Status = Literal["valid", "expiring", "expired", "revoked", "on_hold"]
SortField = Literal[
    "subject",
    "issuer",
    "valid_to",
    "valid_from",
    "created_at",
    "serial_number",
    "revoked",
    "descr",
    "key_algo",
    "status",
]

Reason = Literal[
    "unspecified",
    "keyCompromise",
    "key_compromise",
    "caCompromise",
    "cACompromise",
    "ca_compromise",
    "affiliationChanged",
    "affiliation_changed",
    "superseded",
    "cessationOfOperation",
    "cessation_of_operation",
    "certificateHold",
    "certificate_hold",
    "privilegeWithdrawn",
    "privilege_withdrawn",
    "aaCompromise",
    "aACompromise",
    "aa_compromise",
]


class CertificateCreateBody(Body):
    """Issue a certificate: UCM makes the key, or ``csr`` brings the requester's public key.

    With a CSR, subject and names are the CSR's own unless they are given here.
    """

    ca_id: int = Field(ge=1, le=2**63 - 1)
    csr: str | None = Field(
        None, description="PKCS#10 request, PEM, at most 64 KiB; the key fields must be left out"
    )
    cn: DnValue | None = Field(
        None,
        validation_alias=AliasChoices("cn", "common_name"),
        description="Required unless there is a csr or a SAN",
    )
    organization: DnValue | None = None
    organizational_unit: DnValue | None = None
    country: Country | None = None
    state: DnValue | None = None
    locality: DnValue | None = None
    email: Line | None = Field(None, description="Also becomes an e-mail SAN")
    template_id: int | None = Field(None, ge=1, le=2**63 - 1)
    cert_type: CertificateType | None = None
    key_type: str | None = Field(
        None,
        max_length=20,
        description="rsa or ec with key_size or curve; or RSA-2048, EC-P256, ...",
    )
    key_size: int | None = None
    curve: str | None = Field(None, max_length=20)
    validity_days: int | None = Field(None, ge=1, le=3650)
    san: list[SanText] = Field(
        default_factory=list,
        max_length=256,
        description="dns:..., ip:..., email:..., uri:..., upn:...",
    )
    san_dns: list[SanText] = Field(default_factory=list, max_length=256)
    san_ip: list[SanText] = Field(default_factory=list, max_length=256)
    san_email: list[SanText] = Field(default_factory=list, max_length=256)
    san_uri: list[SanText] = Field(default_factory=list, max_length=256)
    san_upn: list[SanText] = Field(default_factory=list, max_length=256)
    extra_ekus: list[EkuText] = Field(default_factory=list, max_length=16)
    ocsp_must_staple: bool = False
    description: Description = ""
    approval_comment: Description = ""
    key_backend: Line | None = None


class CertificateRenameBody(Body):
    """A new description."""

    descr: Line = Field(validation_alias=AliasChoices("descr", "description"))


class RevokeBody(OptionalBody):
    """RFC 5280 5.3.1 reason; ``certificateHold`` can be lifted, every other reason is final."""

    reason: Reason = "unspecified"
    invalidity_date: str | None = Field(
        None,
        max_length=40,
        validation_alias=AliasChoices("invalidity_date", "invalidity_at"),
        description="ISO 8601: when the key was lost or the certificate stopped being right",
    )
    comment: Description = ""


class CertificateRenewBody(OptionalBody):
    """Left out, all is as in the old certificate, but a key that UCM keeps is replaced."""

    validity_days: int | None = Field(None, ge=1, le=3650)
    csr: str | None = Field(None, description="The requester's new key, PKCS#10 PEM")
    new_key: bool | None = Field(
        None, description="false: certify the same public key again; true: UCM makes a new key"
    )


class KeyAttachBody(Body):
    """The private key of a certificate or CSR, PEM or base64 of DER."""

    key: str = Field(min_length=1, max_length=65536, json_schema_extra={"format": "password"})
    passphrase: Password | None = None


class CertificateListQuery(Paging):
    """Filters may be repeated; all given kinds of filter must hold."""

    status: list[Status] = Field(default_factory=list)
    ca_id: list[RowId] = Field(default_factory=list, max_length=100)
    source: list[str] = Field(default_factory=list)
    search: str | None = Field(
        None, max_length=255, description="In subject, SAN, issuer, description or serial number"
    )
    template_id: RowId | None = None
    sort_by: SortField = "created_at"
    sort_order: Literal["asc", "desc"] = "desc"
    cursor: str | None = Field(
        None, max_length=512, description="meta.next_cursor of the previous page; replaces page"
    )


class BulkRevokeBody(Body):
    """Revoke up to 100 certificates for one reason."""

    ids: Ids
    reason: Reason = "unspecified"


class BulkExportBody(Body):
    """Selected certificates in one file."""

    ids: Ids
    format: Literal["pem", "pkcs7", "p7b"] = "pem"


class ExportAllQuery(Query):
    """All certificates in one file; PEM is streamed."""

    format: Literal["pem", "pkcs7", "p7b"] = "pem"


class CertificateImportForm(Upload):
    """A certificate made elsewhere, with its key or without."""

    file: FileStorage | None = Field(None, description="PEM, DER, PKCS#7 or PKCS#12 file")
    pem_content: str | None = Field(None, max_length=1024 * 1024)
    password: Password | None = None
    name: Line | None = None
    ca_id: RowId | None = None
    import_key: bool = True
    update_existing: bool = True

    def content(self) -> bytes:
        """The file or the text. Raises ``Invalid`` or ``TooLarge``."""
        return self._read(self.file, self.pem_content, pointer="/pem_content")


_REASONS = {reason.value.lower(): reason for reason in RevocationReason}


def reason_of(text: Reason) -> RevocationReason:
    """The reason for any of the spellings that ``Reason`` lists."""
    return _REASONS[text.replace("_", "").lower()]
