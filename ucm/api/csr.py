"""PKCS#10 intake (RFC 2986): read strictly, verify possession, keep what the requester asks for as
data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from asn1crypto import csr as asn1_csr
from asn1crypto import pem as asn1_pem
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from ucm.api.der import content_of, end_of, value_of
from ucm.api.errors import Invalid, TooLarge
from ucm.api.keys import KeySpec, SignatureScheme
from ucm.api.private_keys import verify
from ucm.api.publickeys import accepted_spec, load_spki
from ucm.api.x509 import (
    MAX_INPUT,
    canonical_names,
    check_subject,
    key_usage_names,
    signature_algorithm_name,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRequest:
    """A certification request whose signature was verified and whose key is of an accepted kind.

    Made by ``parse_csr`` only. ``key_usage`` and ``extended_key_usage`` are wishes; a profile
    decides.
    """

    der: bytes = field(repr=False)
    subject: x509.Name
    names: tuple[x509.GeneralName, ...]
    public_key: bytes = field(repr=False)
    """SubjectPublicKeyInfo, DER."""
    key_spec: KeySpec
    key_usage: frozenset[str] = frozenset()
    extended_key_usage: tuple[str, ...] = ()
    wants_ca: bool = False
    must_staple: bool = False
    challenge_password: str | None = field(default=None, repr=False)
    ignored_extensions: tuple[str, ...] = ()
    """Dotted OIDs that were present and are never taken from a requester."""


_EXTENSION_REQUEST = {"1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"}
_CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105  # the attribute's OID
_PEM = re.compile(rb"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----")
# Known to UCM and never taken from a requester, so that "critical" on them is no reason to refuse
# (RFC 5280 4.2).
_NEVER_COPIED = frozenset(
    {
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.FRESHEST_CRL,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.SUBJECT_INFORMATION_ACCESS,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.OCSP_NO_CHECK,
        ExtensionOID.PRECERT_POISON,
        ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS,
        ExtensionOID.SIGNED_CERTIFICATE_TIMESTAMPS,
        ExtensionOID.MS_CERTIFICATE_TEMPLATE,
        x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2"),
    }
)
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


def _bad(code: str, detail: str, *, pointer: str, hint: str | None = None) -> Invalid:
    return Invalid.field(pointer, code, detail, hint=hint)


def parse_csr(data: bytes, *, pointer: str = "/csr", lenient: bool = False) -> CertificateRequest:
    """Read one request, PEM ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST") or DER.

    Raises ``TooLarge`` above 256 KiB and ``Invalid`` at ``pointer``: unreadable, trailing bytes,
    several requests, version other than 1, weak digest, wrong proof of possession, weak or foreign
    key, malformed subject or names, more than one extensionRequest (RFC 2985 5.4.2), duplicate or
    unknown critical extensions. ``lenient`` also takes attributes that are not in DER order or
    missing, as some SCEP and EST clients send them; the signature is checked over the bytes as
    sent.
    """
    if len(data) > MAX_INPUT:
        raise TooLarge(
            f"Requests are read up to {MAX_INPUT // 1024} KiB; this is {len(data)} bytes."
        )
    try:
        request, proven = _load(data, pointer), False
    except _UNREADABLE as error:
        if not lenient:
            raise _bad(
                "invalid-csr",
                "This is not a PKCS#10 request in PEM or strict DER (RFC 2986): "
                f"{str(error)[:200]}.",
                pointer=pointer,
            ) from None
        request, proven = _reordered(data, pointer=pointer), True
    try:
        # A weak or foreign key is named before its signature is judged: verifying may not even
        # know the key.
        key = _spki_of(request, pointer)
        if not proven:
            _check_possession(request, pointer)
        parsed = _read(request, key, pointer=pointer)
    except x509.DuplicateExtension as error:
        raise _bad(
            "duplicate-extension",
            f"The request carries the extension {error.oid.dotted_string} twice (RFC 5280 4.2).",
            pointer=pointer,
        ) from None
    except (*_UNREADABLE, x509.UnsupportedGeneralNameType) as error:
        raise _bad(
            "invalid-csr",
            f"The request's content is malformed: {str(error)[:200]}.",
            pointer=pointer,
        ) from None
    return replace(parsed, der=_der_of(data)) if proven else parsed


def _der_of(data: bytes) -> bytes:
    if b"-----BEGIN" not in data:
        return data
    _, _, der = asn1_pem.unarmor(data)
    return bytes(der)


def _load(data: bytes, pointer: str) -> x509.CertificateSigningRequest:
    if b"-----BEGIN" not in data:
        return x509.load_der_x509_csr(data)
    if len(_PEM.findall(data)) > 1:
        raise _bad(
            "several-csrs", "The PEM text holds more than one request; send one.", pointer=pointer
        )
    return x509.load_pem_x509_csr(data)


def _check_possession(request: x509.CertificateSigningRequest, pointer: str) -> None:
    algorithm = signature_algorithm_name(request.signature_algorithm_oid)
    try:
        digest = request.signature_hash_algorithm
    except UnsupportedAlgorithm:
        raise _bad(
            "signature-algorithm",
            f"The request is signed with {algorithm}, which is not accepted.",
            pointer=pointer,
            hint="Sign it with SHA-256 or better, Ed25519, Ed448 or ML-DSA.",
        ) from None
    if digest is not None and digest.name in {"md5", "sha1", "sha224"}:
        # The library calls such signatures wrong even when they are right; the person must hear the
        # real reason.
        raise _bad(
            "weak-digest",
            f"The request is signed with the weak digest {digest.name.upper()} ({algorithm}).",
            pointer=pointer,
            hint="Sign it with SHA-256 (openssl req -sha256, certreq HashAlgorithm=sha256).",
        )
    if not request.is_signature_valid:
        raise _bad(
            "proof-of-possession",
            "The request's signature does not fit its public key: proof of possession "
            "failed (RFC 2986 4.2).",
            pointer=pointer,
            hint="Make the request again with the private key it is for.",
        )


def _spki_of(request: x509.CertificateSigningRequest, pointer: str) -> tuple[bytes, KeySpec]:
    """The key's bytes as they stand in the request: the library would rewrite explicit EC
    parameters."""
    body = request.tbs_certrequest_bytes
    start = end_of(body, end_of(body, content_of(body)))  # after version and subject
    spki = body[start : end_of(body, start)]
    return spki, accepted_spec(spki, pointer=pointer)


def _attributes(request: x509.CertificateSigningRequest, pointer: str) -> str | None:
    """Check the attributes; returns the challenge password."""
    password = None
    requests = 0
    for attribute in request.attributes:
        dotted = attribute.oid.dotted_string
        requests += dotted in _EXTENSION_REQUEST
        if dotted == _CHALLENGE_PASSWORD:
            password = attribute.value.decode("utf-8", "replace")
    if requests > 1:
        raise _bad(
            "duplicate-attribute",
            "The request has more than one extensionRequest attribute; exactly one is "
            "allowed (RFC 2985 5.4.2).",
            pointer=pointer,
        )
    return password


def _read(
    request: x509.CertificateSigningRequest, key: tuple[bytes, KeySpec], *, pointer: str
) -> CertificateRequest:
    password = _attributes(request, pointer)
    spki, spec = key
    subject = request.subject
    check_subject(subject, pointer=pointer)
    names: tuple[x509.GeneralName, ...] = ()
    usages: frozenset[str] = frozenset()
    purposes: tuple[str, ...] = ()
    ignored: list[str] = []
    wants_ca = must_staple = False
    for extension in request.extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as alternative:
                names = canonical_names(alternative, pointer=pointer)
                _not_empty(names, "subject alternative name", pointer)
            case x509.KeyUsage() as usage:
                usages = key_usage_names(usage)
                _not_empty(usages, "key usage", pointer)
            case x509.ExtendedKeyUsage() as extended:
                purposes = tuple(oid.dotted_string for oid in extended)
                _not_empty(purposes, "extended key usage", pointer)
            case x509.BasicConstraints(ca=wants_ca):
                pass
            case x509.TLSFeature() as feature:
                must_staple = x509.TLSFeatureType.status_request in feature
            case _:
                if extension.critical and extension.oid not in _NEVER_COPIED:
                    raise _bad(
                        "unknown-critical-extension",
                        "The request asks for the critical extension "
                        f"{extension.oid.dotted_string}, "
                        "which UCM does not know (RFC 5280 4.2).",
                        pointer=pointer,
                    )
                ignored.append(extension.oid.dotted_string)
    return CertificateRequest(
        der=request.public_bytes(Encoding.DER),
        subject=subject,
        names=names,
        public_key=spki,
        key_spec=spec,
        key_usage=usages,
        extended_key_usage=purposes,
        wants_ca=wants_ca,
        must_staple=must_staple,
        challenge_password=password,
        ignored_extensions=tuple(ignored),
    )


def _not_empty(values: object, what: str, pointer: str) -> None:
    if not values:
        raise _bad(
            "empty-extension",
            f"The request's {what} extension is empty (RFC 5280 4.2.1).",
            pointer=pointer,
        )


# --- the lenient way -----------------------------------------------------------------------------

_SCHEMES = {
    "sha256_rsa": SignatureScheme.RSA_PKCS1_SHA256,
    "sha384_rsa": SignatureScheme.RSA_PKCS1_SHA384,
    "sha512_rsa": SignatureScheme.RSA_PKCS1_SHA512,
    "sha256_ecdsa": SignatureScheme.ECDSA_SHA256,
    "sha384_ecdsa": SignatureScheme.ECDSA_SHA384,
    "sha512_ecdsa": SignatureScheme.ECDSA_SHA512,
    "ed25519": SignatureScheme.ED25519,
    "ed448": SignatureScheme.ED448,
}


def _reordered(data: bytes, *, pointer: str) -> x509.CertificateSigningRequest:
    """Verify over the bytes as sent, then write the attributes in DER order so that the strict
    parser reads them."""
    try:
        loaded = asn1_csr.CertificationRequest.load(_der_of(data), strict=True)
        info = loaded["certification_request_info"]
        signed = info.dump()
        scheme = _SCHEMES.get(loaded["signature_algorithm"]["algorithm"].native)
        spki = info["subject_pk_info"].dump()
        accepted_spec(spki, pointer=pointer)
        if scheme is None:
            name = loaded["signature_algorithm"]["algorithm"].native
            raise _bad(
                "weak-digest",
                f"The request is signed with {name}, which is not accepted.",
                pointer=pointer,
                hint="Sign it with SHA-256 or better.",
            )
        verify(
            load_spki(spki),
            signature=loaded["signature"].native,
            data=signed,
            scheme=scheme,
        )
        attributes = sorted(
            attribute.dump() for attribute in info["attributes"] or () if attribute is not None
        )
        body = info["version"].dump() + info["subject"].dump() + spki
        body += value_of(0xA0, b"".join(attributes))
        rest = loaded["signature_algorithm"].dump() + loaded["signature"].dump()
        return x509.load_der_x509_csr(value_of(0x30, value_of(0x30, body) + rest))
    except InvalidSignature:
        raise _bad(
            "proof-of-possession",
            "The request's signature does not fit its public key: proof of possession "
            "failed (RFC 2986 4.2).",
            pointer=pointer,
        ) from None
    except _UNREADABLE as error:
        raise _bad(
            "invalid-csr", f"This is not a PKCS#10 request: {str(error)[:200]}.", pointer=pointer
        ) from None
