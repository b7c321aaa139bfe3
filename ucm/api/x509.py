"""Certificates as data: serials, fingerprints, loading, usages. Names are in ``ucm.api.names``,
re-exported here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID

from ucm.api.errors import Invalid, TooLarge
from ucm.api.names import (
    build_subject,
    canonical_general_name,
    canonical_names,
    check_subject,
    checked_url,
    common_names,
    general_name_kind,
    general_name_text,
    parse_general_name,
    parse_general_names,
    subject_text,
    upn_name,
    upn_text,
)

__all__ = [
    "ANY_EKU",
    "EKU_NAMES",
    "KEY_USAGES",
    "MAX_INPUT",
    "build_subject",
    "canonical_general_name",
    "canonical_key_usages",
    "canonical_names",
    "check_subject",
    "checked_url",
    "common_names",
    "eku_name",
    "eku_oid",
    "fingerprint",
    "general_name_kind",
    "general_name_text",
    "key_usage",
    "key_usage_names",
    "load_certificate",
    "load_certificates",
    "parse_general_name",
    "parse_general_names",
    "parse_serial",
    "pem",
    "serial_text",
    "signature_algorithm_name",
    "subject_text",
    "upn_name",
    "upn_text",
]

MAX_INPUT = 256 * 1024
"""Largest certificate or request that is read, in bytes."""

# --- serials -------------------------------------------------------------------------------------


def serial_text(serial: int) -> str:
    """The one stored form of a serial: lower-case hex without leading zeros."""
    return f"{serial:x}"


def parse_serial(text: str, *, pointer: str = "/serial") -> int:
    """A serial from hex as people paste it: any case, colons, spaces, leading zeros, ``0x``. Raises
    ``Invalid``."""
    digits = re.sub(r"[:\s]", "", text.strip().lower()).removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,64}", digits):
        raise Invalid.field(pointer, "invalid-serial", "A serial is written in hexadecimal digits.")
    return int(digits, 16)


# --- loading -------------------------------------------------------------------------------------


def pem(certificates: Iterable[bytes]) -> str:
    """PEM text of DER certificates, in order."""
    loaded = (x509.load_der_x509_certificate(der) for der in certificates)
    return "".join(c.public_bytes(Encoding.PEM).decode("ascii") for c in loaded)


def fingerprint(der: bytes, *, algorithm: str = "sha256") -> str:
    """Lower-case hex digest of the DER. SHA-1 serves old displays only."""
    return hashlib.new(algorithm, der, usedforsecurity=False).hexdigest()


def load_certificate(data: bytes, *, pointer: str = "/certificate") -> x509.Certificate:
    """Exactly one certificate, PEM or DER, strict. Raises ``Invalid`` or ``TooLarge``."""
    found = load_certificates(data, pointer=pointer)
    if len(found) != 1:
        raise Invalid.field(
            pointer, "invalid-certificate", f"One certificate is expected, {len(found)} were found."
        )
    return found[0]


def load_certificates(data: bytes, *, pointer: str = "/certificate") -> list[x509.Certificate]:
    """Certificates from PEM (several, also PKCS#7), DER, or PKCS#7 DER, in their order.

    Raises ``TooLarge`` above 256 KiB and ``Invalid`` for what cannot be read, version 1 with
    extensions (RFC 5280 4.1.2.1), and a signature algorithm that differs inside and outside
    (4.1.1.2).
    """
    if len(data) > MAX_INPUT:
        raise TooLarge(
            f"Certificates are read up to {MAX_INPUT // 1024} KiB; this is {len(data)} bytes."
        )
    try:
        found = _load(data)
        for certificate in found:
            _check_structure(certificate, pointer)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Invalid.field(
            pointer,
            "invalid-certificate",
            f"This is not a certificate in PEM, DER or PKCS#7: {str(error)[:200]}.",
        ) from None
    return found


def _load(data: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN" in data:
        if b"-----BEGIN PKCS7-----" in data or b"-----BEGIN CMS-----" in data:
            text = data.replace(b" CMS-----", b" PKCS7-----")
            return list(pkcs7.load_pem_pkcs7_certificates(text))
        text = data.replace(b" X509 CERTIFICATE-----", b" CERTIFICATE-----")
        return list(x509.load_pem_x509_certificates(text))
    try:
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        try:
            return list(pkcs7.load_der_pkcs7_certificates(data))
        except (ValueError, UnsupportedAlgorithm):
            raise error from None


def _check_structure(certificate: x509.Certificate, pointer: str) -> None:
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise Invalid.field(
            pointer, "invalid-certificate", f"The certificate's extensions cannot be read: {error}."
        ) from None
    if certificate.version is not x509.Version.v3 and len(extensions) > 0:
        raise Invalid.field(
            pointer,
            "invalid-certificate",
            "The certificate has extensions but is not version 3 (RFC 5280 4.1.2.1).",
        )


_ALGORITHM_NAMES = {
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}


def signature_algorithm_name(oid: x509.ObjectIdentifier | str) -> str:
    """The RFC's name of a signature algorithm, its dotted OID when unknown."""
    dotted = oid if isinstance(oid, str) else oid.dotted_string
    return _ALGORITHM_NAMES.get(dotted, dotted)


# --- key usage (RFC 5280 4.2.1.3) ----------------------------------------------------------------

KEY_USAGES = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
"""RFC name to the library's argument, in bit order."""

_BY_FOLDED = {
    folded: name
    for name, argument in KEY_USAGES.items()
    for folded in (name.lower(), argument.replace("_", ""))
} | {"contentcommitment": "nonRepudiation"}


def key_usage(names: Iterable[str], *, pointer: str = "/key_usage") -> x509.KeyUsage:
    """The extension value for RFC names. Raises ``Invalid`` when empty, unknown or inconsistent.

    ``encipherOnly`` and ``decipherOnly`` mean something only with ``keyAgreement``.
    """
    wanted = canonical_key_usages(names, pointer=pointer)
    if not wanted:
        raise Invalid.field(
            pointer, "empty-key-usage", "At least one key usage bit must be set (RFC 5280 4.2.1.3)."
        )
    if wanted & {"encipherOnly", "decipherOnly"} and "keyAgreement" not in wanted:
        raise Invalid.field(
            pointer,
            "invalid-key-usage",
            "encipherOnly and decipherOnly need keyAgreement (RFC 5280 4.2.1.3).",
        )
    return x509.KeyUsage(**{argument: rfc in wanted for rfc, argument in KEY_USAGES.items()})


def canonical_key_usages(names: Iterable[str], *, pointer: str = "/key_usage") -> frozenset[str]:
    """RFC names from RFC, snake-case or lower-case spellings. Raises ``Invalid`` for others."""
    found = set()
    for name in names:
        rfc = _BY_FOLDED.get(name.replace("_", "").replace("-", "").lower())
        if rfc is None:
            raise Invalid.field(
                pointer,
                "invalid-key-usage",
                f"The key usage {name[:40]!a} is not known; use {', '.join(KEY_USAGES)}.",
            )
        found.add(rfc)
    return frozenset(found)


def key_usage_names(usage: x509.KeyUsage) -> frozenset[str]:
    """The RFC names of the bits that are set."""
    names = {
        rfc
        for rfc, argument in KEY_USAGES.items()
        if not argument.endswith("_only") and getattr(usage, argument)
    }
    if usage.key_agreement:
        names |= {n for n in ("encipherOnly", "decipherOnly") if getattr(usage, KEY_USAGES[n])}
    return frozenset(names)


# --- extended key usage (RFC 5280 4.2.1.12) ------------------------------------------------------

ANY_EKU = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string

EKU_NAMES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.5": "ipsecEndSystem",
    "1.3.6.1.5.5.7.3.6": "ipsecTunnel",
    "1.3.6.1.5.5.7.3.7": "ipsecUser",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "1.3.6.1.5.5.7.3.17": "ipsecIKE",
    "1.3.6.1.5.5.7.3.21": "sshClient",
    "1.3.6.1.5.5.7.3.22": "sshServer",
    "1.3.6.1.5.5.7.3.27": "cmcCA",
    "1.3.6.1.5.5.7.3.28": "cmcRA",
    "1.3.6.1.5.5.7.3.36": "documentSigning",
    "1.3.6.1.5.5.8.2.2": "iKEIntermediate",
    "1.3.6.1.5.2.3.4": "pkinitClient",
    "1.3.6.1.5.2.3.5": "pkinitKDC",
    "1.3.6.1.4.1.311.10.3.1": "msCTLSigning",
    "1.3.6.1.4.1.311.10.3.3": "msSGC",
    "1.3.6.1.4.1.311.10.3.4": "msEFS",
    "1.3.6.1.4.1.311.10.3.12": "msDocumentSigning",
    "1.3.6.1.4.1.311.10.3.13": "msLifetimeSigning",
    "1.3.6.1.4.1.311.20.2.2": "smartcardLogon",
    "1.3.6.1.4.1.311.54.1.2": "msRemoteDesktop",
    "1.3.6.1.4.1.311.2.1.21": "msIndividualCodeSigning",
    "1.3.6.1.4.1.311.2.1.22": "msCommercialCodeSigning",
    "1.3.6.1.4.1.311.61.1.1": "msKernelCodeSigning",
    "2.16.840.1.113730.4.1": "netscapeSGC",
    "1.3.6.1.4.1.311.60.1.1": "evSSLServer",
    "1.2.840.113635.100.4.1": "appleCodeSigning",
    "1.2.840.113635.100.4.13": "appleDeveloperID",
    ANY_EKU: "anyExtendedKeyUsage",
}
"""The known purposes: dotted OID to name."""

_EKU_BY_NAME = {name.lower(): oid for oid, name in EKU_NAMES.items()}
_DOTTED = re.compile(r"[0-2](?:\.(?:0|[1-9]\d{0,18})){1,30}")


def eku_name(oid: str) -> str:
    """The name of a purpose, its dotted OID when unknown."""
    return EKU_NAMES.get(oid, oid)


def eku_oid(text: str, *, pointer: str = "/extended_key_usage") -> str:
    """The dotted OID of a purpose given by name (any case, ``-`` and ``_`` ignored) or OID. Raises
    ``Invalid``."""
    value = text.strip()
    known = _EKU_BY_NAME.get(value.replace("_", "").replace("-", "").lower())
    if known is not None:
        return known
    if _DOTTED.fullmatch(value):
        try:
            return x509.ObjectIdentifier(value).dotted_string
        except ValueError:
            pass
    raise Invalid.field(
        pointer,
        "invalid-eku",
        f"The extended key usage {value[:60]!a} is neither a known name nor a dotted OID.",
        hint="GET /api/v2/eku/known lists the names.",
    )
