"""Fields of the certificate itself (RFC 5280 4.1)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from ucm.api.der import content_of, end_of
from ucm.domain.validity import MAX_CA_VALIDITY, MAX_LEAF_VALIDITY
from ucm.issuance.lints.reading import CoreLint, Reading


def version(reading: Reading) -> Iterable[str]:
    """Extensions need version 3."""
    if reading.certificate.version is not x509.Version.v3:
        yield "the certificate is not version 3"


def serial(reading: Reading) -> Iterable[str]:
    """Positive, at most 20 octets, at least 64 bits of randomness."""
    number = reading.certificate.serial_number
    if number <= 0:
        yield "the serial number is not positive"
    elif number.bit_length() > 159:
        yield "the serial number is longer than 20 octets"
    elif number.bit_length() < 64:
        yield "the serial number is shorter than 64 bits"
    if number != reading.draft.serial:
        yield "the serial number is not the reserved one"


def validity(reading: Reading) -> Iterable[str]:
    """Whole seconds, in order, not beyond the kind's limit."""
    start, end = reading.certificate.not_valid_before_utc, reading.certificate.not_valid_after_utc
    if (start, end) != (reading.draft.not_before, reading.draft.not_after):
        yield "the validity is not the planned one"
    if end <= start:
        yield "notAfter is not later than notBefore"
    limit = MAX_CA_VALIDITY if reading.draft.is_ca else MAX_LEAF_VALIDITY
    if end - start > min(limit, reading.draft.profile.max_validity):
        yield "the validity is longer than the profile allows"


def time_encoding(reading: Reading) -> Iterable[str]:
    """UTCTime to 2049, GeneralizedTime from 2050, no fractions, Z."""
    for moment in (reading.draft.not_before, reading.draft.not_after):
        late = moment.year >= 2050
        year = f"{moment.year:04}" if late else f"{moment.year % 100:02}"
        rest = f"{moment.month:02}{moment.day:02}{moment.hour:02}{moment.minute:02}"
        text = f"{year}{rest}{moment.second:02}Z"
        if (b"\x18\x0f" if late else b"\x17\x0d") + text.encode() not in reading.tbs:
            yield f"{text} is not encoded as {'GeneralizedTime' if late else 'UTCTime'}"


def issuer(reading: Reading) -> Iterable[str]:
    """The issuer is the authority's subject, byte for byte: name equality ignores string types."""
    start = content_of(reading.tbs)
    for _ in range(3):  # version, serialNumber, signature
        start = end_of(reading.tbs, start)
    if reading.tbs[start : end_of(reading.tbs, start)] != reading.issuer:
        yield "the issuer's name differs from the authority's subject"
    if reading.issuer == b"\x30\x00":
        yield "the issuer's name is empty"


def public_key(reading: Reading) -> Iterable[str]:
    """The key is the one that was checked, in the encoding that was checked."""
    start = content_of(reading.tbs)
    for _ in range(6):  # ..., issuer, validity, subject
        start = end_of(reading.tbs, start)
    if reading.tbs[start : end_of(reading.tbs, start)] != reading.draft.public_key:
        yield "the public key is not the requested one"


LINTS = (
    CoreLint("version", "RFC 5280 4.1.2.1", version),
    CoreLint("serial", "RFC 5280 4.1.2.2", serial),
    CoreLint("validity", "RFC 5280 4.1.2.5", validity),
    CoreLint("time-encoding", "RFC 5280 4.1.2.5", time_encoding),
    CoreLint("issuer", "RFC 5280 4.1.2.4", issuer),
    CoreLint("public-key", "RFC 5280 4.1.2.7", public_key),
)
