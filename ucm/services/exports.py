"""Files for people to take away: certificates, chains and keys in the formats of the field.

Pure functions: bytes in, bytes out. Who may have a key, and the audit row about it, are the
callers' business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs7, pkcs12

from ucm.api.errors import Conflict, Invalid, Unsupported

_KDF_ROUNDS = 100_000
_PKCS12_KEYS = (
    rsa.RSAPrivateKey,
    dsa.DSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file to download. ``secret``: it holds key material and must not be cached."""

    filename: str
    media_type: str
    content: bytes = field(repr=False)
    secret: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRequest:
    """What to export and how. ``format`` is pem, der, pkcs12, pfx, pkcs7, p7b, jks or key."""

    format: str = "pem"
    include_chain: bool = False
    include_key: bool = False
    password: str | None = field(default=None, repr=False)

    @property
    def needs_key(self) -> bool:
        """Whether the file will hold the private key."""
        return self.include_key or self.format in ("key", "pkcs12", "pfx", "jks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exportable:
    """A certificate, its issuers from nearest to root (DER), and its key as PKCS#8 DER."""

    name: str
    certificate: bytes = field(repr=False)
    chain: Sequence[bytes] = field(default=(), repr=False)
    key: bytes | None = field(default=None, repr=False)


def file_stem(name: str) -> str:
    """A name that is safe in a Content-Disposition header and in every file system."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("*", "wildcard")).strip("._-")
    return stem[:80] or "certificate"


def pem_certificate(der: bytes) -> bytes:
    """PEM of one certificate."""
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def export(item: Exportable, request: ExportRequest) -> ExportedFile:
    """The file.

    Raises ``Invalid`` for options that the format cannot hold, ``Conflict`` when a key is asked for
    that is not there, ``Unsupported`` for JKS.
    """
    _check(item, request)
    return _WRITERS[request.format](item, request)


def export_many(certificates: Sequence[bytes], *, format: str, name: str) -> ExportedFile:
    """Several certificates in one file, PEM or PKCS#7."""
    if format == "pem":
        content = b"".join(pem_certificate(der) for der in certificates)
        return ExportedFile(f"{file_stem(name)}.pem", "application/x-pem-file", content)
    return ExportedFile(
        f"{file_stem(name)}.p7b", "application/x-pkcs7-certificates", _pkcs7(certificates)
    )


def private_key_pem(pkcs8: bytes, *, password: str | None) -> bytes:
    """PKCS#8 PEM, encrypted (PBES2, AES-256-CBC) when there is a password."""
    key = serialization.load_der_private_key(pkcs8, None, unsafe_skip_rsa_key_validation=True)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _check(item: Exportable, request: ExportRequest) -> None:
    if request.format == "jks":
        raise Unsupported(
            "Java key stores (JKS) cannot be written.",
            hint="Export as pkcs12: every Java since 8 reads it with -storetype PKCS12.",
        )
    if request.format not in _WRITERS:
        raise Invalid.field(
            "/format", "unknown-format", f"Allowed formats: {', '.join(sorted(_WRITERS))}."
        )
    if request.format == "der" and (request.include_chain or request.include_key):
        raise Invalid.field(
            "/format",
            "one-object",
            "A DER file holds one certificate and nothing else.",
            hint="Use pkcs7 or pem for a chain, pkcs12 or pem for a key.",
        )
    if request.format in ("pkcs7", "p7b") and request.include_key:
        raise Invalid.field(
            "/include_key", "no-key-in-pkcs7", "A PKCS#7 file cannot hold a key; use pkcs12."
        )
    if request.format in ("pkcs12", "pfx") and not request.password:
        raise Invalid.field(
            "/password",
            "password-required",
            "A PKCS#12 file needs a password of 4 to 256 characters, sent in the body of a POST.",
        )
    if request.needs_key and item.key is None:
        raise Conflict(
            "There is no private key to export: it was made elsewhere or its key store keeps it.",
            hint="Export without the key, or attach the key first.",
        )


def _pem(item: Exportable, request: ExportRequest) -> ExportedFile:
    parts = [pem_certificate(item.certificate)]
    if request.include_chain:
        parts += [pem_certificate(der) for der in item.chain]
    if request.include_key and item.key is not None:
        parts.append(private_key_pem(item.key, password=request.password))
    return ExportedFile(
        f"{file_stem(item.name)}.pem",
        "application/x-pem-file",
        b"".join(parts),
        secret=request.include_key,
    )


def _der(item: Exportable, request: ExportRequest) -> ExportedFile:
    return ExportedFile(f"{file_stem(item.name)}.der", "application/pkix-cert", item.certificate)


def _key(item: Exportable, request: ExportRequest) -> ExportedFile:
    content = private_key_pem(item.key or b"", password=request.password)
    return ExportedFile(
        f"{file_stem(item.name)}.key", "application/x-pem-file", content, secret=True
    )


def _p7b(item: Exportable, request: ExportRequest) -> ExportedFile:
    certificates = [item.certificate, *(item.chain if request.include_chain else ())]
    return ExportedFile(
        f"{file_stem(item.name)}.p7b", "application/x-pkcs7-certificates", _pkcs7(certificates)
    )


def _pkcs7(certificates: Sequence[bytes]) -> bytes:
    if not certificates:
        raise Conflict("There is nothing to export.")
    return pkcs7.serialize_certificates(
        [x509.load_der_x509_certificate(der) for der in certificates], serialization.Encoding.PEM
    )


def _pkcs12(item: Exportable, request: ExportRequest) -> ExportedFile:
    """RFC 7292 with PBES2 (AES-256-CBC, PBKDF2) and an HMAC with SHA-256."""
    key = serialization.load_der_private_key(
        item.key or b"", None, unsafe_skip_rsa_key_validation=True
    )
    if not isinstance(key, _PKCS12_KEYS):
        raise Unsupported(
            "PKCS#12 files cannot hold this kind of key yet.",
            hint="Export as pem with include_key and a password.",
        )
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_KDF_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build((request.password or "").encode())
    )
    chain = [x509.load_der_x509_certificate(der) for der in item.chain]
    try:
        content = pkcs12.serialize_key_and_certificates(
            item.name.encode(),
            key,
            x509.load_der_x509_certificate(item.certificate),
            chain if request.include_chain and chain else None,
            encryption,
        )
    except UnsupportedAlgorithm as error:
        raise Unsupported(f"PKCS#12 cannot hold this: {error}.") from None
    extension = "pfx" if request.format == "pfx" else "p12"
    return ExportedFile(
        f"{file_stem(item.name)}.{extension}", "application/x-pkcs12", content, secret=True
    )


_WRITERS: dict[str, Callable[[Exportable, ExportRequest], ExportedFile]] = {
    "pem": _pem,
    "der": _der,
    "key": _key,
    "pkcs7": _p7b,
    "p7b": _p7b,
    "pkcs12": _pkcs12,
    "pfx": _pkcs12,
}
