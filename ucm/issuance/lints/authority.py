"""What tells authorities from end entities, and what points to the issuer (RFC 5280 4.2.1,
4.2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from ucm.api.errors import Invalid
from ucm.api.names import checked_url
from ucm.issuance.extensions import ANY_POLICY, NO_REV_AVAIL
from ucm.issuance.lints.reading import CoreLint, Reading

_CA_ONLY = {
    ExtensionOID.NAME_CONSTRAINTS: "name constraints",
    ExtensionOID.POLICY_CONSTRAINTS: "policy constraints",
    ExtensionOID.INHIBIT_ANY_POLICY: "inhibitAnyPolicy",
    ExtensionOID.POLICY_MAPPINGS: "policy mappings",
}
_REVOCATION_POINTERS = {
    ExtensionOID.CRL_DISTRIBUTION_POINTS: "CRL distribution points",
    ExtensionOID.FRESHEST_CRL: "freshest CRL",
}


def basic_constraints(reading: Reading) -> Iterable[str]:
    """Critical and cA in authorities; cA FALSE and no path length in end entities."""
    extension = reading.find(x509.BasicConstraints)
    if extension is None:
        yield "there are no basic constraints"
        return
    if extension.value.ca != reading.draft.is_ca:
        yield "cA does not fit the kind of certificate"
    if not extension.critical:
        yield "the basic constraints are not critical"
    if extension.value.path_length is not None and not extension.value.ca:
        yield "an end entity has a path length"


def subject_key_id(reading: Reading) -> Iterable[str]:
    """Present, 20 octets, never critical."""
    extension = reading.find(x509.SubjectKeyIdentifier)
    if extension is None:
        yield "there is no subject key identifier"
    elif extension.critical or len(extension.value.digest) != 20:
        yield "the subject key identifier is critical or not 20 octets long"


def authority_key_id(reading: Reading) -> Iterable[str]:
    """Present but in self-signed roots; the key identifier only."""
    extension = reading.find(x509.AuthorityKeyIdentifier)
    if extension is None:
        if reading.certificate.issuer != reading.certificate.subject:
            yield "there is no authority key identifier"
        return
    if extension.critical or extension.value.key_identifier is None:
        yield "the authority key identifier is critical or has no key identifier"
    if extension.value.authority_cert_issuer or extension.value.authority_cert_serial_number:
        yield "the authority key identifier names issuer and serial number"


def extensions(reading: Reading) -> Iterable[str]:
    """No extension twice, none that only authorities have, all those of the draft and no others."""
    oids = reading.oids
    if len(set(oids)) != len(oids):
        yield "an extension occurs twice"
    if oids != tuple(extension.oid for extension in reading.draft.extensions):
        yield "the extensions are not those of the draft"
    if not reading.draft.is_ca:
        for oid, name in _CA_ONLY.items():
            if oid in oids:
                yield f"an end entity has {name}"


def no_revocation(reading: Reading) -> Iterable[str]:
    """noRevAvail: never in authorities, never together with pointers to revocation data."""
    oids = reading.oids
    if NO_REV_AVAIL not in oids:
        return
    if reading.draft.is_ca:
        yield "an authority has noRevAvail"
    for oid, name in _REVOCATION_POINTERS.items():
        if oid in oids:
            yield f"noRevAvail is together with {name}"
    access = reading.find(x509.AuthorityInformationAccess)
    if access and any(
        d.access_method == x509.oid.AuthorityInformationAccessOID.OCSP for d in access.value
    ):
        yield "noRevAvail is together with an OCSP responder"


def urls(reading: Reading) -> Iterable[str]:
    """Every URL is one a client can fetch; the extensions that hold them are not critical."""
    locations: list[x509.GeneralName] = []
    access = reading.find(x509.AuthorityInformationAccess)
    points = reading.find(x509.CRLDistributionPoints)
    if access:
        locations += [description.access_location for description in access.value]
    if points:
        for point in points.value:
            locations += point.full_name or []
    if (access and access.critical) or (points and points.critical):
        yield "a pointer to the issuer or its CRL is critical"
    for location in locations:
        try:
            checked_url(str(location.value), pointer="")
        except Invalid as error:
            yield error.detail


def policies(reading: Reading) -> Iterable[str]:
    """No policy twice; anyPolicy in authorities only."""
    extension = reading.find(x509.CertificatePolicies)
    if extension is None:
        return
    oids = [policy.policy_identifier.dotted_string for policy in extension.value]
    if len(set(oids)) != len(oids):
        yield "a policy is listed twice"
    if ANY_POLICY in oids and not reading.draft.is_ca:
        yield "an end entity has anyPolicy"


LINTS = (
    CoreLint("basic-constraints", "RFC 5280 4.2.1.9", basic_constraints),
    CoreLint("subject-key-id", "RFC 5280 4.2.1.2", subject_key_id),
    CoreLint("authority-key-id", "RFC 5280 4.2.1.1", authority_key_id),
    CoreLint("extensions", "RFC 5280 4.2", extensions),
    CoreLint("no-revocation", "RFC 9608 3", no_revocation),
    CoreLint("urls", "RFC 5280 4.2.1.13, 4.2.2.1", urls),
    CoreLint("policies", "RFC 5280 4.2.1.4", policies),
)
