"""Authorities as JSON. Their certificates are parsed once per row version and shared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from cryptography import x509

from ucm.api.names import general_name_text
from ucm.api.publickeys import accepted_spec
from ucm.api.views import CaPublication, CaView
from ucm.api.x509 import fingerprint, pem
from ucm.services.imports import spki_of
from ucm.web.envelope import timestamp
from ucm.web.v2.documents.certificates import chain_json
from ucm.web.v2.documents.extensions import extensions_json
from ucm.web.v2.documents.subject import subject_fields

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def ca_json(
    view: CaView, *, now: datetime, parent: CaView | None, certificates: int
) -> dict[str, Any]:
    """One authority; ``certificates`` is how many it has issued."""
    not_before, not_after = timestamp(view.not_before), timestamp(view.not_after)
    names = subject_fields(view.subject)
    return {
        "id": view.id,
        "refid": view.refid,
        "url_slug": view.url_slug,
        "descr": view.name,
        "name": view.name,
        "serial": view.serial,
        "serial_number": view.serial,
        "caref": parent.refid if parent else None,
        "parent_id": view.parent_id,
        "certificate_id": view.certificate_id,
        "ski": _ski(view.certificate),
        "subject": view.subject,
        "issuer": view.certificate.issuer.rfc4514_string(),
        "valid_from": not_before,
        "issued": not_before,
        "valid_to": not_after,
        "expires": not_after,
        "expiry": not_after,
        "imported_from": view.imported_from,
        "created_at": timestamp(view.created_at),
        "created_by": view.created_by,
        "has_private_key": view.key is not None,
        **{name: value for name, value in names.items() if name != "email"},
        "is_root": view.is_root,
        "type": "root" if view.is_root else "intermediate",
        "is_active": view.is_active,
        "status": _status(view, now),
        "certs": certificates,
        "key_type": accepted_spec(spki_of(view.certificate)).value,
        "hash_algorithm": view.digest,
        **_publication(view.publication),
        **_constraints(view.certificate, view.path_length),
        "owner_group_id": None,
        "owner_group_name": None,
        "uses_hsm": False,
        "hsm_key_id": None,
        "hsm_provider_id": None,
        "hsm_provider_name": None,
        "hsm_key_label": None,
        "offline": view.offline,
        "offline_mode": None,
        "offline_label": None,
    }


def ca_detail_json(
    view: CaView,
    *,
    now: datetime,
    parent: CaView | None,
    certificates: int,
    chain: Sequence[bytes],
) -> dict[str, Any]:
    """One authority with PEM, extensions, fingerprints and chain."""
    return {
        **ca_json(view, now=now, parent=parent, certificates=certificates),
        "pem": pem([view.der]),
        "extensions": extensions_json(view.certificate),
        "fingerprints": {
            "sha1": fingerprint(view.der, algorithm="sha1"),
            "sha256": fingerprint(view.der),
        },
        "chain_status": chain_json(chain),
    }


def _status(view: CaView, now: datetime) -> str:
    if view.revoked:
        return "revoked"
    if view.offline:
        return "offline"
    if not view.is_active:
        return "inactive"
    return "expired" if view.not_after <= now else "active"


def _first(urls: Sequence[str]) -> str | None:
    return urls[0] if urls else None


def _publication(publication: CaPublication) -> dict[str, Any]:
    return {
        "named_urls": publication.named_urls,
        "cdp_enabled": publication.cdp_enabled,
        "cdp_url": _first(publication.cdp_urls),
        "cdp_urls": list(publication.cdp_urls),
        "delta_crl_enabled": publication.delta_crl_enabled,
        "delta_crl_interval": publication.delta_crl_interval,
        "crl_validity_days": publication.crl_validity_days,
        "crl_publish_interval_hours": publication.crl_publish_interval_hours,
        "crl_digest": publication.crl_digest,
        "ocsp_enabled": publication.ocsp_enabled,
        "ocsp_url": _first(publication.ocsp_urls),
        "ocsp_urls": list(publication.ocsp_urls),
        "aia_ca_issuers_enabled": publication.aia_ca_issuers_enabled,
        "aia_ca_issuers_url": _first(publication.aia_ca_issuers_urls),
        "aia_ca_issuers_urls": list(publication.aia_ca_issuers_urls),
        "cps_enabled": publication.cps_enabled,
        "cps_uri": publication.cps_uri,
        "cps_oid": publication.cps_oid,
    }


def _constraints(certificate: x509.Certificate, path_length: int | None) -> dict[str, Any]:
    names = _find(certificate, x509.NameConstraints)
    policy = _find(certificate, x509.PolicyConstraints)
    any_policy = _find(certificate, x509.InhibitAnyPolicy)
    sia = _find(certificate, x509.SubjectInformationAccess)
    urls = [general_name_text(e.access_location).removeprefix("uri:") for e in sia or ()]
    return {
        "path_length": path_length,
        "name_constraints_permitted": [
            general_name_text(n) for n in (names.permitted_subtrees if names else None) or ()
        ],
        "name_constraints_excluded": [
            general_name_text(n) for n in (names.excluded_subtrees if names else None) or ()
        ],
        "policy_constraints_require": policy.require_explicit_policy if policy else None,
        "policy_constraints_inhibit": policy.inhibit_policy_mapping if policy else None,
        "inhibit_any_policy": any_policy.skip_certs if any_policy else None,
        "sia_enabled": bool(urls),
        "sia_urls": urls,
    }


def _ski(certificate: x509.Certificate) -> str | None:
    found = _find(certificate, x509.SubjectKeyIdentifier)
    return found.digest.hex() if found else None


def _find(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
