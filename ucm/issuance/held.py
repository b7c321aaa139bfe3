"""Held requests as JSON and back: nothing that a decision needs may be lost on the way."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from ucm.api.actor import Actor, ActorKind
from ucm.api.csr import parse_csr
from ucm.api.db import canonical_json
from ucm.api.issuance import (
    CAParameters,
    CertificateKind,
    IssuanceRequest,
    Origin,
    Profile,
)
from ucm.api.keys import KeyPurpose, KeyRef, KeySpec

_Json = dict[str, Any]

# --- values --------------------------------------------------------------------------------------


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _octets(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def dump_name(name: x509.Name) -> list[list[list[str]]]:
    """RDNs of (OID, text) pairs."""
    return [[[a.oid.dotted_string, str(a.value)] for a in rdn] for rdn in name.rdns]


def load_name(rdns: list[list[list[str]]]) -> x509.Name:
    """The name that ``dump_name`` wrote."""
    return x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in rdn]
            )
            for rdn in rdns
        ]
    )


def dump_general_name(name: x509.GeneralName) -> list[Any]:
    """The kind and its value; addresses may be networks (name constraints)."""
    match name:
        case x509.DNSName():
            return ["dns", name.value]
        case x509.IPAddress():
            network = isinstance(name.value, (ipaddress.IPv4Network, ipaddress.IPv6Network))
            return ["network" if network else "ip", str(name.value)]
        case x509.RFC822Name():
            return ["email", name.value]
        case x509.UniformResourceIdentifier():
            return ["uri", name.value]
        case x509.DirectoryName():
            return ["directory", dump_name(name.value)]
        case x509.RegisteredID():
            return ["rid", name.value.dotted_string]
        case x509.OtherName():
            return ["other", name.type_id.dotted_string, _b64(name.value)]
        case _:
            raise TypeError(f"a name of the form {type(name).__name__} cannot be held")


def load_general_name(stored: list[Any]) -> x509.GeneralName:
    """The name that ``dump_general_name`` wrote."""
    match stored:
        case ["dns", str(value)]:
            return x509.DNSName(value)
        case ["ip", str(value)]:
            return x509.IPAddress(ipaddress.ip_address(value))
        case ["network", str(value)]:
            return x509.IPAddress(ipaddress.ip_network(value))
        case ["email", str(value)]:
            return x509.RFC822Name(value)
        case ["uri", str(value)]:
            return x509.UniformResourceIdentifier(value)
        case ["directory", list(rdns)]:
            return x509.DirectoryName(load_name(rdns))
        case ["rid", str(value)]:
            return x509.RegisteredID(x509.ObjectIdentifier(value))
        case ["other", str(oid), str(value)]:
            return x509.OtherName(x509.ObjectIdentifier(oid), _octets(value))
        case _:
            raise ValueError("not a stored name")


def _dump_names(names: tuple[x509.GeneralName, ...] | None) -> list[list[Any]] | None:
    return None if names is None else [dump_general_name(name) for name in names]


def _load_names(stored: list[list[Any]] | None) -> tuple[x509.GeneralName, ...] | None:
    return None if stored is None else tuple(load_general_name(item) for item in stored)


def _dump_time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _load_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


# --- parts ---------------------------------------------------------------------------------------


def _dump_profile(profile: str | int | Profile) -> str | int | _Json:
    if not isinstance(profile, Profile):
        return profile
    extra = profile.allowed_extra_ekus
    return {
        "name": profile.name,
        "kind": profile.kind.value,
        "template_id": profile.template_id,
        "key_usage": sorted(profile.key_usage),
        "extended_key_usage": list(profile.extended_key_usage),
        "extended_key_usage_critical": profile.extended_key_usage_critical,
        "key_types": sorted(spec.value for spec in profile.key_types),
        "san_types": sorted(profile.san_types),
        "default_validity": profile.default_validity.total_seconds(),
        "max_validity": profile.max_validity.total_seconds(),
        "digest": profile.digest,
        "pinned_subject": dict(profile.pinned_subject),
        "default_subject": dict(profile.default_subject),
        "protocol_only": profile.protocol_only,
        "ocsp_no_check": profile.ocsp_no_check,
        "no_rev_avail": profile.no_rev_avail,
        "allowed_extra_ekus": None if extra is None else sorted(extra),
    }


def _load_profile(stored: str | int | _Json) -> str | int | Profile:
    if not isinstance(stored, dict):
        return stored
    values = dict(stored)
    extra = values["allowed_extra_ekus"]
    return Profile(
        **values
        | {
            "kind": CertificateKind(values["kind"]),
            "key_usage": frozenset(values["key_usage"]),
            "extended_key_usage": tuple(values["extended_key_usage"]),
            "key_types": frozenset(map(KeySpec, values["key_types"])),
            "san_types": frozenset(values["san_types"]),
            "default_validity": timedelta(seconds=values["default_validity"]),
            "max_validity": timedelta(seconds=values["max_validity"]),
            "allowed_extra_ekus": None if extra is None else frozenset(extra),
        }
    )


def _dump_ca(parameters: CAParameters | None) -> _Json | None:
    if parameters is None:
        return None
    return {
        "path_length": parameters.path_length,
        "permitted_subtrees": _dump_names(parameters.permitted_subtrees),
        "excluded_subtrees": _dump_names(parameters.excluded_subtrees),
        "inhibit_any_policy": parameters.inhibit_any_policy,
        "require_explicit_policy": parameters.require_explicit_policy,
        "inhibit_policy_mapping": parameters.inhibit_policy_mapping,
        "policy_oids": list(parameters.policy_oids),
        "cps_uri": parameters.cps_uri,
        "key_usage": sorted(parameters.key_usage),
        "extended_key_usage": list(parameters.extended_key_usage),
        "sia_urls": list(parameters.sia_urls),
        "digest": parameters.digest,
        "named_urls": parameters.named_urls,
    }


def _load_ca(stored: _Json | None) -> CAParameters | None:
    if stored is None:
        return None
    return CAParameters(
        **stored
        | {
            "permitted_subtrees": _load_names(stored["permitted_subtrees"]),
            "excluded_subtrees": _load_names(stored["excluded_subtrees"]),
            "policy_oids": tuple(stored["policy_oids"]),
            "key_usage": frozenset(stored["key_usage"]),
            "extended_key_usage": tuple(stored["extended_key_usage"]),
            "sia_urls": tuple(stored["sia_urls"]),
        }
    )


# --- requests ------------------------------------------------------------------------------------


def dump_request(request: IssuanceRequest) -> _Json:
    """The request as JSON. Raises ``ValueError`` for one with a key that is not stored yet."""
    if request.new_key is not None:
        raise ValueError("store the new key first: a held request refers to it")
    return {
        "origin": [request.origin.kind, request.origin.client],
        "ca_id": request.ca_id,
        "profile": _dump_profile(request.profile),
        "csr": _b64(request.csr.der) if request.csr else None,
        "public_key": _b64(request.public_key) if request.public_key else None,
        "subject": dump_name(request.subject) if request.subject is not None else None,
        "names": _dump_names(request.names),
        "not_before": _dump_time(request.not_before),
        "not_after": _dump_time(request.not_after),
        "validity": request.validity.total_seconds() if request.validity is not None else None,
        "extra_ekus": list(request.extra_ekus),
        "must_staple": request.must_staple,
        "ca_parameters": _dump_ca(request.ca_parameters),
        "key": [request.key.id, request.key.purpose.value] if request.key else None,
        "renews": request.renews,
        "description": request.description,
        "comment": request.comment,
        "idempotency_key": request.idempotency_key,
        "requested_extensions": [
            [e.oid.dotted_string, e.critical, _b64(e.value.public_bytes())]
            for e in request.requested_extensions
        ],
    }


def load_request(stored: Mapping[str, Any], *, approvals: tuple[int, ...]) -> IssuanceRequest:
    """The request that ``dump_request`` wrote, with the approvals it got. Its CSR is read and its
    possession proved again.
    """
    csr, key, validity = stored["csr"], stored["key"], stored["validity"]
    public_key, subject = stored["public_key"], stored["subject"]
    return IssuanceRequest(
        origin=Origin(*stored["origin"]),
        ca_id=stored["ca_id"],
        profile=_load_profile(stored["profile"]),
        csr=parse_csr(_octets(csr), lenient=True) if csr else None,
        public_key=_octets(public_key) if public_key else None,
        subject=load_name(subject) if subject is not None else None,
        names=_load_names(stored["names"]),
        not_before=_load_time(stored["not_before"]),
        not_after=_load_time(stored["not_after"]),
        validity=timedelta(seconds=validity) if validity is not None else None,
        extra_ekus=tuple(stored["extra_ekus"]),
        must_staple=stored["must_staple"],
        ca_parameters=_load_ca(stored["ca_parameters"]),
        key=KeyRef(key[0], KeyPurpose(key[1])) if key else None,
        renews=stored["renews"],
        description=stored["description"],
        comment=stored["comment"],
        idempotency_key=stored["idempotency_key"],
        requested_extensions=tuple(
            x509.Extension(
                x509.ObjectIdentifier(oid),
                critical,
                x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), _octets(value)),
            )
            for oid, critical, value in stored["requested_extensions"]
        ),
        approvals=approvals,
    )


def dump_actor(actor: Actor) -> _Json:
    """Who asked, with what they were allowed to do then."""
    return {
        "kind": actor.kind.value,
        "name": actor.name,
        "user_id": actor.user_id,
        "role": actor.role,
        "permissions": sorted(actor.permissions),
        "ip_address": actor.ip_address,
        "user_agent": actor.user_agent,
    }


def load_actor(stored: Mapping[str, Any]) -> Actor:
    """The actor that ``dump_actor`` wrote."""
    return Actor(
        kind=ActorKind(stored["kind"]),
        name=stored["name"],
        user_id=stored["user_id"],
        role=stored["role"],
        permissions=frozenset(stored["permissions"]),
        ip_address=stored["ip_address"],
        user_agent=stored["user_agent"],
    )


def digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON value in canonical form, lower-case hex."""
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()
