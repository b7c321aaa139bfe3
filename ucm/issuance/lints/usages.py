"""Key usage and extended key usage (RFC 5280 4.2.1.3, 4.2.1.12)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from ucm.api.x509 import eku_name
from ucm.domain.keypolicy import (
    ANY_PURPOSE,
    CA_USAGES,
    TIME_STAMPING,
    purpose_lacks_usage,
    usages_that_fit,
)
from ucm.issuance.lints.reading import CoreLint, Reading


def key_usage(reading: Reading) -> Iterable[str]:
    """Present, critical, not empty; keyCertSign exactly in authorities."""
    extension = reading.find(x509.KeyUsage)
    if extension is None:
        yield "there is no key usage extension"
        return
    usages = reading.usages
    if not extension.critical:
        yield "the key usage is not critical"
    if not usages:
        yield "no key usage bit is set"
    if reading.draft.is_ca and "keyCertSign" not in usages:
        yield "an authority lacks keyCertSign"
    if not reading.draft.is_ca and usages & CA_USAGES:
        yield f"an end entity has {', '.join(sorted(usages & CA_USAGES))}"


def usage_fits_key(reading: Reading) -> Iterable[str]:
    """Only bits that the key's algorithm can serve."""
    spec = reading.key_spec
    if spec is None:
        yield "the public key is of no accepted kind"
        return
    unfit = reading.usages - usages_that_fit(spec)
    if unfit:
        yield f"{', '.join(sorted(unfit))} does not fit a key of the kind {spec.value}"


def extended_key_usage(reading: Reading) -> Iterable[str]:
    """Present in end entities; consistent with the key usage; time stamping critical and alone."""
    extension = reading.find(x509.ExtendedKeyUsage)
    if extension is None:
        if not reading.draft.is_ca:
            yield "an end entity has no extended key usage"
        return
    purposes = reading.purposes
    if len(set(purposes)) != len(purposes):
        yield "an extended key usage is listed twice"
    if ANY_PURPOSE in purposes and not reading.draft.is_ca:
        yield "an end entity has anyExtendedKeyUsage"
    if TIME_STAMPING in purposes and not reading.draft.is_ca:
        if len(purposes) > 1:
            yield "timeStamping is not the only extended key usage"
        if not extension.critical:
            yield "the extended key usage timeStamping is not critical"
    if reading.draft.is_ca:
        return
    for purpose in purposes:
        if purpose_lacks_usage(purpose, reading.usages):
            yield f"no key usage bit is consistent with {eku_name(purpose)}"


LINTS = (
    CoreLint("key-usage", "RFC 5280 4.2.1.3", key_usage),
    CoreLint("key-usage-fits-key", "RFC 8813 3, RFC 8410 5, RFC 9881 5", usage_fits_key),
    CoreLint("extended-key-usage", "RFC 5280 4.2.1.12, RFC 3161 2.3", extended_key_usage),
)
