"""The extensions of a draft, in a fixed order (RFC 5280 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from ucm.api.errors import Invalid
from ucm.api.issuance import CAParameters
from ucm.api.names import checked_url
from ucm.api.publickeys import key_identifier
from ucm.api.views import PublicationUrls
from ucm.api.x509 import eku_name, key_usage
from ucm.domain.keypolicy import ANY_PURPOSE, TIME_STAMPING
from ucm.domain.nameconstraints import checked_subtree

Extension = x509.Extension[x509.ExtensionType]

NO_REV_AVAIL = x509.ObjectIdentifier("2.5.29.56")
ANY_POLICY = "2.5.29.32.0"
_CA_REPOSITORY = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.5")
_NULL = b"\x05\x00"

CORE_OIDS = frozenset(
    {
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.SUBJECT_INFORMATION_ACCESS,
        ExtensionOID.TLS_FEATURE,
        ExtensionOID.OCSP_NO_CHECK,
        NO_REV_AVAIL,
    }
)
"""Extensions that only the gate itself writes; no plugin can register them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What the extensions are made from."""

    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    authority_key_id: x509.AuthorityKeyIdentifier | None
    urls: PublicationUrls | None
    usages: frozenset[str]
    purposes: tuple[str, ...]
    purposes_critical: bool = False
    names: tuple[x509.GeneralName, ...] = ()
    names_critical: bool = False
    must_staple: bool = False
    ocsp_no_check: bool = False
    no_rev_avail: bool = False


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> Extension:
    return x509.Extension(value.oid, critical, value)


def of_leaf(parts: Parts) -> tuple[Extension, ...]:
    """Extensions of an end-entity certificate. Never a path length, constraints or keyCertSign."""
    made = [*_identifiers(parts)]
    made.append(_NO_AUTHORITY)
    made.append(_key_usage(parts.usages))
    made.append(_purposes(parts.purposes, critical=parts.purposes_critical))
    made.extend(_names(parts))
    made.extend(_published(parts.urls, no_rev_avail=parts.no_rev_avail))
    if parts.must_staple:
        made.append(_extension(x509.TLSFeature([x509.TLSFeatureType.status_request])))
    if parts.ocsp_no_check:
        made.append(_extension(x509.OCSPNoCheck()))
    return tuple(made)


def of_authority(
    parts: Parts, parameters: CAParameters, *, path_length: int | None
) -> tuple[Extension, ...]:
    """Extensions of a CA certificate. Raises ``Invalid`` for parameters that break their rule."""
    made = [*_identifiers(parts)]
    made.append(_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True))
    made.append(_key_usage(parts.usages))
    if parts.purposes:
        pointer = "/extended_key_usage"
        critical = parts.purposes_critical
        made.append(_purposes(parts.purposes, critical=critical, pointer=pointer))
    made.extend(_names(parts))
    policies = parameters.policy_oids
    made.extend(_policies(policies, parameters.cps_uri, pointer="/policy_oids"))
    made.extend(_constraints(parameters))
    made.extend(_distribution_points(parts.urls))
    made.extend(_information_access(parts.urls, ocsp=True))
    if parameters.sia_urls:
        access = [
            x509.AccessDescription(
                _CA_REPOSITORY,
                x509.UniformResourceIdentifier(checked_url(url, pointer=f"/sia_urls/{index}")),
            )
            for index, url in enumerate(parameters.sia_urls)
        ]
        made.append(_extension(x509.SubjectInformationAccess(access)))
    return tuple(made)


def _identifiers(parts: Parts) -> Iterable[Extension]:
    yield _extension(x509.SubjectKeyIdentifier(key_identifier(parts.public_key)))
    if parts.authority_key_id is not None:
        yield _extension(parts.authority_key_id)


_NO_AUTHORITY = _extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)


# Extensions that most certificates of a profile and an authority share are made once.


@lru_cache(maxsize=64)
def _key_usage(usages: frozenset[str]) -> Extension:
    return _extension(key_usage(usages), critical=True)


@lru_cache(maxsize=64)
def _purposes(
    purposes: tuple[str, ...], *, critical: bool, pointer: str = "/extra_ekus"
) -> Extension:
    critical = critical or TIME_STAMPING in purposes
    if TIME_STAMPING in purposes and len(purposes) > 1:
        raise Invalid.field(
            pointer,
            "time-stamping-not-alone",
            "timeStamping must be the only extended key usage (RFC 3161 2.3).",
        )
    if critical and ANY_PURPOSE in purposes:
        raise Invalid.field(
            pointer,
            "any-purpose-critical",
            f"{eku_name(ANY_PURPOSE)} cannot be critical (RFC 5280 4.2.1.12).",
        )
    value = x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in purposes])
    return _extension(value, critical=critical)


@lru_cache(maxsize=256)
def _published(urls: PublicationUrls | None, *, no_rev_avail: bool) -> tuple[Extension, ...]:
    """Policies and pointers of a leaf's issuer."""
    policy = urls.policy_oid if urls else None
    made = [*_policies((policy,) if policy else (), urls.cps_uri if urls else None)]
    if no_rev_avail:
        # RFC 9608 3: together with it, nothing that points to revocation information.
        made.append(_extension(x509.UnrecognizedExtension(NO_REV_AVAIL, _NULL)))
    else:
        made.extend(_distribution_points(urls))
    made.extend(_information_access(urls, ocsp=not no_rev_avail))
    return tuple(made)


def _names(parts: Parts) -> Iterable[Extension]:
    if parts.names:
        value = x509.SubjectAlternativeName(parts.names)
        yield _extension(value, critical=parts.names_critical)


def _policies(
    oids: tuple[str, ...], cps_uri: str | None, *, pointer: str = "/policy_oid"
) -> Iterable[Extension]:
    if not oids:
        return
    if len(set(oids)) != len(oids):
        raise Invalid.field(
            pointer, "duplicate-policy", "A policy may be listed once only (RFC 5280 4.2.1.4)."
        )
    qualifiers: list[str | x509.UserNotice] | None = None
    if cps_uri:
        qualifiers = [checked_url(cps_uri, pointer="/cps_uri")]
    try:
        information = [
            # With anyPolicy too: a CPS pointer is one of the two qualifiers it may have.
            x509.PolicyInformation(x509.ObjectIdentifier(oid), qualifiers)
            for oid in oids
        ]
    except ValueError:
        raise Invalid.field(pointer, "invalid-oid", "A policy is a dotted OID.") from None
    yield _extension(x509.CertificatePolicies(information))


def _distribution_points(urls: PublicationUrls | None) -> Iterable[Extension]:
    if urls and urls.crl_distribution_points:
        names = [x509.UniformResourceIdentifier(u) for u in urls.crl_distribution_points]
        point = x509.DistributionPoint(names, None, None, None)
        yield _extension(x509.CRLDistributionPoints([point]))


def _information_access(urls: PublicationUrls | None, *, ocsp: bool) -> Iterable[Extension]:
    if urls is None:
        return
    ways = [(AuthorityInformationAccessOID.OCSP, url) for url in urls.ocsp if ocsp]
    ways += [(AuthorityInformationAccessOID.CA_ISSUERS, url) for url in urls.ca_issuers]
    if ways:
        access = [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
            for method, url in ways
        ]
        yield _extension(x509.AuthorityInformationAccess(access))


def _constraints(parameters: CAParameters) -> Iterable[Extension]:
    permitted = [
        checked_subtree(name, pointer=f"/name_constraints_permitted/{index}")
        for index, name in enumerate(parameters.permitted_subtrees)
    ]
    excluded = [
        checked_subtree(name, pointer=f"/name_constraints_excluded/{index}")
        for index, name in enumerate(parameters.excluded_subtrees)
    ]
    if permitted or excluded:
        value = x509.NameConstraints(permitted or None, excluded or None)
        yield _extension(value, critical=True)
    explicit, mapping = parameters.require_explicit_policy, parameters.inhibit_policy_mapping
    for number, pointer in (
        (explicit, "/policy_constraints_require"),
        (mapping, "/policy_constraints_inhibit"),
        (parameters.inhibit_any_policy, "/inhibit_any_policy"),
    ):
        if number is not None and not 0 <= number <= 32:
            raise Invalid.field(pointer, "out-of-range", "The number of certificates is 0 to 32.")
    if explicit is not None or mapping is not None:
        yield _extension(x509.PolicyConstraints(explicit, mapping), critical=True)
    if parameters.inhibit_any_policy is not None:
        yield _extension(x509.InhibitAnyPolicy(parameters.inhibit_any_policy), critical=True)
