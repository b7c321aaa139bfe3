"""Subject and alternative names (RFC 5280 4.1.2.6, 4.2.1.6)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from ucm.api.errors import Invalid
from ucm.api.issuance import CertificateDraft
from ucm.api.names import canonical_names, check_subject, common_names
from ucm.domain.keypolicy import SERVER_AUTH
from ucm.domain.names import host_of
from ucm.issuance.lints.reading import find, lint


def subject(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Never empty in authorities; attributes within their bounds."""
    if draft.is_ca and not certificate.subject.rdns:
        yield "an authority has an empty subject"
    try:
        check_subject(certificate.subject)
    except Invalid as error:
        yield error.detail


def alternative_names(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """Not empty, in canonical form, critical exactly when the subject is empty."""
    extension = find(certificate, x509.SubjectAlternativeName)
    empty_subject = not certificate.subject.rdns
    if extension is None:
        if empty_subject:
            yield "there is neither a subject nor an alternative name"
        if draft.names:
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
    if names != draft.names:
        yield "the alternative names are not the requested ones"


def common_name_covered(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[str]:
    """A TLS server's common name that looks like a host is among the alternative names."""
    purposes = find(certificate, x509.ExtendedKeyUsage)
    if draft.is_ca or purposes is None:
        return
    if not any(oid.dotted_string == SERVER_AUTH for oid in purposes.value):
        return
    for common_name in common_names(certificate.subject):
        host = host_of(common_name)
        if host is not None and "." in common_name and host not in draft.names:
            yield f"the common name {common_name!r} is not among the alternative names"


LINTS = (
    lint("subject", "RFC 5280 4.1.2.6, A.1", subject),
    lint("alternative-names", "RFC 5280 4.2.1.6", alternative_names),
    lint("common-name-covered", "BR 7.1.4.3", common_name_covered),
)
