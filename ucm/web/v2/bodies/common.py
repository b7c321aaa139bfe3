"""What the request bodies of the PKI resources share: bounded text, paging, passwords, uploads.

Field errors say the rule in words; the JSON schema carries the same bounds, so the OpenAPI
document tells them before the first request.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from flask import request
from flask_openapi3.models.file import FileStorage
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from werkzeug.datastructures import FileStorage as UploadedFile

from ucm.api.errors import Invalid, TooLarge
from ucm.api.names import checked_url
from ucm.services.exports import ExportRequest
from ucm.web.requests import Body, Query

MAX_UPLOAD = 10 * 1024 * 1024
CERTIFICATE_SUFFIXES = frozenset(
    {".pem", ".crt", ".cer", ".p12", ".pfx", ".p7b", ".p7c", ".der", ".key"}
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TEXT_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DN_FORBIDDEN = re.compile(r"[;|\\`$]")
_OID = re.compile(r"[012](\.(0|[1-9][0-9]*))+")


class OptionalBody(Body):
    """A body in which every field has a default, so that it may be left out altogether."""

    model_config = ConfigDict(openapi_extra={"required": False})  # type: ignore[typeddict-unknown-key]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        return super().model_validate({} if obj is None else obj, **options)


class Upload(BaseModel):
    """A multipart form, or the same fields as JSON.

    Values are read from the request as they were sent: the framework would read a form field as
    JSON first and so turn the password ``007e1`` into a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    max_bytes: ClassVar[int] = MAX_UPLOAD
    suffixes: ClassVar[frozenset[str]] = CERTIFICATE_SUFFIXES

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        if request.is_json:
            return super().model_validate(request.get_json(), **options)
        fields: dict[str, Any] = dict(request.form)
        for name, file in request.files.items():
            fields[name] = file
        return super().model_validate(fields, **options)

    def _read(self, upload: FileStorage | None, text: str | None, *, pointer: str) -> bytes:
        """The bytes of the file or of the text; ``pointer`` names the text field.

        Raises ``Invalid`` for none or both and for a file name of another kind, ``TooLarge``.
        """
        if (upload is None) == (text is None):
            raise Invalid.field(
                "/file",
                "one-source",
                f"Send a file or {pointer[1:]}, one of the two.",
            )
        if upload is None:
            return (text or "").encode("utf-8", "replace")
        if not isinstance(upload, UploadedFile):  # a plain form field, or a member of a JSON body
            raise Invalid.field(
                "/file",
                "not-a-file",
                f"file is an uploaded file (multipart/form-data); send text as {pointer[1:]}.",
            )
        suffix = PurePosixPath((upload.filename or "").replace("\\", "/")).suffix.lower()
        if suffix not in self.suffixes:
            raise Invalid.field(
                "/file",
                "file-kind",
                f"A file {suffix!a} is not read here.",
                hint=f"Allowed: {', '.join(sorted(self.suffixes))}.",
            )
        content = upload.stream.read(self.max_bytes + 1)
        if len(content) > self.max_bytes:
            raise TooLarge(f"The file has more than the {self.max_bytes // 1024} KiB allowed here.")
        return content


def _line(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must be one line without control characters")
    if value != value.strip():
        raise ValueError("must not begin or end with a space")
    return value


def _text(value: str) -> str:
    if _TEXT_CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value


def _dn_value(value: str) -> str:
    _line(value)
    if _DN_FORBIDDEN.search(value):
        raise ValueError("must not contain any of ; | \\ ` $")
    return value


def _oid(value: str) -> str:
    if not _OID.fullmatch(value):
        raise ValueError("must be a dotted object identifier such as 1.3.6.1.4.1.99999.1")
    return value


def _url(value: str) -> str:
    try:
        checked_url(value.replace("{ca_refid}", "refid"), pointer="")
    except Invalid as error:
        raise ValueError(error.detail) from None
    if "#" in value:
        raise ValueError("must not contain a fragment (#)")
    return value


Line = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_line)]
Description = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_text)]
DnValue = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_dn_value)]
Country = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{2}$"),
    Field(description="ISO 3166 code, two capital letters"),
]
Oid = Annotated[str, StringConstraints(max_length=100), AfterValidator(_oid)]
Url = Annotated[str, StringConstraints(min_length=8, max_length=2048), AfterValidator(_url)]
Urls = Annotated[list[Url], Field(max_length=8)]
Password = Annotated[
    str,
    StringConstraints(min_length=4, max_length=256),
    Field(json_schema_extra={"format": "password"}),
]
SanText = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Ids = Annotated[
    list[Annotated[int, Field(ge=1, le=2**63 - 1)]], Field(min_length=1, max_length=100)
]
EkuText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    Field(description="Name (serverAuth) or dotted OID of an extended key usage"),
]
ExportFormat = Literal["pem", "der", "pkcs12", "pfx", "pkcs7", "p7b", "jks", "key"]


class Paging(Query):
    """Page numbers for people, a cursor for programs that read everything."""

    page: int = Field(1, ge=1, le=10_000_000)
    per_page: int = Field(20, ge=1, le=100)


class BulkIds(Body):
    """Objects that a bulk operation works on, at most 100 at once."""

    ids: Ids


class ExportManyBody(OptionalBody):
    """Several objects in one file; all of them without ``ids``."""

    ids: Ids | None = None
    format: Literal["pem", "pkcs7", "p7b"] = "pem"


class ExportQuery(Query):
    """Formats without a password. Passwords never travel in a URL: it would end up in logs."""

    format: ExportFormat = "pem"
    include_chain: bool = False
    include_key: bool = False
    password: str | None = Field(None, description="Refused: send it in the body of a POST")

    def export_request(self) -> ExportRequest:
        """What is asked for. Raises ``Invalid`` for a password."""
        refuse_password_in_url(self.password)
        return ExportRequest(
            format=self.format, include_chain=self.include_chain, include_key=self.include_key
        )


class ExportBody(OptionalBody):
    """PKCS#12 needs ``password``; with one, a key in PEM is encrypted (PKCS#8), else in clear."""

    format: ExportFormat = "pem"
    include_chain: bool = False
    include_key: bool = False
    password: Password | None = None

    def export_request(self) -> ExportRequest:
        """What is asked for."""
        return ExportRequest(
            format=self.format,
            include_chain=self.include_chain,
            include_key=self.include_key,
            password=self.password,
        )


def refuse_password_in_url(password: str | None) -> None:
    """Raise ``Invalid`` for a password sent as a query parameter."""
    if password is not None:
        raise Invalid.field(
            "?password",
            "password-in-url",
            "A password must not be part of a URL, which is written to logs.",
            hint="Send a POST request with the password in its JSON body.",
        )
