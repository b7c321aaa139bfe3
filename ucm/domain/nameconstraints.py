"""Name constraints (RFC 5280 4.2.1.10, 6.1.3 b-c), checked before signing over the whole chain."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from ucm.api.errors import Invalid
from ucm.api.names import (
    address_of,
    canonical_dns,
    common_names,
    general_name_text,
    is_dns_name,
    subject_text,
)

RDNs = tuple[frozenset[tuple[str, str]], ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """A name that a constraint of one authority in the chain forbids."""

    name: str
    authority: str
    rule: str


@dataclass(frozen=True, slots=True)
class Constraints:
    """The constraints of one authority."""

    authority: str
    permitted: tuple[x509.GeneralName, ...]
    excluded: tuple[x509.GeneralName, ...]


def constraints_of(certificate: x509.Certificate) -> Constraints | None:
    """The constraints in a CA certificate, ``None`` when it has none."""
    try:
        value = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    return Constraints(
        subject_text(certificate.subject),
        tuple(value.permitted_subtrees or ()),
        tuple(value.excluded_subtrees or ()),
    )


def names_under_constraint(
    subject: x509.Name, names: Iterable[x509.GeneralName]
) -> list[x509.GeneralName]:
    """Everything that counts as a name: alternative names, the subject, its mail addresses, and
    common names that look like host names or addresses (clients still read them).
    """
    checked = list(names)
    if subject.rdns:
        checked.append(x509.DirectoryName(subject))
    for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        text = str(attribute.value)
        if "@" in text and text.isascii():
            checked.append(x509.RFC822Name(text))
    for common_name in common_names(subject):
        address = address_of(common_name)
        if address is not None:
            checked.append(address)
        elif "." in common_name and common_name.isascii() and is_dns_name(common_name):
            checked.append(x509.DNSName(common_name.lower()))
    return checked


def violations(
    chain: Sequence[Constraints], *, subject: x509.Name, names: Iterable[x509.GeneralName]
) -> list[Violation]:
    """Names that some authority of the chain does not allow, in order; empty when all is well."""
    if not chain:
        return []
    found: dict[Violation, None] = {}
    for name in names_under_constraint(subject, names):
        for constraints in chain:
            rule = _broken_rule(name, constraints)
            if rule:
                found[Violation(general_name_text(name), constraints.authority, rule)] = None
    return list(found)


def _same_type(name: x509.GeneralName, constraint: x509.GeneralName) -> bool:
    if isinstance(name, x509.OtherName) and isinstance(constraint, x509.OtherName):
        return name.type_id == constraint.type_id
    return type(name) is type(constraint)


def _broken_rule(name: x509.GeneralName, constraints: Constraints) -> str | None:
    for excluded in constraints.excluded:
        if _same_type(name, excluded) and _matches(name, excluded, excluding=True):
            return f"excluded: {_rule_text(excluded)}"
    permitted = [p for p in constraints.permitted if _same_type(name, p)]
    if permitted and not any(_matches(name, p, excluding=False) for p in permitted):
        return "permitted: " + ", ".join(_rule_text(p) for p in permitted)
    return None


def _rule_text(constraint: x509.GeneralName) -> str:
    return general_name_text(constraint)


def _matches(name: x509.GeneralName, constraint: x509.GeneralName, *, excluding: bool) -> bool:
    """Whether the name lies in the subtree; what cannot be judged counts against the name."""
    match name, constraint:
        case x509.DNSName(), x509.DNSName():
            return _dns_matches(name.value, constraint.value, excluding=excluding)
        case x509.RFC822Name(), x509.RFC822Name():
            return _email_matches(name.value, constraint.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = _uri_host(name.value)
            return excluding if host is None else _host_matches(host, constraint.value)
        case x509.IPAddress(), x509.IPAddress():
            return _ip_matches(name.value, constraint.value)
        case x509.DirectoryName(), x509.DirectoryName():
            wanted, given = _rdns(constraint.value), _rdns(name.value)
            return given[: len(wanted)] == wanted
        case _:
            return excluding


def _dns_matches(name: str, constraint: str, *, excluding: bool) -> bool:
    name, constraint = name.lower(), constraint.lower()
    if constraint.startswith("."):  # not RFC 5280, but found in imported authorities
        return name.endswith(constraint)
    if not constraint or name == constraint or name.endswith("." + constraint):
        return True
    # A wildcard stands for every name below its base, an excluded one among them.
    return excluding and name.startswith("*.") and constraint.partition(".")[2] == name[2:]


def _host_matches(host: str, constraint: str) -> bool:
    host, constraint = host.lower(), constraint.lower()
    if constraint.startswith("."):
        return host.endswith(constraint)
    return host == constraint


def _email_matches(address: str, constraint: str) -> bool:
    local, _, domain = address.rpartition("@")
    wanted_local, at, wanted_domain = constraint.rpartition("@")
    if at:
        return local == wanted_local and domain.lower() == wanted_domain.lower()
    return _host_matches(domain, constraint)


def _uri_host(uri: str) -> str | None:
    """The host, ``None`` without an authority or with an address (RFC 5280: then not
    acceptable)."""
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return None
    if not host:
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None


def _ip_matches(address: object, network: object) -> bool:
    if not isinstance(network, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return False
    if not isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return False
    return address.version == network.version and address in network


def _rdns(name: x509.Name) -> RDNs:
    """RDNs for comparison: case and inner spaces do not matter (RFC 5280 7.1, caseIgnoreMatch)."""
    return tuple(
        frozenset((a.oid.dotted_string, " ".join(str(a.value).casefold().split())) for a in rdn)
        for rdn in name.rdns
    )


# --- subtrees that go into a certificate ---------------------------------------------------------


def parse_subtree(text: str, *, pointer: str) -> x509.GeneralName:
    """A subtree from ``dns:example.com``, ``ip:10.0.0.0/8``, ``email:example.com``,
    ``uri:example.com`` or a bare value. Raises ``Invalid`` (``invalid-name-constraint``).
    """
    kind, colon, value = text.strip().partition(":")
    if not colon or kind.lower() not in {"dns", "ip", "email", "uri"}:
        kind, value = _guessed_kind(text.strip()), text.strip()
    value = value.strip()
    try:
        match kind.lower():
            case "ip":
                return checked_subtree(
                    x509.IPAddress(ipaddress.ip_network(value, strict=True))
                    if "/" in value
                    else x509.IPAddress(ipaddress.ip_address(value)),
                    pointer=pointer,
                )
            case "email":
                return checked_subtree(x509.RFC822Name(value), pointer=pointer)
            case "uri":
                name = x509.UniformResourceIdentifier(value)
                return checked_subtree(name, pointer=pointer)
            case _:
                return checked_subtree(x509.DNSName(value), pointer=pointer)
    except ValueError as error:
        raise _bad_subtree(pointer, f"{text[:80]!a} cannot be read: {error}.") from None


def _guessed_kind(text: str) -> str:
    address = text.partition("/")[0]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "email" if "@" in text else "dns"
    return "ip"


def _bad_subtree(pointer: str, detail: str) -> Invalid:
    return Invalid.field(
        pointer,
        "invalid-name-constraint",
        f"{detail} (RFC 5280 4.2.1.10)",
        hint="Write a DNS subtree like dns:example.com (it covers all names below), addresses as "
        "a network like ip:10.0.0.0/8, mail as email:example.com or a whole address.",
    )


def checked_subtree(name: x509.GeneralName, *, pointer: str) -> x509.GeneralName:
    """The subtree in canonical form. Raises ``Invalid`` for a wildcard, a leading dot in a DNS
    subtree, a single address that is no network, and forms that cannot be constrained.
    """
    match name:
        case x509.DNSName():
            if name.value.startswith((".", "*")):
                raise _bad_subtree(
                    pointer, f"{name.value!a}: a DNS subtree has no leading dot and no wildcard."
                )
            return x509.DNSName(_domain(name.value, pointer))
        case x509.IPAddress():
            if not isinstance(name.value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
                raise _bad_subtree(
                    pointer, f"{name.value}: an address subtree is a network with its prefix."
                )
            return name
        case x509.RFC822Name():
            local, at, domain = name.value.rpartition("@")
            host = _domain(domain.removeprefix("."), pointer)
            dot = "." if domain.startswith(".") and not at else ""
            return x509.RFC822Name(f"{local}{at}{dot}{host}")
        case x509.UniformResourceIdentifier():
            dot = "." if name.value.startswith(".") else ""
            return x509.UniformResourceIdentifier(
                dot + _domain(name.value.removeprefix("."), pointer)
            )
        case x509.DirectoryName():
            return name
        case _:
            raise _bad_subtree(pointer, f"Names of the form {type(name).__name__} have no subtree.")


def _domain(value: str, pointer: str) -> str:
    try:
        return canonical_dns(value, pointer=pointer)
    except Invalid as error:
        raise _bad_subtree(pointer, error.detail) from None
