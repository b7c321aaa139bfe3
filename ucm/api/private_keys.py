"""The bridge between ``SigningKey`` and ``cryptography``: any backend's key can sign what its
builders build."""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from ucm.api.errors import Unsupported
from ucm.api.keys import DecryptionKey, KeySpec, SignatureScheme, SigningKey
from ucm.api.publickeys import spec_of

_DIGESTS = ("sha256", "sha384", "sha512")
_AUTO_DIGEST = {KeySpec.EC_P384: "sha384", KeySpec.EC_P521: "sha512"}
_FIXED = {
    KeySpec.ED25519: SignatureScheme.ED25519,
    KeySpec.ED448: SignatureScheme.ED448,
    KeySpec.ML_DSA_44: SignatureScheme.ML_DSA_44,
    KeySpec.ML_DSA_65: SignatureScheme.ML_DSA_65,
    KeySpec.ML_DSA_87: SignatureScheme.ML_DSA_87,
}
_SHA2 = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
_HASHES: dict[str, type[_SHA2]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


def scheme_for(
    key: object | KeySpec, *, digest: str = "auto", pss: bool = False
) -> SignatureScheme:
    """How a key of this kind signs.

    ``digest`` ``auto`` takes SHA-256, with P-384 SHA-384 and with P-521 SHA-512 (RFC 5758, BR
    7.1.3.2.2). It is ignored for Ed25519, Ed448 and ML-DSA, which bring their own. Raises
    ``Unsupported`` for other digests and keys.
    """
    spec = key if isinstance(key, KeySpec) else spec_of(key)
    if spec is None:
        raise Unsupported(f"A key of the kind {type(key).__name__} cannot sign certificates.")
    if spec in _FIXED:
        return _FIXED[spec]
    if digest == "auto":
        digest = _AUTO_DIGEST.get(spec, "sha256")
    if digest not in _DIGESTS:
        raise Unsupported(
            f"The digest {digest!r} is not accepted for signatures.",
            hint=f"Use auto or one of {', '.join(_DIGESTS)}.",
        )
    if spec.value.startswith("EC-"):
        return SignatureScheme(f"ecdsa-{digest}")
    return SignatureScheme(f"rsa-{'pss' if pss else 'pkcs1'}-{digest}")


@cache
def hash_of(scheme: SignatureScheme) -> _SHA2 | None:
    """The hash a ``cryptography`` builder wants for the scheme; ``None`` for Ed25519, Ed448 and
    ML-DSA."""
    made = _HASHES.get(scheme.value.rpartition("-")[2])
    return None if made is None else made()


@cache
def rsa_padding_of(scheme: SignatureScheme) -> padding.PSS | padding.PKCS1v15 | None:
    """The padding of an RSA scheme (PSS: MGF1 and salt of the digest's size, RFC 8017 9.1), else
    ``None``."""
    if scheme.value.startswith("rsa-pss-"):
        digest = hash_of(scheme)
        assert digest is not None  # noqa: S101  # every PSS scheme names its digest
        return padding.PSS(padding.MGF1(digest), digest.digest_size)
    return padding.PKCS1v15() if scheme.value.startswith("rsa-") else None


def verify(public_key: object, *, signature: bytes, data: bytes, scheme: SignatureScheme) -> None:
    """Check a signature. Raises ``cryptography.exceptions.InvalidSignature``; ``Unsupported`` for a
    foreign scheme."""
    digest = hash_of(scheme)
    match public_key:
        case rsa.RSAPublicKey():
            chosen = rsa_padding_of(scheme)
            if chosen is not None and digest is not None:
                public_key.verify(signature, data, chosen, digest)
                return
        case ec.EllipticCurvePublicKey():
            if digest is not None:
                public_key.verify(signature, data, ec.ECDSA(digest))
                return
        case (
            ed25519.Ed25519PublicKey()
            | ed448.Ed448PublicKey()
            | mldsa.MLDSA44PublicKey()
            | mldsa.MLDSA65PublicKey()
            | mldsa.MLDSA87PublicKey()
        ):
            if scheme_for(public_key) is scheme:
                public_key.verify(signature, data)
                return
        case _:
            pass
    raise Unsupported(f"{type(public_key).__name__} does not verify {scheme.value}.")


class _Adapter:
    """What all adapters share: they hold an opened key and give nothing away."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self._public: Any = key.public_key()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def public_key(self) -> Any:
        """The public half."""
        return self._public

    def private_bytes(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Never: the key stays where it is."""
        raise Unsupported("This key signs through its backend and cannot be written out.")

    def private_bytes_raw(self) -> NoReturn:
        """Never: the key stays where it is."""
        raise Unsupported("This key signs through its backend and cannot be written out.")

    def private_numbers(self) -> NoReturn:
        """Never: the key stays where it is."""
        raise Unsupported("This key signs through its backend and cannot be written out.")


def _digest_name(algorithm: object) -> str:
    name = getattr(algorithm, "name", "prehashed data")
    if name not in _DIGESTS:
        raise Unsupported(f"Keys in a backend sign with {', '.join(_DIGESTS)}, not with {name}.")
    return str(name)


class RSASigner(_Adapter, rsa.RSAPrivateKey):
    """An RSA key behind a backend."""

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return int(self._public.key_size)

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        """Sign whole data with PKCS#1 v1.5 or PSS."""
        kind = "pss" if padding.name == "EMSA-PSS" else "pkcs1"
        scheme = SignatureScheme(f"rsa-{kind}-{_digest_name(algorithm)}")
        return self._key.sign(bytes(data), scheme)

    def decrypt(self, ciphertext: bytes, padding: Any) -> bytes:
        """Decrypt when the backend can. Raises ``Unsupported`` otherwise."""
        if not isinstance(self._key, DecryptionKey):
            raise Unsupported("This key's backend does not decrypt.")
        return self._key.decrypt(ciphertext, oaep=padding.name != "EMSA-PKCS1-v1_5")


class ECSigner(_Adapter, ec.EllipticCurvePrivateKey):
    """An EC key behind a backend."""

    @property
    def key_size(self) -> int:
        """Bits of the field."""
        return int(self._public.key_size)

    @property
    def curve(self) -> ec.EllipticCurve:
        """The named curve."""
        curve: ec.EllipticCurve = self._public.curve
        return curve

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:
        """Sign whole data with ECDSA."""
        digest = _digest_name(signature_algorithm.algorithm)
        return self._key.sign(bytes(data), SignatureScheme(f"ecdsa-{digest}"))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Never: backends sign only."""
        raise Unsupported("This key's backend does not agree on keys.")


class Ed25519Signer(_Adapter, ed25519.Ed25519PrivateKey):
    """An Ed25519 key behind a backend."""

    def sign(self, data: Any) -> bytes:
        """Sign whole data."""
        return self._key.sign(bytes(data), SignatureScheme.ED25519)


class Ed448Signer(_Adapter, ed448.Ed448PrivateKey):
    """An Ed448 key behind a backend."""

    def sign(self, data: Any) -> bytes:
        """Sign whole data."""
        return self._key.sign(bytes(data), SignatureScheme.ED448)


class _MLDSASigner(_Adapter):
    scheme: SignatureScheme

    def sign(self, data: Any, context: Any = None) -> bytes:
        """Sign whole data (RFC 9881: pure ML-DSA, empty context)."""
        if context:
            raise Unsupported("Certificates are signed with an empty ML-DSA context (RFC 9881).")
        return self._key.sign(bytes(data), self.scheme)

    def sign_mu(self, mu: Any) -> NoReturn:
        """Never: backends get the whole data."""
        raise Unsupported("Keys in a backend sign whole data, not its digest.")


class MLDSA44Signer(_MLDSASigner, mldsa.MLDSA44PrivateKey):
    """An ML-DSA-44 key behind a backend."""

    scheme = SignatureScheme.ML_DSA_44


class MLDSA65Signer(_MLDSASigner, mldsa.MLDSA65PrivateKey):
    """An ML-DSA-65 key behind a backend."""

    scheme = SignatureScheme.ML_DSA_65


class MLDSA87Signer(_MLDSASigner, mldsa.MLDSA87PrivateKey):
    """An ML-DSA-87 key behind a backend."""

    scheme = SignatureScheme.ML_DSA_87


_SIGNERS: tuple[tuple[type, type[Any]], ...] = (
    (rsa.RSAPublicKey, RSASigner),
    (ec.EllipticCurvePublicKey, ECSigner),
    (ed25519.Ed25519PublicKey, Ed25519Signer),
    (ed448.Ed448PublicKey, Ed448Signer),
    (mldsa.MLDSA44PublicKey, MLDSA44Signer),
    (mldsa.MLDSA65PublicKey, MLDSA65Signer),
    (mldsa.MLDSA87PublicKey, MLDSA87Signer),
)


def as_private_key(key: SigningKey) -> CertificateIssuerPrivateKeyTypes:
    """The opened key as the private-key class that ``cryptography`` signs certificates, CSRs, CRLs,
    OCSP and CMS with.

    It is good while the key is open. It cannot be exported. Raises ``Unsupported`` for other kinds
    of key.
    """
    public = key.public_key()
    for kind, signer in _SIGNERS:
        if isinstance(public, kind):
            made: CertificateIssuerPrivateKeyTypes = signer(key)
            return made
    raise Unsupported(f"A key of the kind {type(public).__name__} cannot sign certificates.")
