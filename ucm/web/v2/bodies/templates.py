"""Bodies of ``/templates``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from flask_openapi3.models.file import FileStorage
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

from ucm.web.requests import Body, Query, RowId
from ucm.web.v2.bodies.cas import KeyTypeName
from ucm.web.v2.bodies.common import (
    Country,
    Description,
    DnValue,
    EkuText,
    Line,
    OptionalBody,
    Upload,
)

TemplateType = Literal[
    "web_server",
    "email",
    "vpn_server",
    "vpn_client",
    "code_signing",
    "client_auth",
    "ocsp_signing",
    "piv",
    "custom",
]
TemplateDigest = Literal["auto", "sha256", "sha384", "sha512"]
TemplateName = Annotated[Line, StringConstraints(max_length=100)]


class SubjectFields(Body):
    """Values of subject attributes by their short names."""

    CN: DnValue | None = None
    O: DnValue | None = None  # noqa: E741
    OU: DnValue | None = None
    C: Country | None = None
    ST: DnValue | None = None
    L: DnValue | None = None


class PinnedSubjectFields(Body):
    """Subject attributes that every certificate of the template gets, whatever was asked for."""

    O: DnValue | None = None  # noqa: E741
    OU: DnValue | None = None
    C: Country | None = None
    ST: DnValue | None = None
    L: DnValue | None = None


def _boolean(value: object) -> object:
    """A number is no boolean, though Python finds 0 equal to ``False``."""
    if not isinstance(value, bool):
        raise ValueError("must be false")
    return value


class BasicConstraintsFields(Body):
    """Templates make end-entity certificates: ``ca`` may only be false."""

    ca: Annotated[Literal[False], BeforeValidator(_boolean)] = False


class ExtensionsTemplate(Body):
    """Extensions of every certificate of the template; left out: the default of its type."""

    key_usage: list[str] | None = Field(None, max_length=9)
    extended_key_usage: list[EkuText] | None = Field(None, max_length=16)
    basic_constraints: BasicConstraintsFields | None = None
    san_types: list[Literal["dns", "ip", "email", "uri", "upn"]] | None = Field(None, max_length=5)


class TemplateFields(Body):
    """Everything about a template but its name and type, with defaults."""

    description: Description = ""
    key_type: KeyTypeName | None = "RSA-2048"
    validity_days: int = Field(397, ge=1, le=3650)
    digest: TemplateDigest = "auto"
    dn_template: SubjectFields = Field(default_factory=SubjectFields)
    extensions_template: ExtensionsTemplate = ExtensionsTemplate.model_construct()
    is_active: bool = True
    ad_derived_subject: bool = False
    autoenroll_enabled: bool = False
    allowed_ad_group: str | None = Field(None, max_length=255)
    pinned_subject_fields: PinnedSubjectFields = Field(default_factory=PinnedSubjectFields)


class TemplateCreateBody(TemplateFields):
    """A new template."""

    name: TemplateName
    template_type: TemplateType


class TemplateUpdateBody(Body):
    """Left-out fields stay as they are."""

    name: TemplateName | None = None
    template_type: TemplateType | None = None
    description: Description | None = None
    key_type: KeyTypeName | None = None
    validity_days: int | None = Field(None, ge=1, le=3650)
    digest: TemplateDigest | None = None
    dn_template: SubjectFields | None = None
    extensions_template: ExtensionsTemplate | None = None
    is_active: bool | None = None
    ad_derived_subject: bool | None = None
    autoenroll_enabled: bool | None = None
    allowed_ad_group: str | None = Field(None, max_length=255)
    pinned_subject_fields: PinnedSubjectFields | None = None


class TemplateDuplicateBody(OptionalBody):
    """Left out, the copy is called ``<name> (copy)``."""

    name: TemplateName | None = None


class TemplateListQuery(Query):
    """Filters of the list."""

    type: list[TemplateType] = Field(default_factory=list)
    active: bool | None = None
    search: str | None = Field(None, max_length=255)
    ca_id: RowId | None = Field(None, description="Adds whether each is pinned to that authority")
    page: int | None = Field(None, ge=1, le=10_000_000)
    per_page: int | None = Field(None, ge=1, le=100)


class TemplateImportForm(Upload):
    """Templates as exported: one object or a list."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".json"})

    file: FileStorage | None = Field(None, description="JSON file")
    json_content: str | None = Field(None, max_length=1024 * 1024)
    update_existing: bool = False

    def content(self) -> bytes:
        """The file or the text. Raises ``Invalid`` or ``TooLarge``."""
        return self._read(self.file, self.json_content, pointer="/json_content")


class ImportedTemplate(TemplateCreateBody):
    """One template of an import file; what an export says about its origin is read and ignored."""

    model_config = ConfigDict(extra="ignore")
