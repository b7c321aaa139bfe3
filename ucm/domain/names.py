"""How subject and alternative names of one certificate fit together (RFC 5280 4.1.2.6, 4.2.1.6)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from ucm.api.errors import Invalid
from ucm.api.names import address_of, canonical_dns, canonical_email, common_names

MAX_COMMON_NAME = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """Subject and alternative names of a certificate, and the common name that no alternative name
    covers although it looks like a host (``None`` when all is well).
    """

    subject: x509.Name
    names: tuple[x509.GeneralName, ...]
    uncovered_common_name: str | None = None


def host_of(common_name: str) -> x509.GeneralName | None:
    """The DNS name or address a common name stands for, ``None`` when it names neither."""
    address = address_of(common_name)
    if address is not None:
        return address
    try:
        return x509.DNSName(canonical_dns(common_name))
    except Invalid:
        return None


def server_identity(
    subject: x509.Name, names: tuple[x509.GeneralName, ...], *, may_add: bool
) -> Identity:
    """Names of a TLS server: clients read the alternative names only.

    Without any, they are taken from the common names. A further common name that is a host is added
    when ``may_add``, else reported. An empty subject gets the first DNS name as its common name if
    that is short enough; an address or a longer name leaves it empty (the alternative names are
    critical then).
    """
    hosts = [host for cn in common_names(subject) if (host := host_of(cn)) is not None]
    uncovered = None
    if not names:
        names = tuple(dict.fromkeys(hosts))
    else:
        missing = [h for h in hosts if h not in names and _dotted(h)]
        if may_add:
            names += tuple(dict.fromkeys(missing))
        elif missing:
            uncovered = str(missing[0].value)
    if not subject.rdns:
        subject = _subject_from(names)
    return Identity(subject, names, uncovered)


def _dotted(host: x509.GeneralName) -> bool:
    """A single word beside alternative names is a person's or a device's name, not a host."""
    return not isinstance(host, x509.DNSName) or "." in host.value


def _subject_from(names: tuple[x509.GeneralName, ...]) -> x509.Name:
    for name in names:
        if isinstance(name, x509.DNSName):
            if len(name.value) <= MAX_COMMON_NAME:
                return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.value)])
            break
    return x509.Name([])


def mail_identity(subject: x509.Name, names: tuple[x509.GeneralName, ...]) -> Identity:
    """Names of a mail certificate: addresses in the subject become alternative names (RFC 8550
    3)."""
    candidates = [
        str(a.value) for a in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    ] + list(common_names(subject))
    if not any(isinstance(name, x509.RFC822Name) for name in names):
        for text in candidates:
            try:
                address = canonical_email(text)
            except Invalid:
                continue
            names = (*names, x509.RFC822Name(address))
            break
    return Identity(subject, names)
