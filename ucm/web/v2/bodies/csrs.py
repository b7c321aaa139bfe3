"""Bodies of ``/csrs``."""

from __future__ import annotations

from typing import ClassVar, Literal

from flask_openapi3.models.file import FileStorage
from pydantic import Field

from ucm.web.requests import Body
from ucm.web.v2.bodies.common import (
    Country,
    DnValue,
    EkuText,
    Ids,
    Line,
    Paging,
    SanText,
    Upload,
)

SignableType = Literal["server", "client", "combined", "code_signing", "email", "intermediate_ca"]


class CsrCreateBody(Body):
    """A CSR with a key that UCM makes and keeps."""

    cn: DnValue
    country: Country | None = None
    state: DnValue | None = None
    locality: DnValue | None = None
    department: DnValue | None = None
    organization: DnValue | None = None
    key_type: str = Field("RSA 2048", max_length=20, description="RSA 2048, EC-P256, ED25519, ...")
    sans: list[SanText] = Field(default_factory=list, max_length=256)
    description: Line | None = None


class CsrUploadBody(Body):
    """A PKCS#10 request in PEM, at most 64 KiB; its signature proves possession of the key."""

    pem: str = Field(min_length=1)
    name: Line | None = None


class CsrImportForm(Upload):
    """A PKCS#10 request as a file (PEM or DER) or as text."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".pem", ".csr", ".req", ".p10", ".der", ".txt"})

    file: FileStorage | None = None
    pem_content: str | None = None
    name: Line | None = None

    def content(self) -> bytes:
        """The file or the text. Raises ``Invalid`` or ``TooLarge``."""
        return self._read(self.file, self.pem_content, pointer="/pem_content")


class CsrSignBody(Body):
    """Sign a stored request; ``intermediate_ca`` makes an authority and needs ``write:cas``."""

    ca_id: int = Field(ge=1, le=2**63 - 1)
    validity_days: int | None = Field(None, ge=1, le=3650)
    cert_type: SignableType | None = None
    template_id: int | None = Field(None, ge=1, le=2**63 - 1)
    extra_ekus: list[EkuText] = Field(default_factory=list, max_length=16)


class CsrBulkSignBody(Body):
    """Sign up to 100 stored requests in the same way."""

    ids: Ids
    ca_id: int = Field(ge=1, le=2**63 - 1)
    validity_days: int | None = Field(None, ge=1, le=3650)
    cert_type: Literal["server", "client", "combined", "code_signing", "email"] | None = None
    template_id: int | None = Field(None, ge=1, le=2**63 - 1)


class CsrListQuery(Paging):
    """Paging and a search in subject, names and description."""

    search: str | None = Field(None, max_length=255)
