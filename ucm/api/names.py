"""Subjects and alternative names: text forms, canonical forms, and what is refused (RFC 5280, 4514,
5321, 9549).

Text forms are ``dns:www.example.com``, ``ip:192.0.2.1``, ``email:a@example.com``,
``uri:https://…``, ``upn:user@example.com`` or a bare value whose kind is plain. Canonical: DNS
names and mail domains are lower-case A-labels, addresses are what ``ipaddress`` writes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import idna
from asn1crypto.core import UTF8String
from cryptography import x509
from cryptography.x509.oid import NameOID

from ucm.api.errors import Invalid

UPN_OID = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
MAX_NAMES = 256
MAX_RDNS = 32

_DNS = re.compile(r"(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)*(?!-)[a-z0-9-]{1,63}(?<!-)")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# RFC 5280 A.1 upper bounds, where they are not the 64 of most attributes.
_UPPER_BOUNDS = {
    NameOID.COUNTRY_NAME: 2,
    NameOID.JURISDICTION_COUNTRY_NAME: 2,
    NameOID.LOCALITY_NAME: 128,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.STREET_ADDRESS: 128,
    NameOID.DOMAIN_COMPONENT: 63,
    NameOID.EMAIL_ADDRESS: 255,
    NameOID.USER_ID: 256,
    NameOID.UNSTRUCTURED_NAME: 255,
    NameOID.BUSINESS_CATEGORY: 128,
    NameOID.ORGANIZATION_IDENTIFIER: 256,
}


def _bad_san(pointer: str, detail: str, hint: str | None = None) -> Invalid:
    return Invalid.field(pointer, "invalid-san", detail, hint=hint)


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 80 else value[:77] + "...")


def canonical_dns(value: str, *, pointer: str = "/san") -> str:
    """A DNS name as it goes into a certificate: lower-case LDH and A-labels, a wildcard only as the
    whole left label.

    Unicode labels become A-labels (IDNA 2008). Raises ``Invalid`` (``invalid-san``) for everything
    else: empty, trailing dot, spaces, underscores, NUL, over-long labels, numeric last label (RFC
    5280 4.2.1.6, 9549 2.2).
    """
    plain = _plain_dns(value) if len(value) <= 253 else None
    return _converted_dns(value, pointer) if plain is None else plain


@lru_cache(maxsize=4096)
def _plain_dns(value: str) -> str | None:
    """The canonical form of a name that needs a look at its letters only, else ``None``. A name is
    asked for several times on the way to its certificate."""
    name = value.lower()
    bare = name.removeprefix("*.")
    if "xn--" in bare or not bare.isascii() or not _DNS.fullmatch(bare):
        return None
    return None if bare.rpartition(".")[2].isdigit() else name


def _converted_dns(value: str, pointer: str) -> str:
    name = value.lower()
    wildcard = name.startswith("*.")
    bare = name[2:] if wildcard else name
    if not bare.isascii():
        try:
            bare = idna.encode(bare, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise _bad_san(
                pointer, f"{_shown(value)} is not an internationalised DNS name: {error}."
            ) from None
    whole = f"*.{bare}" if wildcard else bare
    if not _DNS.fullmatch(bare) or len(whole) > 253:
        raise _bad_san(
            pointer,
            f"{_shown(value)} is not a DNS name (RFC 5280 4.2.1.6: letters, digits and "
            "hyphens, labels up to 63, "
            "253 in all, no trailing dot, a wildcard only as the whole first label).",
            "Write it like www.example.com or *.example.com.",
        )
    if bare.rpartition(".")[2].isdigit():
        raise _bad_san(
            pointer,
            f"{_shown(value)} ends in a number, which no DNS name does.",
            f"Write an address as ip:{bare}." if bare.count(".") == 3 else None,
        )
    if "xn--" in bare:
        _check_a_labels(bare, value, pointer)
    return whole


def _check_a_labels(name: str, value: str, pointer: str) -> None:
    for label in name.split("."):
        if label.startswith("xn--"):
            try:
                idna.ulabel(label)
            except (idna.IDNAError, UnicodeError) as error:
                raise _bad_san(
                    pointer, f"{_shown(value)} has a label that is no valid A-label: {error}."
                ) from None


def is_dns_name(value: str) -> bool:
    """Whether a text has the form of a DNS name (the wildcard form included)."""
    try:
        canonical_dns(value)
    except Invalid:
        return False
    return True


def canonical_email(value: str, *, pointer: str = "/san") -> str:
    """An addr-spec with its domain in canonical form; the local part stays as it is (RFC 5280
    4.2.1.6, RFC 5321)."""
    local, at, domain = value.rpartition("@")
    if not at or not _LOCAL_PART.fullmatch(local) or len(local) > 64:
        raise _bad_san(
            pointer,
            f"{_shown(value)} is not a mail address (RFC 5280 4.2.1.6: local-part@domain, "
            "ASCII local part).",
            "Write it like user@example.com.",
        )
    host = canonical_dns(domain, pointer=pointer)
    if host.startswith("*"):
        raise _bad_san(pointer, f"{_shown(value)} has a wildcard in its domain.")
    return f"{local}@{host}"


def canonical_uri(value: str, *, pointer: str = "/san") -> str:
    """An absolute URI in ASCII (RFC 5280 4.2.1.6); its host in lower case stays the caller's
    business."""
    if (
        len(value) > 2048
        or not _PRINTABLE_ASCII.fullmatch(value)
        or not _SCHEME.fullmatch(value)
        or any(c in value for c in '<>"{}|\\^`')
    ):
        raise _bad_san(
            pointer,
            f"{_shown(value)} is not an absolute URI in ASCII (RFC 5280 4.2.1.6).",
            "Write it with its scheme, like https://example.com/ or urn:uuid:….",
        )
    return value


def _canonical_upn(value: str, pointer: str) -> str:
    if "@" not in value or not value or len(value) > 1024 or _CONTROL.search(value):
        raise _bad_san(pointer, f"{_shown(value)} is not a user principal name (user@realm).")
    return value


def _canonical_ip(value: str, pointer: str) -> x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(value))
    except ValueError:
        raise _bad_san(
            pointer,
            f"{_shown(value)} is not an IPv4 or IPv6 address (RFC 5280 4.2.1.6: 4 or 16 "
            "octets, no network).",
        ) from None


def upn_name(value: str) -> x509.OtherName:
    """A Microsoft user principal name as otherName."""
    return x509.OtherName(UPN_OID, UTF8String(value).dump())


def upn_text(name: x509.OtherName) -> str | None:
    """The user principal name in an otherName, ``None`` when it is another kind or malformed."""
    if name.type_id != UPN_OID:
        return None
    try:
        return str(UTF8String.load(name.value, strict=True).native)
    except (ValueError, TypeError):
        return None


def parse_general_name(text: str, *, pointer: str = "/san") -> x509.GeneralName:
    """Read a text form (see the module) into a canonical name. Raises ``Invalid``
    (``invalid-san``)."""
    kind, colon, value = text.partition(":")
    match kind.strip().lower() if colon else "":
        case "dns":
            return x509.DNSName(canonical_dns(value.strip(), pointer=pointer))
        case "ip":
            return _canonical_ip(value.strip(), pointer)
        case "email" | "rfc822" | "mail":
            return x509.RFC822Name(canonical_email(value.strip(), pointer=pointer))
        case "uri" | "url":
            return x509.UniformResourceIdentifier(canonical_uri(value.strip(), pointer=pointer))
        case "upn":
            return upn_name(_canonical_upn(value.strip(), pointer))
        case _:
            return _parse_bare(text.strip(), pointer)


def address_of(text: str) -> x509.IPAddress | None:
    """The IPv4 or IPv6 address a text writes, ``None`` when it is none."""
    if ":" not in text and not text[-1:].isdigit():
        return None  # most texts are names, and failing to parse one is slow
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return None


def _parse_bare(text: str, pointer: str) -> x509.GeneralName:
    address = address_of(text)
    if address is not None:
        return address
    if "://" in text or text.startswith("urn:"):
        return x509.UniformResourceIdentifier(canonical_uri(text, pointer=pointer))
    if "@" in text:
        return x509.RFC822Name(canonical_email(text, pointer=pointer))
    return x509.DNSName(canonical_dns(text, pointer=pointer))


def general_name_text(name: x509.GeneralName) -> str:
    """The text form; kinds without one of their own get ``dirname:``, ``rid:`` or
    ``other:<oid>``."""
    match name:
        case x509.DNSName():
            return f"dns:{name.value}"
        case x509.IPAddress():
            return f"ip:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"uri:{name.value}"
        case x509.DirectoryName():
            return f"dirname:{subject_text(name.value)}"
        case x509.RegisteredID():
            return f"rid:{name.value.dotted_string}"
        case x509.OtherName():
            upn = upn_text(name)
            return f"upn:{upn}" if upn is not None else f"other:{name.type_id.dotted_string}"
        case _:
            return f"other:{type(name).__name__}"


def general_name_kind(name: x509.GeneralName) -> str:
    """``dns``, ``ip``, ``email``, ``uri``, ``upn``, ``dirname``, ``rid`` or ``other``."""
    return general_name_text(name).partition(":")[0]


def canonical_general_name(name: x509.GeneralName, *, pointer: str = "/san") -> x509.GeneralName:
    """The canonical form of a name read from elsewhere; libraries parse what they would refuse to
    build.

    Raises ``Invalid`` (``invalid-san``) for values that break their form: raw UTF-8 in a dNSName, a
    network as iPAddress, an otherName that is no DER.
    """
    match name:
        case x509.DNSName():
            if not name.value.isascii():
                raise _bad_san(
                    pointer,
                    f"The dNSName {_shown(name.value)} is not ASCII; it must hold "
                    "A-labels (RFC 9549 2.2).",
                )
            return x509.DNSName(canonical_dns(name.value, pointer=pointer))
        case x509.IPAddress():
            return _canonical_ip(str(name.value), pointer)
        case x509.RFC822Name():
            return x509.RFC822Name(canonical_email(name.value, pointer=pointer))
        case x509.UniformResourceIdentifier():
            return x509.UniformResourceIdentifier(canonical_uri(name.value, pointer=pointer))
        case x509.OtherName() if name.type_id == UPN_OID:
            upn = upn_text(name)
            if upn is None:
                raise _bad_san(pointer, "The user principal name is not a UTF8String.")
            return upn_name(_canonical_upn(upn, pointer))
        case x509.DirectoryName():
            check_subject(name.value, pointer=pointer)
            return name
        case _:
            return name


def canonical_names(
    names: Iterable[x509.GeneralName], *, pointer: str = "/san"
) -> tuple[x509.GeneralName, ...]:
    """Canonical forms in the given order, each once. Raises ``Invalid`` at
    ``<pointer>/<index>``."""
    seen: dict[x509.GeneralName, None] = {}
    for index, name in enumerate(names):
        if index >= MAX_NAMES:
            raise _bad_san(pointer, f"There are more than {MAX_NAMES} alternative names.")
        seen[canonical_general_name(name, pointer=f"{pointer}/{index}")] = None
    return tuple(seen)


def parse_general_names(
    texts: Sequence[str], *, pointer: str = "/san"
) -> tuple[x509.GeneralName, ...]:
    """Read several text forms, each once. Raises ``Invalid`` at ``<pointer>/<index>``."""
    if len(texts) > MAX_NAMES:
        raise _bad_san(pointer, f"There are more than {MAX_NAMES} alternative names.")
    parsed = (parse_general_name(t, pointer=f"{pointer}/{i}") for i, t in enumerate(texts))
    return tuple(dict.fromkeys(parsed))


# --- subjects ------------------------------------------------------------------------------------


def subject_text(name: x509.Name) -> str:
    """RFC 4514 text (last RDN first). For people and searches; never parse decisions out of it."""
    return name.rfc4514_string()


def common_names(name: x509.Name) -> tuple[str, ...]:
    """Every common name, in order of the RDNs."""
    return tuple(str(a.value) for a in name.get_attributes_for_oid(NameOID.COMMON_NAME))


def check_subject(name: x509.Name, *, pointer: str = "/subject") -> None:
    """Refuse what the library parses and RFC 5280 A.1 forbids. Raises ``Invalid``
    (``invalid-subject``)."""
    if len(name.rdns) > MAX_RDNS:
        raise Invalid.field(
            pointer,
            "invalid-subject",
            f"The name has {len(name.rdns)} RDNs; at most {MAX_RDNS} are accepted.",
        )
    for attribute in name:
        _check_attribute(attribute.oid, attribute.value, pointer)


def _check_attribute(oid: x509.ObjectIdentifier, value: str | bytes, pointer: str) -> None:
    label = oid._name if oid._name != "Unknown OID" else oid.dotted_string
    limit = _UPPER_BOUNDS.get(oid, 64 if oid in _BOUNDED else 1024)
    fault = None
    if isinstance(value, bytes):
        fault = None if oid == NameOID.X500_UNIQUE_IDENTIFIER else "is not a text"
    elif not value.strip():
        fault = "is empty"
    elif _CONTROL.search(value):
        fault = "has control characters"
    elif len(value) > limit:
        fault = f"has {len(value)} characters, at most {limit} are allowed"
    elif limit == 2 and not (len(value) == 2 and value.isascii() and value.isalpha()):
        fault = "must be two letters (ISO 3166)"
    if fault:
        raise Invalid.field(
            pointer, "invalid-subject", f"The attribute {label} {fault} (RFC 5280 A.1)."
        )


_BOUNDED = frozenset(
    {
        NameOID.COMMON_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.SERIAL_NUMBER,
        NameOID.TITLE,
        NameOID.SURNAME,
        NameOID.GIVEN_NAME,
        NameOID.INITIALS,
        NameOID.GENERATION_QUALIFIER,
        NameOID.DN_QUALIFIER,
        NameOID.PSEUDONYM,
    }
)


_SUBJECT_ORDER = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "UID": NameOID.USER_ID,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "CN": NameOID.COMMON_NAME,
}
SUBJECT_ATTRIBUTES = dict(_SUBJECT_ORDER)
"""Short attribute names that ``build_subject``, templates and pinned subjects take, in DER
order."""


def build_subject(attributes: Iterable[tuple[str, str]], *, pointer: str = "/subject") -> x509.Name:
    """A name from (short name, value) pairs: country first, common name last, each pair its own
    RDN.

    Empty values are left out. Raises ``Invalid`` (``invalid-subject``) at ``<pointer>/<short
    name>``.
    """
    order = list(_SUBJECT_ORDER)
    pairs = [(short, value) for short, value in attributes if value]
    for short, value in pairs:
        if short not in _SUBJECT_ORDER:
            raise Invalid.field(
                f"{pointer}/{short}",
                "invalid-subject",
                f"The attribute {_shown(short)} is not known; use one of {', '.join(order)}.",
            )
        _check_attribute(_SUBJECT_ORDER[short], value, f"{pointer}/{short}")
    pairs.sort(key=lambda pair: order.index(pair[0]))
    try:
        return x509.Name([x509.NameAttribute(_SUBJECT_ORDER[s], v) for s, v in pairs])
    except ValueError as error:
        raise Invalid.field(
            pointer, "invalid-subject", f"The subject is not valid: {error}."
        ) from None


# --- URLs that go into certificates --------------------------------------------------------------


def checked_url(url: str, *, pointer: str, schemes: tuple[str, ...] = ("http", "https")) -> str:
    """A URL for AIA, CDP, CPS or SIA. Raises ``Invalid`` (``invalid-url``).

    Absolute, ASCII, at most 2048 characters, with a host and without user information (RFC 5280
    4.2.1.13, 4.2.2.1).
    """
    if not _fetchable(url, schemes):
        raise Invalid.field(
            pointer,
            "invalid-url",
            f"{_shown(url)} is not a URL that may go into certificates: "
            f"{' or '.join(schemes)}, a host, "
            "no user name, no spaces, at most 2048 characters.",
        )
    return url


@lru_cache(maxsize=1024)
def _fetchable(url: str, schemes: tuple[str, ...]) -> bool:
    if (
        len(url) > 2048
        or not _PRINTABLE_ASCII.fullmatch(url)
        or any(character in url for character in '<>"{}|\\^`')
    ):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return bool(
        parts.scheme.lower() in schemes
        and parts.hostname
        and parts.username is None
        and parts.password is None
    )
