"""Opened software keys: one class per family, none of which shows its key."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from ucm.api.errors import Invalid, Unsupported
from ucm.api.keys import KeySpec, SignatureScheme, SigningKey
from ucm_softkeys.algorithms import MLDSAPrivateKey, PrivateKey, names

_RSA: Mapping[SignatureScheme, tuple[AsymmetricPadding, hashes.HashAlgorithm]] = {
    SignatureScheme.RSA_PKCS1_SHA256: (padding.PKCS1v15(), hashes.SHA256()),
    SignatureScheme.RSA_PKCS1_SHA384: (padding.PKCS1v15(), hashes.SHA384()),
    SignatureScheme.RSA_PKCS1_SHA512: (padding.PKCS1v15(), hashes.SHA512()),
    # RFC 4055 3.1: the mask generator uses the same hash; salt as long as the hash.
    SignatureScheme.RSA_PSS_SHA256: (
        padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH),
        hashes.SHA256(),
    ),
    SignatureScheme.RSA_PSS_SHA384: (
        padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH),
        hashes.SHA384(),
    ),
    SignatureScheme.RSA_PSS_SHA512: (
        padding.PSS(padding.MGF1(hashes.SHA512()), padding.PSS.DIGEST_LENGTH),
        hashes.SHA512(),
    ),
}
_ECDSA: Mapping[SignatureScheme, ec.ECDSA] = {
    SignatureScheme.ECDSA_SHA256: ec.ECDSA(hashes.SHA256()),
    SignatureScheme.ECDSA_SHA384: ec.ECDSA(hashes.SHA384()),
    SignatureScheme.ECDSA_SHA512: ec.ECDSA(hashes.SHA512()),
}
_ONE_SCHEME: Mapping[KeySpec, SignatureScheme] = {
    KeySpec.ED25519: SignatureScheme.ED25519,
    KeySpec.ED448: SignatureScheme.ED448,
    KeySpec.ML_DSA_44: SignatureScheme.ML_DSA_44,
    KeySpec.ML_DSA_65: SignatureScheme.ML_DSA_65,
    KeySpec.ML_DSA_87: SignatureScheme.ML_DSA_87,
}


def schemes_of(spec: KeySpec) -> tuple[SignatureScheme, ...]:
    """The signature schemes a key of this kind may use."""
    if spec in _ONE_SCHEME:
        return (_ONE_SCHEME[spec],)
    return tuple(_RSA if spec.name.startswith("RSA") else _ECDSA)


def signing_key(key: PrivateKey, *, spec: KeySpec) -> SigningKey:
    """The key as the core sees it; an RSA key is a `DecryptionKey` too."""
    if isinstance(key, rsa.RSAPrivateKey):
        return RSASigningKey(key, spec=spec)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ECSigningKey(key, spec=spec)
    return OneSchemeSigningKey(key, spec=spec)


def _foreign(spec: KeySpec, scheme: SignatureScheme) -> Unsupported:
    return Unsupported(
        f"A key of the kind {spec.value} cannot sign with {scheme.value}.",
        hint=f"Allowed for this key: {names(schemes_of(spec))}.",
    )


class RSASigningKey:
    """An RSA key (RFC 8017) that signs and decrypts."""

    __slots__ = ("_key", "_public", "spec")

    def __init__(self, key: rsa.RSAPrivateKey, *, spec: KeySpec) -> None:
        self._key = key
        self._public = key.public_key()
        self.spec = spec

    def __repr__(self) -> str:
        return f"<{self.spec.value} software key>"

    def public_key(self) -> CertificatePublicKeyTypes:
        """The public half."""
        return self._public

    def sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        """A PKCS#1 v1.5 or PSS signature. Raises `Unsupported` for a scheme of another family."""
        parameters = _RSA.get(scheme)
        if parameters is None:
            raise _foreign(self.spec, scheme)
        return self._key.sign(data, *parameters)

    def decrypt(self, ciphertext: bytes, *, oaep: bool) -> bytes:
        """RSAES-OAEP with SHA-256, or PKCS#1 v1.5. Raises `Invalid` when it does not decrypt.

        PKCS#1 v1.5 hardly ever fails: for a wrong padding OpenSSL answers with bytes derived from
        the ciphertext, so that the answer is no oracle (Bleichenbacher; RFC 3218 2.3.2).
        """
        scheme: AsymmetricPadding = padding.PKCS1v15()
        if oaep:
            scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
        try:
            return self._key.decrypt(ciphertext, scheme)
        except ValueError:
            raise Invalid("The ciphertext was not made for this key, or it is damaged.") from None


class ECSigningKey:
    """An EC key that signs with ECDSA; signatures are DER (RFC 5480, RFC 5758)."""

    __slots__ = ("_key", "_public", "spec")

    def __init__(self, key: ec.EllipticCurvePrivateKey, *, spec: KeySpec) -> None:
        self._key = key
        self._public = key.public_key()
        self.spec = spec

    def __repr__(self) -> str:
        return f"<{self.spec.value} software key>"

    def public_key(self) -> CertificatePublicKeyTypes:
        """The public half."""
        return self._public

    def sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        """A DER signature. Raises `Unsupported` for a scheme that is not ECDSA."""
        algorithm = _ECDSA.get(scheme)
        if algorithm is None:
            raise _foreign(self.spec, scheme)
        return self._key.sign(data, algorithm)


class OneSchemeSigningKey:
    """A key whose algorithm fixes the scheme: Ed25519, Ed448 (RFC 8410), ML-DSA (RFC 9881)."""

    __slots__ = ("_key", "_public", "_scheme", "spec")

    def __init__(
        self,
        key: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | MLDSAPrivateKey,
        *,
        spec: KeySpec,
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self._scheme = _ONE_SCHEME[spec]
        self.spec = spec

    def __repr__(self) -> str:
        return f"<{self.spec.value} software key>"

    def public_key(self) -> CertificatePublicKeyTypes:
        """The public half."""
        return self._public

    def sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        """The signature. Raises `Unsupported` for any other scheme."""
        if scheme is not self._scheme:
            raise _foreign(self.spec, scheme)
        return self._key.sign(data)
