"""Fields of the certificate itself (RFC 5280 4.1)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from ucm.api.issuance import CertificateDraft
from ucm.api.publickeys import spki_der
from ucm.domain.validity import MAX_CA_VALIDITY, MAX_LEAF_VALIDITY
from ucm.issuance.lints.reading import lint


def version(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Extensions need version 3."""
    if certificate.version is not x509.Version.v3:
        yield "the certificate is not version 3"


def serial(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Positive, at most 20 octets, at least 64 bits of randomness."""
    number = certificate.serial_number
    if number <= 0:
        yield "the serial number is not positive"
    elif number.bit_length() > 159:
        yield "the serial number is longer than 20 octets"
    elif number.bit_length() < 64:
        yield "the serial number is shorter than 64 bits"
    if number != draft.serial:
        yield "the serial number is not the reserved one"


def validity(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Whole seconds, in order, not beyond the kind's limit."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if (start, end) != (draft.not_before, draft.not_after):
        yield "the validity is not the planned one"
    if end <= start:
        yield "notAfter is not later than notBefore"
    limit = MAX_CA_VALIDITY if draft.is_ca else MAX_LEAF_VALIDITY
    if end - start > min(limit, draft.profile.max_validity):
        yield "the validity is longer than the profile allows"


def time_encoding(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """UTCTime to 2049, GeneralizedTime from 2050, no fractions, Z."""
    tbs = certificate.tbs_certificate_bytes
    for moment in (draft.not_before, draft.not_after):
        text = f"{moment:%Y%m%d%H%M%S}Z"
        late = moment.year >= 2050
        expected = b"\x18\x0f" + text.encode() if late else b"\x17\x0d" + text[2:].encode()
        if expected not in tbs:
            yield f"{text} is not encoded as {'GeneralizedTime' if late else 'UTCTime'}"


def issuer(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """The issuer is the authority's subject, byte for byte: name equality ignores string types."""
    if draft.issuer.public_bytes() not in certificate.tbs_certificate_bytes:
        yield "the issuer's name differs from the authority's subject"
    if not certificate.issuer.rdns:
        yield "the issuer's name is empty"


def public_key(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """The key is the one that was checked."""
    key = certificate.public_key()
    if spki_der(key) != draft.public_key:
        yield "the public key is not the requested one"


LINTS = (
    lint("version", "RFC 5280 4.1.2.1", version),
    lint("serial", "RFC 5280 4.1.2.2", serial),
    lint("validity", "RFC 5280 4.1.2.5", validity),
    lint("time-encoding", "RFC 5280 4.1.2.5", time_encoding),
    lint("issuer", "RFC 5280 4.1.2.4", issuer),
    lint("public-key", "RFC 5280 4.1.2.7", public_key),
)
