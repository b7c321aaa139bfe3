"""Bodies of ``/cas``: snake_case names; the camelCase names of older clients are read too."""

from __future__ import annotations

from typing import Annotated, Literal

from flask_openapi3.models.file import FileStorage
from pydantic import AliasChoices, Field, StringConstraints

from ucm.web.requests import Body, Query, RowId
from ucm.web.v2.bodies.common import (
    Country,
    Description,
    DnValue,
    EkuText,
    ExportBody,
    Ids,
    Line,
    Oid,
    OptionalBody,
    Paging,
    Password,
    Upload,
    Url,
    Urls,
)

Depth = Annotated[int, Field(ge=0, le=32)]
Constraint = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Digest = Literal["auto", "sha256", "sha384", "sha512"]
KeyAlgorithm = Literal[
    "RSA", "ECDSA", "EC", "ED25519", "ED448", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"
]
KeyTypeName = Literal[
    "RSA-2048",
    "RSA-3072",
    "RSA-4096",
    "RSA-8192",
    "EC-P256",
    "EC-P384",
    "EC-P521",
    "ED25519",
    "ED448",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
]


def _names(name: str, *older: str) -> AliasChoices:
    return AliasChoices(name, *older)


class CaCreateBody(Body):
    """A new root, or an intermediate below ``parent_id``."""

    common_name: DnValue = Field(validation_alias=_names("common_name", "commonName"))
    organization: DnValue | None = None
    organizational_unit: DnValue | None = Field(
        None, validation_alias=_names("organizational_unit", "organizationalUnit")
    )
    country: Country | None = None
    state: DnValue | None = None
    locality: DnValue | None = None
    ca_type: Literal["root", "intermediate"] | None = Field(
        None,
        validation_alias=_names("ca_type", "type", "caType"),
        description="Left out: intermediate when parent_id is given, else root",
    )
    parent_id: RowId | None = Field(
        None, validation_alias=_names("parent_id", "parentCAId", "parentCaId", "parent_ca_id")
    )
    key_type: KeyTypeName | None = Field(
        None,
        validation_alias=_names("key_type", "keyType"),
        description="Algorithm and size in one word; otherwise key_algorithm and key_size",
    )
    key_algorithm: KeyAlgorithm | None = Field(
        None, validation_alias=_names("key_algorithm", "keyAlgo", "keyAlgorithm", "key_algo")
    )
    key_size: int | str | None = Field(
        None,
        validation_alias=_names("key_size", "keySize"),
        description="2048, 3072, 4096, 8192, or prime256v1, secp384r1, secp521r1",
    )
    key_backend: Line | None = Field(
        None,
        validation_alias=_names("key_backend", "keyBackend"),
        description="Key store that makes and keeps the key",
    )
    validity_years: int | None = Field(
        None, ge=1, le=50, validation_alias=_names("validity_years", "validityYears")
    )
    validity_days: int | None = Field(
        None, ge=1, le=18262, validation_alias=_names("validity_days", "validityDays")
    )
    description: Description = ""
    path_length: Depth | None = Field(None, validation_alias=_names("path_length", "pathLength"))
    inhibit_any_policy: Depth | None = Field(
        None, validation_alias=_names("inhibit_any_policy", "inhibitAnyPolicy")
    )
    policy_constraints_require: Depth | None = Field(
        None, validation_alias=_names("policy_constraints_require", "policyConstraintsRequire")
    )
    policy_constraints_inhibit: Depth | None = Field(
        None, validation_alias=_names("policy_constraints_inhibit", "policyConstraintsInhibit")
    )
    name_constraints_permitted: list[Constraint] = Field(
        default_factory=list,
        max_length=32,
        validation_alias=_names("name_constraints_permitted", "nameConstraintsPermitted"),
        description="dns:example.com, ip:10.0.0.0/8, email:example.com, uri:example.com",
    )
    name_constraints_excluded: list[Constraint] = Field(
        default_factory=list,
        max_length=32,
        validation_alias=_names("name_constraints_excluded", "nameConstraintsExcluded"),
    )
    sia_urls: list[Url] = Field(
        default_factory=list, max_length=8, validation_alias=_names("sia_urls", "siaUrls")
    )
    digest: Digest = "auto"
    key_usage: list[str] | None = Field(
        None, max_length=9, validation_alias=_names("key_usage", "keyUsage")
    )
    extended_key_usage: list[EkuText] = Field(
        default_factory=list,
        max_length=16,
        validation_alias=_names("extended_key_usage", "extendedKeyUsage"),
    )
    cps_uri: Url | None = Field(None, validation_alias=_names("cps_uri", "cpsUri"))
    cps_oid: Oid | None = Field(None, validation_alias=_names("cps_oid", "cpsOid", "policy_oid"))
    named_urls: bool = Field(
        False,
        validation_alias=_names("named_urls", "namedUrls"),
        description="Give the authority a readable url_slug; it never changes",
    )


class CaUpdateBody(Body):
    """What may change in an authority without a new certificate. Left-out fields stay."""

    name: Line | None = None
    is_active: bool | None = None
    named_urls: bool | None = Field(None, validation_alias=_names("named_urls", "namedUrls"))
    cdp_enabled: bool | None = None
    cdp_url: Url | None = None
    cdp_urls: Urls | None = None
    ocsp_enabled: bool | None = None
    ocsp_url: Url | None = None
    ocsp_urls: Urls | None = None
    aia_ca_issuers_enabled: bool | None = None
    aia_ca_issuers_url: Url | None = None
    aia_ca_issuers_urls: Urls | None = None
    cps_enabled: bool | None = None
    cps_uri: Url | None = None
    cps_oid: Oid | None = None
    digest: Digest | None = None
    crl_validity_days: int | None = Field(None, ge=1, le=365)
    crl_publish_interval_hours: int | None = Field(None, ge=1, le=8760)
    crl_digest: Digest | None = None
    delta_crl_enabled: bool | None = None
    delta_crl_interval: int | None = Field(None, ge=1, le=720, description="Hours")


class CaRenewBody(OptionalBody):
    """A new certificate for the same authority, with a new key or with the same one."""

    new_key: bool = Field(False, description="Make a new key of the same kind")
    validity_days: int | None = Field(
        None, ge=1, le=18262, description="Left out: as long as the present certificate"
    )


class CaImportForm(Upload):
    """An authority made elsewhere: its certificate, and its key unless it stays elsewhere."""

    file: FileStorage | None = Field(None, description="PEM, DER, PKCS#7 or PKCS#12 file")
    pem_content: str | None = Field(None, max_length=1024 * 1024)
    password: Password | None = None
    name: Line | None = None
    import_key: bool = True
    update_existing: bool = True

    def content(self) -> bytes:
        """The file or the text. Raises ``Invalid`` or ``TooLarge``."""
        return self._read(self.file, self.pem_content, pointer="/pem_content")


class CaListQuery(Query):
    """The list is complete unless ``page`` or ``per_page`` is given."""

    page: int | None = Field(None, ge=1, le=10_000_000)
    per_page: int | None = Field(None, ge=1, le=100)
    search: str | None = Field(None, max_length=255, description="In name, description or subject")
    type: Literal["root", "intermediate", "orphan"] | None = None


class CaCertificatesQuery(Paging):
    """Certificates of one authority."""

    status: list[Literal["valid", "expiring", "expired", "revoked", "on_hold"]] = Field(
        default_factory=list
    )


class CaExportAllQuery(Query):
    """All authorities in one file."""

    format: Literal["pem", "pkcs7", "p7b"] = "pem"


class CaBulkExportBody(Body):
    """Selected authorities in one file."""

    ids: Ids
    format: Literal["pem", "pkcs7", "p7b"] = "pem"


CaExportBody = ExportBody
