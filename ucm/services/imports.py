"""Reading what people bring: certificates and keys in PEM, DER, PKCS#7 or PKCS#12.

Pure functions. What comes out was parsed strictly; nothing was stored, and no signature of a
certificate was trusted.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import datetime

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs12

from ucm.api.errors import Invalid, TooLarge
from ucm.api.keys import KeySpec
from ucm.api.publickeys import accepted_spec
from ucm.api.x509 import load_certificates, signature_algorithm_name

MAX_MATERIAL = 1024 * 1024

_PEM_KEY = re.compile(
    rb"-----BEGIN ((?:ENCRYPTED |RSA |EC )?PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)
_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE|PKCS7|CMS)-----.*?-----END \1-----", re.DOTALL
)
_WEAK_SIGNATURES = {
    "1.2.840.113549.1.1.2": "MD2",
    "1.2.840.113549.1.1.4": "MD5",
    "1.2.840.113549.1.1.5": "SHA-1",
    "1.2.840.10040.4.3": "SHA-1",
    "1.2.840.10045.4.1": "SHA-1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedMaterial:
    """What a file held: the certificate it is about, the ``others`` in order, and its private key.

    ``key`` is unencrypted PKCS#8 DER.
    """

    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...] = ()
    key: bytes | None = field(default=None, repr=False)


def read_material(
    data: bytes, *, password: str | None = None, pointer: str = "/file"
) -> ImportedMaterial:
    """Read a file with at least one certificate and at most one key.

    Raises ``TooLarge`` above 1 MiB; ``Invalid`` for unreadable data, a missing or wrong password,
    and a key that belongs to none of the certificates.
    """
    if len(data) > MAX_MATERIAL:
        raise TooLarge(
            f"Files are read up to {MAX_MATERIAL // 1024} KiB; this has {len(data)} bytes."
        )
    if not data.strip():
        raise Invalid.field(pointer, "empty", "The file is empty.")
    if b"-----BEGIN" in data:
        certificates, key = _from_pem(data, password, pointer)
    elif _is_pfx(data):
        certificates, key = _from_pkcs12(data, password, pointer)
    else:
        certificates, key = load_certificates(data, pointer=pointer), None
    if not certificates:
        raise Invalid.field(pointer, "no-certificate", "There is no certificate in this file.")
    return _select(certificates, key, pointer)


def read_private_key(data: str, *, password: str | None, pointer: str = "/key") -> bytes:
    """A private key (PEM, or base64 of DER) as unencrypted PKCS#8 DER.

    Raises ``Invalid`` for what cannot be read, a wrong password, and kinds that are not accepted.
    """
    raw = data.encode("utf-8", "replace")
    if b"-----BEGIN" in raw:
        blocks = [match.group(0) for match in _PEM_KEY.finditer(raw)]
        if len(blocks) != 1:
            raise Invalid.field(
                pointer, "invalid-key", f"One private key is expected, {len(blocks)} were found."
            )
        return _pkcs8(_load_key(blocks[0], password, pointer, pem=True), pointer)
    try:
        der = base64.b64decode(re.sub(rb"\s", b"", raw), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid.field(
            pointer, "invalid-key", "A private key is given as PEM or as base64 of its DER."
        ) from None
    return _pkcs8(_load_key(der, password, pointer, pem=False), pointer)


def public_key_of(pkcs8: bytes) -> bytes:
    """SubjectPublicKeyInfo DER of a private key."""
    key = serialization.load_der_private_key(pkcs8, None, unsafe_skip_rsa_key_validation=True)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_of(certificate: x509.Certificate) -> bytes:
    """SubjectPublicKeyInfo DER of a certificate, also of algorithms the library does not know."""
    try:
        key = certificate.public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, ValueError):
        parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
        info: bytes = parsed["tbs_certificate"]["subject_public_key_info"].dump()
        return info


def check_authority(certificate: x509.Certificate, *, now: datetime, pointer: str) -> KeySpec:
    """Refuse what may not act as an authority here; returns the kind of the certificate's key.

    Raises ``Invalid`` when it is expired, not a CA certificate (RFC 5280 4.2.1.9), may not sign
    certificates (4.2.1.3), was signed with MD5 or SHA-1, is self-signed wrongly, or has a weak key.
    """
    if certificate.not_valid_after_utc <= now:
        raise Invalid.field(
            pointer,
            "expired",
            f"This certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}.",
            hint="Import the renewed certificate of the authority.",
        )
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_ca = constraints.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise Invalid.field(
            pointer,
            "not-a-ca",
            "This is no CA certificate: its basic constraints lack CA:TRUE (RFC 5280 4.2.1.9).",
            hint="Import it with POST /api/v2/certificates/import.",
        )
    _check_key_usage(certificate, pointer)
    _check_signature(certificate, pointer)
    return accepted_spec(spki_of(certificate))


def _check_key_usage(certificate: x509.Certificate, pointer: str) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise Invalid.field(
            pointer,
            "no-cert-sign",
            "The key usage of this certificate lacks keyCertSign (RFC 5280 4.2.1.3).",
        )


def _check_signature(certificate: x509.Certificate, pointer: str) -> None:
    weak = _WEAK_SIGNATURES.get(certificate.signature_algorithm_oid.dotted_string)
    self_issued = certificate.subject == certificate.issuer
    # Nobody relies on a root's own signature, so SHA-1 is bearable there; MD5 never is.
    if weak is not None and (weak != "SHA-1" or not self_issued):
        name = signature_algorithm_name(certificate.signature_algorithm_oid)
        raise Invalid.field(
            pointer,
            "weak-signature",
            f"This certificate was signed with {weak} ({name}), which can be forged.",
        )
    if self_issued and weak is None:
        try:
            certificate.verify_directly_issued_by(certificate)
        except (InvalidSignature, ValueError, TypeError):
            raise Invalid.field(
                pointer,
                "bad-signature",
                "Subject and issuer are the same, but the signature is not by its own key.",
            ) from None
        except UnsupportedAlgorithm as error:
            raise Invalid.field(pointer, "unknown-algorithm", f"{error}") from None


def _from_pem(
    data: bytes, password: str | None, pointer: str
) -> tuple[list[x509.Certificate], bytes | None]:
    certificates: list[x509.Certificate] = []
    for match in _PEM_CERTIFICATE.finditer(data):
        certificates += load_certificates(match.group(0), pointer=pointer)
    keys = [match.group(0) for match in _PEM_KEY.finditer(data)]
    if len(keys) > 1:
        raise Invalid.field(
            pointer, "several-keys", "There is more than one private key in this file."
        )
    if not keys:
        return certificates, None
    return certificates, _pkcs8(_load_key(keys[0], password, pointer, pem=True), pointer)


def _is_pfx(data: bytes) -> bool:
    """PFX ::= SEQUENCE { version INTEGER {v3(3)}, ... } (RFC 7292 4)."""
    if len(data) < 8 or data[0] != 0x30:
        return False
    header = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
    return data[header : header + 3] == b"\x02\x01\x03"


def _from_pkcs12(
    data: bytes, password: str | None, pointer: str
) -> tuple[list[x509.Certificate], bytes | None]:
    try:
        content = pkcs12.load_pkcs12(data, password.encode() if password is not None else None)
    except UnsupportedAlgorithm as error:
        raise Invalid.field(
            pointer, "unknown-algorithm", f"This PKCS#12 file cannot be read: {error}"
        ) from None
    except (ValueError, TypeError):
        if password is None:
            raise _password_required("PKCS#12 file") from None
        raise Invalid.field(
            "/password",
            "wrong-password",
            "The password does not open this PKCS#12 file, or it is damaged.",
        ) from None
    found = [entry.certificate for entry in (content.cert, *content.additional_certs) if entry]
    certificates: list[x509.Certificate] = []
    for certificate in found:
        certificates += load_certificates(certificate.public_bytes(Encoding.DER), pointer=pointer)
    return certificates, None if content.key is None else _pkcs8(content.key, pointer)


def _password_required(what: str) -> Invalid:
    return Invalid.field(
        "/password", "password-required", f"The {what} is encrypted; send its password."
    )


def _load_key(data: bytes, password: str | None, pointer: str, *, pem: bool) -> PrivateKeyTypes:
    secret = password.encode() if password else None
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    try:
        return load(data, secret)
    except TypeError:
        if secret is None:
            raise _password_required("private key") from None
        # A password for a key that is not encrypted: nothing is gained by refusing it.
        return _load_key(data, None, pointer, pem=pem)
    except UnsupportedAlgorithm:
        raise Invalid.field(
            pointer, "unknown-algorithm", "This kind of private key or its encryption is not known."
        ) from None
    except ValueError:
        if secret is not None:
            raise Invalid.field(
                "/password",
                "wrong-password",
                "The password does not open this key, or it is damaged.",
            ) from None
        raise Invalid.field(pointer, "invalid-key", "The private key cannot be read.") from None


def _pkcs8(key: PrivateKeyTypes, pointer: str) -> bytes:
    try:
        der = key.private_bytes(
            Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        accepted_spec(public_key_of(der))
    except ValueError:
        raise Invalid.field(
            pointer, "unknown-algorithm", "This kind of key cannot be kept."
        ) from None
    except Invalid as error:
        raise Invalid.field(pointer, "weak-key", error.detail, hint=error.hint) from None
    return der


def _select(
    certificates: list[x509.Certificate], key: bytes | None, pointer: str
) -> ImportedMaterial:
    """The certificate of the key; without a key the one that issued none of the others."""
    if key is not None:
        spki = public_key_of(key)
        matching = [c for c in certificates if spki_of(c) == spki]
        if not matching:
            raise Invalid.field(
                pointer,
                "key-mismatch",
                "The private key belongs to none of the certificates in this file.",
            )
        chosen = matching[0]
    else:
        issuers = {c.issuer.public_bytes() for c in certificates if c.issuer != c.subject}
        leaves = [c for c in certificates if c.subject.public_bytes() not in issuers]
        chosen = (leaves or certificates)[0]
    others = tuple(c for c in certificates if c is not chosen)
    return ImportedMaterial(certificate=chosen, others=others, key=key)
