"""Certificates and signing requests as JSON; no DER is parsed for a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ucm.api.views import CertificateView, CsrView
from ucm.api.x509 import pem
from ucm.domain.compliance import assess
from ucm.web.envelope import timestamp
from ucm.web.v2.documents.extensions import extensions_json
from ucm.web.v2.documents.subject import subject_fields

_EC_BITS = {"EC-P256": 256, "EC-P384": 384, "EC-P521": 521}


def key_fields(key_type: str) -> dict[str, Any]:
    """``key_type``, ``key_algo``, ``key_algorithm`` and ``key_size`` of a key specification."""
    algorithm, _, size = key_type.partition("-")
    if algorithm == "ML":
        algorithm, size = "ML-DSA", ""
    bits = int(size) if size.isdigit() else _EC_BITS.get(key_type)
    return {
        "key_type": key_type,
        "key_algo": key_type,
        "key_algorithm": algorithm,
        "key_size": bits,
    }


def san_fields(view: CertificateView | CsrView) -> dict[str, Any]:
    """The names by kind and all in one text."""
    kinds = {
        "dns": view.san_dns,
        "ip": view.san_ip,
        "email": view.san_email,
        "uri": view.san_uri,
        "upn": view.san_upn,
    }
    combined = ", ".join(f"{kind}:{name}" for kind, names in kinds.items() for name in names)
    return {f"san_{kind}": list(names) for kind, names in kinds.items()} | {
        "san_combined": combined
    }


def certificate_json(
    view: CertificateView,
    *,
    now: datetime,
    carefs: Mapping[int, str],
    templates: Mapping[int, str],
) -> dict[str, Any]:
    """One row of a list. ``carefs`` and ``templates`` give refid and name by id."""
    status = view.status(now)
    compliance = assess(view, now=now)
    not_before, not_after = timestamp(view.not_before), timestamp(view.not_after)
    revoked_at = timestamp(view.revoked_at)
    return {
        "id": view.id,
        "refid": view.refid,
        "descr": view.description,
        "caref": carefs.get(view.ca_id) if view.ca_id is not None else None,
        "ca_id": view.ca_id,
        "cert_type": view.cert_type,
        "subject": view.subject,
        "issuer": view.issuer,
        "serial_number": view.serial,
        "aki": view.authority_key_id,
        "ski": view.subject_key_id,
        "valid_from": not_before,
        "valid_to": not_after,
        "not_valid_before": not_before,
        "not_valid_after": not_after,
        "revoked": view.revoked_at is not None,
        "revoked_at": revoked_at,
        "revoke_reason": view.revocation_reason.value if view.revocation_reason else None,
        "invalidity_at": timestamp(view.invalidity_date),
        "archived": False,
        "imported_from": "import" if view.source == "import" else None,
        "created_at": timestamp(view.created_at),
        "created_by": view.created_by,
        "source": view.source,
        "has_private_key": view.key is not None,
        "private_key_location": "stored" if view.key is not None else None,
        **san_fields(view),
        "ocsp_uri": view.ocsp_uri,
        "ocsp_must_staple": view.must_staple,
        **subject_fields(view.subject),
        "common_name": view.common_name,
        "cn": view.common_name,
        "issuer_name": subject_fields(view.issuer)["common_name"] or view.issuer,
        "status": status.value,
        **key_fields(view.key_type),
        "signature_algorithm": view.signature_algorithm,
        "thumbprint_sha1": view.thumbprint_sha1,
        "thumbprint_sha256": view.thumbprint_sha256,
        "days_remaining": max(0, (view.not_after - now).days),
        "owner_group_id": None,
        "owner_group_name": None,
        "template_id": view.template_id,
        "template_name": templates.get(view.template_id) if view.template_id else None,
        "template_overrides": None,
        "compliance_score": compliance.score,
        "compliance_grade": compliance.grade,
        "is_ca": view.is_ca,
        "renews": view.renews,
        "renewed_by": view.renewed_by,
    }


def certificate_detail_json(
    view: CertificateView,
    *,
    now: datetime,
    carefs: Mapping[int, str],
    templates: Mapping[int, str],
    chain: Sequence[bytes],
) -> dict[str, Any]:
    """One certificate with PEM, extensions, chain (itself first) and compliance."""
    certificate = x509.load_der_x509_certificate(view.der)
    compliance = assess(view, now=now)
    return {
        **certificate_json(view, now=now, carefs=carefs, templates=templates),
        "pem": pem([view.der]),
        "csr_pem": None,
        "extensions": extensions_json(certificate),
        "chain_status": chain_json(chain),
        "compliance": {
            "score": compliance.score,
            "grade": compliance.grade,
            "breakdown": compliance.breakdown,
        },
        "ct_scts": [],
    }


def chain_json(chain: Sequence[bytes]) -> dict[str, Any]:
    """Whether the chain ends in a self-signed certificate, and its members from leaf to root."""
    members = [x509.load_der_x509_certificate(der) for der in chain]
    last = members[-1]
    complete = last.subject == last.issuer
    return {
        "status": "complete" if complete else "incomplete",
        "trust_source": "internal" if complete else None,
        "trust_anchor": last.subject.rfc4514_string() if complete else None,
        "chain": [
            {
                "subject": member.subject.rfc4514_string(),
                "issuer": member.issuer.rfc4514_string(),
                "serial_number": f"{member.serial_number:x}",
                "valid_to": timestamp(member.not_valid_after_utc),
            }
            for member in members
        ],
    }


def csr_json(view: CsrView, *, signed_by: str | None = None) -> dict[str, Any]:
    """A signing request. The fields that only a certificate has are null."""
    return {
        "id": view.id,
        "refid": view.refid,
        "descr": view.description,
        "caref": None,
        "cert_type": None,
        "subject": view.subject,
        "issuer": None,
        "serial_number": None,
        "valid_from": None,
        "valid_to": None,
        "revoked": False,
        "created_at": timestamp(view.created_at),
        "created_by": view.created_by,
        "source": view.source,
        "has_private_key": view.key is not None,
        "private_key_location": "stored" if view.key is not None else None,
        **san_fields(view),
        **subject_fields(view.subject),
        "common_name": view.common_name,
        "cn": view.common_name,
        **key_fields(view.key_type),
        "status": "Signed" if view.certificate_id is not None else "Pending",
        "certificate_id": view.certificate_id,
        "signed_by": signed_by,
    }


def csr_detail_json(view: CsrView, *, signed_by: str | None = None) -> dict[str, Any]:
    """A signing request with its PEM."""
    return {**csr_json(view, signed_by=signed_by), "csr_pem": csr_pem(view.der)}


def csr_pem(der: bytes) -> str:
    """PEM of a signing request."""
    request = x509.load_der_x509_csr(der)
    return request.public_bytes(Encoding.PEM).decode("ascii")
