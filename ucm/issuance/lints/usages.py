"""Key usage and extended key usage (RFC 5280 4.2.1.3, 4.2.1.12)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from ucm.api.issuance import CertificateDraft
from ucm.api.publickeys import spec_of
from ucm.api.x509 import eku_name, key_usage_names
from ucm.domain.keypolicy import (
    ANY_PURPOSE,
    CA_USAGES,
    TIME_STAMPING,
    purpose_lacks_usage,
    usages_that_fit,
)
from ucm.issuance.lints.reading import find, lint


def _usages(certificate: x509.Certificate) -> frozenset[str]:
    extension = find(certificate, x509.KeyUsage)
    return key_usage_names(extension.value) if extension else frozenset()


def key_usage(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Present, critical, not empty; keyCertSign exactly in authorities."""
    extension = find(certificate, x509.KeyUsage)
    if extension is None:
        yield "there is no key usage extension"
        return
    usages = key_usage_names(extension.value)
    if not extension.critical:
        yield "the key usage is not critical"
    if not usages:
        yield "no key usage bit is set"
    if draft.is_ca and "keyCertSign" not in usages:
        yield "an authority lacks keyCertSign"
    if not draft.is_ca and usages & CA_USAGES:
        yield f"an end entity has {', '.join(sorted(usages & CA_USAGES))}"


def usage_fits_key(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Only bits that the key's algorithm can serve."""
    spec = spec_of(certificate.public_key())
    if spec is None:
        yield "the public key is of no accepted kind"
        return
    unfit = _usages(certificate) - usages_that_fit(spec)
    if unfit:
        yield f"{', '.join(sorted(unfit))} does not fit a key of the kind {spec.value}"


def extended_key_usage(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Present in end entities; consistent with the key usage; time stamping critical and alone."""
    extension = find(certificate, x509.ExtendedKeyUsage)
    if extension is None:
        if not draft.is_ca:
            yield "an end entity has no extended key usage"
        return
    purposes = [oid.dotted_string for oid in extension.value]
    if not purposes:
        yield "the extended key usage is empty"
    if len(set(purposes)) != len(purposes):
        yield "an extended key usage is listed twice"
    if ANY_PURPOSE in purposes and not draft.is_ca:
        yield "an end entity has anyExtendedKeyUsage"
    if TIME_STAMPING in purposes and not draft.is_ca:
        if len(purposes) > 1:
            yield "timeStamping is not the only extended key usage"
        if not extension.critical:
            yield "the extended key usage timeStamping is not critical"
    if draft.is_ca:
        return
    usages = _usages(certificate)
    for purpose in purposes:
        if purpose_lacks_usage(purpose, usages):
            yield f"no key usage bit is consistent with {eku_name(purpose)}"


LINTS = (
    lint("key-usage", "RFC 5280 4.2.1.3", key_usage),
    lint("key-usage-fits-key", "RFC 8813 3, RFC 8410 5, RFC 9881 5", usage_fits_key),
    lint("extended-key-usage", "RFC 5280 4.2.1.12, RFC 3161 2.3", extended_key_usage),
)
