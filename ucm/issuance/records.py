"""What is written down about a certificate: its row, its audit facts, its event."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID

from ucm.api.events import CertificateIssued
from ucm.api.issuance import CertificateDraft, CertificateKind, IssuanceRequest, IssuedCertificate
from ucm.api.names import common_names, general_name_text, subject_text
from ucm.api.views import CertificateView
from ucm.api.x509 import eku_name, fingerprint, serial_text, signature_algorithm_name
from ucm.domain import keypolicy
from ucm.issuance.loading import Loaded
from ucm.issuance.signer import Signed
from ucm.store.certificates import NewCertificate

ISSUED, UNCLAIMED = "issued", "issued_unclaimed"

_TYPES = {
    frozenset({keypolicy.SERVER_AUTH}): "server",
    frozenset({keypolicy.CLIENT_AUTH}): "client",
    frozenset({keypolicy.SERVER_AUTH, keypolicy.CLIENT_AUTH}): "combined",
    frozenset({keypolicy.CODE_SIGNING}): "code_signing",
    frozenset({keypolicy.EMAIL_PROTECTION}): "email",
    frozenset({keypolicy.EMAIL_PROTECTION, keypolicy.CLIENT_AUTH}): "email",
    frozenset({keypolicy.OCSP_SIGNING}): "ocsp_signing",
    frozenset({keypolicy.TIME_STAMPING}): "time_stamping",
}
_KINDS = {CertificateKind.ROOT_CA: "root_ca", CertificateKind.INTERMEDIATE_CA: "intermediate_ca"}


def names_by_kind(names: tuple[x509.GeneralName, ...]) -> dict[str, tuple[str, ...]]:
    """Plain values of alternative names under ``dns``, ``ip``, ``email``, ``uri`` and ``upn``."""
    found: dict[str, list[str]] = {"dns": [], "ip": [], "email": [], "uri": [], "upn": []}
    for name in names:
        kind, _, value = general_name_text(name).partition(":")
        if kind in found:
            found[kind].append(value)
    return {kind: tuple(values) for kind, values in found.items()}


def new_certificate(
    request: IssuanceRequest, *, draft: CertificateDraft, signed: Signed, loaded: Loaded, refid: str
) -> NewCertificate:
    """The row. Made before the write unit begins, which is shared with others and kept short."""
    names = names_by_kind(draft.names)
    common = common_names(draft.subject)
    subject = subject_text(draft.subject)
    found = {e.oid: e.value for e in draft.extensions}
    ski = found.get(x509.SubjectKeyIdentifier.oid)
    aki = found.get(x509.AuthorityKeyIdentifier.oid)
    return NewCertificate(
        refid=refid,
        description=request.description or (common[0] if common else title_of(draft)),
        ca_id=request.ca_id,
        serial=serial_text(draft.serial),
        subject=subject,
        common_name=common[0] if common else None,
        issuer=subject if loaded.issuer is None else loaded.issuer.ca.subject,
        not_before=draft.not_before,
        not_after=draft.not_after,
        key_type=loaded.key_spec.value,
        signature_algorithm=signature_algorithm_name(signed.certificate.signature_algorithm_oid),
        san_dns=names["dns"],
        san_ip=names["ip"],
        san_email=names["email"],
        san_uri=names["uri"],
        san_upn=names["upn"],
        subject_key_id=ski.digest.hex() if isinstance(ski, x509.SubjectKeyIdentifier) else None,
        authority_key_id=(aki.key_identifier or b"").hex() or None
        if isinstance(aki, x509.AuthorityKeyIdentifier)
        else None,
        thumbprint_sha256=fingerprint(signed.der),
        thumbprint_sha1=fingerprint(signed.der, algorithm="sha1"),
        spki_sha256=loaded.spki_sha256,
        cert_type=type_of(draft),
        source=request.origin.kind,
        client=request.origin.client,
        ocsp_uri=_ocsp_uri(found.get(x509.AuthorityInformationAccess.oid)),
        must_staple=x509.TLSFeature.oid in found,
        template_id=draft.profile.template_id,
        key_id=request.key.id if request.key else None,
        renews=request.renews,
        is_ca=draft.is_ca,
        idempotency_key=request.idempotency_key,
        der=signed.der,
        texts=tuple(str(a.value) for a in draft.subject if isinstance(a.value, str)),
    )


def title_of(draft: CertificateDraft) -> str:
    """How people call it: the common name, else the first alternative name, else the subject."""
    common = common_names(draft.subject)
    if common:
        return common[0]
    if draft.names:
        return general_name_text(draft.names[0]).partition(":")[2]
    return subject_text(draft.subject)


def type_of(draft: CertificateDraft) -> str:
    """The certificate type by what it may be used for; ``custom`` for other sets of purposes."""
    kind = _KINDS.get(draft.profile.kind)
    if kind is not None:
        return kind
    for extension in draft.extensions:
        if isinstance(extension.value, x509.ExtendedKeyUsage):
            oids = frozenset(oid.dotted_string for oid in extension.value)
            return _TYPES.get(oids, "custom")
    return "custom"


def _ocsp_uri(access: x509.ExtensionType | None) -> str | None:
    if not isinstance(access, x509.AuthorityInformationAccess):
        return None
    ways = (d for d in access if d.access_method == AuthorityInformationAccessOID.OCSP)
    return next((str(d.access_location.value) for d in ways), None)


def facts_of(
    request: IssuanceRequest, *, draft: CertificateDraft, adjustments: list[str]
) -> dict[str, Any]:
    """Audit facts of an issuance; nothing secret."""
    facts: dict[str, Any] = {
        "origin": str(request.origin),
        "ca_id": request.ca_id,
        "serial": serial_text(draft.serial),
        "profile": draft.profile.name,
        "subject": subject_text(draft.subject),
        "names": [general_name_text(name) for name in draft.names],
        "purposes": [
            eku_name(oid.dotted_string)
            for extension in draft.extensions
            if isinstance(extension.value, x509.ExtendedKeyUsage)
            for oid in extension.value
        ],
        "not_after": draft.not_after.isoformat(),
    }
    if adjustments:
        facts["adjustments"] = adjustments
    if request.renews is not None:
        facts["renews"] = request.renews
    if request.approvals:
        facts["approvals"] = list(request.approvals)
    if request.comment:
        facts["comment"] = request.comment
    return facts


def event_of(request: IssuanceRequest, view: CertificateView) -> CertificateIssued:
    """The event of an issuance."""
    return CertificateIssued(
        certificate_id=view.id,
        ca_id=view.ca_id,
        serial=view.serial,
        subject=view.subject,
        origin=str(request.origin),
        not_after=view.not_after,
        renews=view.renews,
        idempotency_key=view.idempotency_key,
    )


def issued_of(view: CertificateView) -> IssuedCertificate:
    """A stored certificate as the answer to the request that it was made for."""
    return IssuedCertificate(
        id=view.id,
        serial=view.serial,
        der=view.der,
        ca_id=view.ca_id,
        not_after=view.not_after,
        claimed=view.state != UNCLAIMED,
        view=view,
    )


def public_key_of(der: bytes) -> CertificatePublicKeyTypes:
    """The public key in a certificate."""
    return x509.load_der_x509_certificate(der).public_key()
