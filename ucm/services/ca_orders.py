"""What people order of authorities, turned into issuance requests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

from cryptography import x509

from ucm.api.errors import Conflict, Invalid
from ucm.api.issuance import CAParameters, IssuanceRequest, Origin
from ucm.api.keys import KeyRef, KeySpec
from ucm.api.names import general_name_text
from ucm.api.views import CaView
from ucm.api.x509 import ANY_EKU, canonical_key_usages, eku_oid, key_usage_names
from ucm.domain.nameconstraints import parse_subtree
from ucm.issuance.extensions import ANY_POLICY
from ucm.issuance.profiles import BUILT_IN
from ucm.services.imports import spki_of
from ucm.services.key_choice import choose_key
from ucm.services.orders import MadeKey, SubjectOrder, days

DEFAULT_CA_KEY = KeySpec.EC_P384
CA_KEY_USAGES = ("digitalSignature", "keyCertSign", "cRLSign")
_ALGORITHMS = {"RSA": "rsa", "ECDSA": "ec", "EC": "ec"}


@dataclass(frozen=True, kw_only=True, slots=True)
class CaOrder:
    """A new authority: a root, or an intermediate below ``parent_id``."""

    subject: SubjectOrder
    ca_type: str | None = None
    parent_id: int | None = None
    key_type: str | None = None
    key_algorithm: str | None = None
    key_size: int | str | None = None
    key_backend: str | None = None
    validity_years: int | None = None
    validity_days: int | None = None
    description: str = ""
    path_length: int | None = None
    inhibit_any_policy: int | None = None
    policy_constraints_require: int | None = None
    policy_constraints_inhibit: int | None = None
    name_constraints_permitted: tuple[str, ...] = ()
    name_constraints_excluded: tuple[str, ...] = ()
    sia_urls: tuple[str, ...] = ()
    digest: str = "auto"
    key_usage: tuple[str, ...] | None = None
    extended_key_usage: tuple[str, ...] = ()
    cps_uri: str | None = None
    cps_oid: str | None = None
    named_urls: bool = False

    @property
    def is_root(self) -> bool:
        """Whether a root is ordered; without ``ca_type`` the parent decides."""
        if self.ca_type is None:
            return self.parent_id is None
        return self.ca_type == "root"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaRenewal:
    """A new certificate for an authority, with a new key of the same kind or with its own."""

    ca_id: int
    new_key: bool = False
    validity_days: int | None = None


def check_place(order: CaOrder) -> None:
    """Type and parent must agree. Raises ``Invalid``."""
    if order.is_root and order.parent_id is not None:
        raise Invalid.field(
            "/parent_id", "root-with-parent", "A root is self-signed and has no parent."
        )
    if not order.is_root and order.parent_id is None:
        raise Invalid.field(
            "/parent_id",
            "missing",
            "An intermediate authority needs parent_id, the authority that signs it.",
            hint="GET /api/v2/cas lists the authorities.",
        )


def key_spec_of(order: CaOrder) -> KeySpec:
    """The key to make. Raises ``Invalid`` with what is allowed."""
    if order.key_type is not None and order.key_algorithm is not None:
        raise Invalid.field(
            "/key_algorithm",
            "ambiguous",
            "Give either key_type or key_algorithm with key_size.",
        )
    named = order.key_type
    if order.key_algorithm is not None:
        named = _ALGORITHMS.get(order.key_algorithm, order.key_algorithm)
    return choose_key(named, size=order.key_size, default=DEFAULT_CA_KEY)


def ca_request_of(order: CaOrder, *, origin: Origin, key: MadeKey | None) -> IssuanceRequest:
    """The issuance request of a new authority (without its key yet). Raises ``Invalid``."""
    profile = BUILT_IN["root-ca" if order.is_root else "intermediate-ca"]
    if order.is_root:
        profile = replace(profile, digest=order.digest)
    return IssuanceRequest(
        origin=origin,
        ca_id=order.parent_id,
        profile=profile,
        public_key=key.public_key if key else None,
        new_key=key.record if key else None,
        subject=order.subject.name(),
        names=(),
        validity=_validity(order),
        ca_parameters=parameters_of(order),
        description=order.description,
    )


def parameters_of(order: CaOrder) -> CAParameters:
    """What only a CA certificate carries. Raises ``Invalid`` at the field's pointer."""
    return CAParameters(
        path_length=order.path_length,
        permitted_subtrees=_subtrees(order.name_constraints_permitted, "permitted"),
        excluded_subtrees=_subtrees(order.name_constraints_excluded, "excluded"),
        inhibit_any_policy=order.inhibit_any_policy,
        require_explicit_policy=order.policy_constraints_require,
        inhibit_policy_mapping=order.policy_constraints_inhibit,
        policy_oids=_policies(order),
        cps_uri=order.cps_uri,
        key_usage=_usages(order),
        extended_key_usage=_purposes(order),
        sia_urls=order.sia_urls,
        digest=order.digest,
        named_urls=order.named_urls,
    )


def renewal_request_of(ca: CaView, order: CaRenewal, *, key: MadeKey | None) -> IssuanceRequest:
    """The request for the same authority's next certificate: same subject and constraints."""
    certificate = ca.certificate
    profile = BUILT_IN["root-ca" if ca.is_root else "intermediate-ca"]
    usages, purposes = _as_issued(certificate)
    profile = replace(profile, key_usage=usages)
    if ca.is_root:
        profile = replace(profile, digest=ca.digest)
    duration = ca.not_after - ca.not_before
    return IssuanceRequest(
        origin=Origin("renewal"),
        ca_id=None if ca.is_root else ca.parent_id,
        profile=profile,
        public_key=key.public_key if key else spki_of(certificate),
        new_key=key.record if key else None,
        key=None if key else ca_key(ca),
        subject=certificate.subject,
        names=(),
        validity=days(order.validity_days) or duration,
        ca_parameters=_parameters_in(ca, purposes, usages),
        renews=ca.certificate_id,
        description=ca.name,
    )


def ca_key(ca: CaView) -> KeyRef:
    """The authority's key. Raises ``Conflict`` when it is kept elsewhere."""
    if ca.key is None:
        raise Conflict(
            f"The private key of the authority {ca.name!r} is not here.",
            hint="Import the key with POST /api/v2/cas/import.",
        )
    return ca.key


def _validity(order: CaOrder) -> timedelta | None:
    """As ordered; else the profile's default, cut to the issuer's end."""
    if order.validity_years is not None and order.validity_days is not None:
        raise Invalid.field(
            "/validity_days", "ambiguous", "Give either validity_years or validity_days."
        )
    if order.validity_days is not None:
        return days(order.validity_days)
    if order.validity_years is None:
        return None
    years = order.validity_years
    return days(years * 365 + years // 4, pointer="/validity_years")


def _subtrees(texts: tuple[str, ...], which: str) -> tuple[x509.GeneralName, ...]:
    return tuple(
        parse_subtree(text, pointer=f"/name_constraints_{which}/{index}")
        for index, text in enumerate(texts)
    )


def _policies(order: CaOrder) -> tuple[str, ...]:
    if order.cps_oid is not None:
        return (order.cps_oid,)
    # A CPS needs a policy to belong to; anyPolicy says nothing about any (RFC 5280 4.2.1.4).
    return (ANY_POLICY,) if order.cps_uri is not None else ()


def _usages(order: CaOrder) -> frozenset[str]:
    if order.key_usage is None:
        return frozenset({"keyCertSign", "cRLSign"})
    usages = frozenset(canonical_key_usages(order.key_usage, pointer="/key_usage"))
    foreign = usages - set(CA_KEY_USAGES)
    if foreign:
        raise Invalid.field(
            "/key_usage",
            "not-for-authorities",
            f"{', '.join(sorted(foreign))} is no usage of an authority's key.",
            hint=f"Allowed: {', '.join(CA_KEY_USAGES)}.",
        )
    missing = {"keyCertSign", "cRLSign"} - usages
    if missing:
        raise Invalid.field(
            "/key_usage",
            "usage-missing",
            f"An authority needs {' and '.join(sorted(missing))} (RFC 5280 4.2.1.3).",
        )
    return usages


def _purposes(order: CaOrder) -> tuple[str, ...]:
    if order.is_root and order.extended_key_usage:
        raise Invalid.field(
            "/extended_key_usage",
            "eku-on-root",
            "A root has no extended key usages: they would bind everything below it.",
        )
    oids = tuple(
        eku_oid(text, pointer=f"/extended_key_usage/{index}")
        for index, text in enumerate(order.extended_key_usage)
    )
    if ANY_EKU in oids:
        raise Invalid.field(
            f"/extended_key_usage/{oids.index(ANY_EKU)}",
            "unrestricted",
            "anyExtendedKeyUsage restricts nothing; an authority for every purpose has no "
            "extended key usages.",
            hint="Leave extended_key_usage out, or name the purposes of what it issues.",
        )
    return oids


def _as_issued(certificate: x509.Certificate) -> tuple[frozenset[str], tuple[str, ...]]:
    usages: frozenset[str] = frozenset({"keyCertSign", "cRLSign"})
    purposes: tuple[str, ...] = ()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.KeyUsage):
            usages = frozenset(key_usage_names(extension.value))
        elif isinstance(extension.value, x509.ExtendedKeyUsage):
            purposes = tuple(oid.dotted_string for oid in extension.value)
    return usages, purposes


@dataclass(slots=True)
class _Found:
    """Parameters as they are read from a certificate."""

    permitted: tuple[x509.GeneralName, ...] = ()
    excluded: tuple[x509.GeneralName, ...] = ()
    any_policy: int | None = None
    explicit: int | None = None
    mapping: int | None = None
    policies: tuple[str, ...] = ()
    cps: str | None = None
    sia: tuple[str, ...] = field(default=())


def _parameters_in(ca: CaView, purposes: tuple[str, ...], usages: frozenset[str]) -> CAParameters:
    found = _Found()
    for extension in ca.certificate.extensions:
        _note(extension.value, found)
    return CAParameters(
        path_length=ca.path_length,
        permitted_subtrees=found.permitted,
        excluded_subtrees=found.excluded,
        inhibit_any_policy=found.any_policy,
        require_explicit_policy=found.explicit,
        inhibit_policy_mapping=found.mapping,
        policy_oids=found.policies,
        cps_uri=found.cps,
        key_usage=usages,
        extended_key_usage=purposes,
        sia_urls=found.sia,
    )


def _note(value: x509.ExtensionType, found: _Found) -> None:
    match value:
        case x509.NameConstraints():
            found.permitted = tuple(value.permitted_subtrees or ())
            found.excluded = tuple(value.excluded_subtrees or ())
        case x509.InhibitAnyPolicy():
            found.any_policy = value.skip_certs
        case x509.PolicyConstraints():
            found.explicit = value.require_explicit_policy
            found.mapping = value.inhibit_policy_mapping
        case x509.CertificatePolicies():
            found.policies = tuple(p.policy_identifier.dotted_string for p in value)
            texts = [q for p in value for q in p.policy_qualifiers or () if isinstance(q, str)]
            found.cps = texts[0] if texts else None
        case x509.SubjectInformationAccess():
            found.sia = tuple(
                general_name_text(entry.access_location).removeprefix("uri:") for entry in value
            )
        case _:
            pass
