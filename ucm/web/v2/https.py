"""``/system/https``: the certificate of the server itself."""

from __future__ import annotations

from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from flask import Response
from flask_openapi3 import Tag
from pydantic import BaseModel, Field

from ucm.api.web import current_actor, requires
from ucm.api.x509 import general_name_text, serial_text, subject_text
from ucm.services.audit import AuditService
from ucm.services.https import ServerCertificateService
from ucm.web.blueprints import APIBlueprint
from ucm.web.envelope import ok, timestamp
from ucm.web.requests import Body, RowId
from ucm.web.v2.bodies.common import Line, OptionalBody
from ucm.web.v2.refusals import AuditedBlueprint
from ucm.web.v2.schemas import Envelope, missing_response

_TAG = Tag(name="https", description="The certificate of the server itself")
_NEXT = "Served from the next connection on; no restart is needed."


class RegenerateBody(OptionalBody):
    """A self-signed certificate, which clients must be told to trust."""

    common_name: Line = Field("localhost", description="Host name or address of the server")
    validity_days: int = Field(365, ge=1, le=3650)


class ApplyBody(Body):
    """A certificate that UCM keeps together with its key."""

    cert_id: RowId


class ServerCertificateItem(BaseModel):
    """The certificate in use. ``source``: ``configured`` by the operator (then it can only be
    replaced where it is), ``self_signed``, or ``issued`` by an authority."""

    subject: str
    issuer: str
    serial_number: str
    valid_from: str
    valid_to: str
    days_remaining: int
    sans: list[str]
    thumbprint_sha256: str
    source: Literal["configured", "self_signed", "issued"]
    replaceable: bool
    path: str
    restart_required: bool


def blueprint(https: ServerCertificateService, *, audit: AuditService) -> APIBlueprint:
    """Routes below ``/api/v2/system/https``."""
    api = AuditedBlueprint(
        "https", audit=audit, action="https_refused", tag=_TAG, prefix="/api/v2/system/https"
    )

    @api.get(
        "/cert-info",
        summary="The certificate that the server shows",
        responses={"200": Envelope[ServerCertificateItem], "404": missing_response()},
    )
    @requires("read:settings")
    def cert_info() -> Response:
        return ok(_document(https, https.current()))

    @api.post(
        "/regenerate",
        summary="Make a new self-signed certificate for the server",
        responses={"200": Envelope[ServerCertificateItem]},
    )
    @requires("admin:system")
    def regenerate(body: RegenerateBody) -> Response:
        made = https.regenerate(
            common_name=body.common_name,
            validity_days=body.validity_days,
            actor=current_actor(),
        )
        return ok(_document(https, made), message=_NEXT)

    @api.post(
        "/apply",
        summary="Show an issued certificate",
        description="Its chain and its key are written to the server's data directory.",
        responses={"200": Envelope[ServerCertificateItem]},
    )
    @requires("admin:system")
    def apply(body: ApplyBody) -> Response:
        applied = https.apply(body.cert_id, actor=current_actor())
        return ok(_document(https, applied), message=_NEXT)

    return api


def _document(https: ServerCertificateService, certificate: x509.Certificate) -> dict[str, Any]:
    if not https.replaceable:
        source = "configured"
    else:
        source = "self_signed" if certificate.subject == certificate.issuer else "issued"
    return {
        "subject": subject_text(certificate.subject),
        "issuer": subject_text(certificate.issuer),
        "serial_number": serial_text(certificate.serial_number),
        "valid_from": timestamp(certificate.not_valid_before_utc),
        "valid_to": timestamp(certificate.not_valid_after_utc),
        "days_remaining": (certificate.not_valid_after_utc - https.now()).days,
        "sans": _sans(certificate),
        "thumbprint_sha256": certificate.fingerprint(SHA256()).hex(),
        "source": source,
        "replaceable": https.replaceable,
        "path": str(https.path),
        "restart_required": False,
    }


def _sans(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [general_name_text(name) for name in names]
