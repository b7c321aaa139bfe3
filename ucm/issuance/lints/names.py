"""Subject and alternative names (RFC 5280 4.1.2.6, 4.2.1.6)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from ucm.api.errors import Invalid
from ucm.api.names import canonical_names, check_subject, common_names
from ucm.domain.keypolicy import SERVER_AUTH
from ucm.domain.names import host_of
from ucm.issuance.lints.reading import CoreLint, Reading


def subject(reading: Reading) -> Iterable[str]:
    """Never empty in authorities; attributes within their bounds."""
    if reading.draft.is_ca and not reading.certificate.subject.rdns:
        yield "an authority has an empty subject"
    try:
        check_subject(reading.certificate.subject)
    except Invalid as error:
        yield error.detail


def alternative_names(reading: Reading) -> Iterable[str]:
    """Not empty, in canonical form, critical exactly when the subject is empty."""
    extension = reading.find(x509.SubjectAlternativeName)
    empty_subject = not reading.certificate.subject.rdns
    if extension is None:
        if empty_subject:
            yield "there is neither a subject nor an alternative name"
        if reading.draft.names:
            yield "the alternative names are missing"
        return
    names = tuple(extension.value)
    if not names:
        yield "the alternative names are empty"
    if extension.critical != empty_subject:
        yield "alternative names are critical exactly when the subject is empty"
    try:
        canonical = canonical_names(names)
    except Invalid as error:
        yield error.detail
        return
    if canonical != names:
        yield "an alternative name is repeated or not in canonical form"
    if names != reading.draft.names:
        yield "the alternative names are not the requested ones"


def common_name_covered(reading: Reading) -> Iterable[str]:
    """A TLS server's common name that looks like a host is among the alternative names."""
    if reading.draft.is_ca or SERVER_AUTH not in reading.purposes:
        return
    for common_name in common_names(reading.certificate.subject):
        if "." not in common_name:
            continue
        host = host_of(common_name)
        if host is not None and host not in reading.draft.names:
            yield f"the common name {common_name!r} is not among the alternative names"


LINTS = (
    CoreLint("subject", "RFC 5280 4.1.2.6, A.1", subject),
    CoreLint("alternative-names", "RFC 5280 4.2.1.6", alternative_names),
    CoreLint("common-name-covered", "BR 7.1.4.3", common_name_covered),
)
