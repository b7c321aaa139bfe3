"""Which public keys UCM accepts, whoever brings them (RFC 3279, 5480, 8410, 9881; CA/B BR 6.1.1.3,
6.1.5)."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, mlkem, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from ucm.api.der import content_of, end_of
from ucm.api.errors import Invalid
from ucm.api.keys import KeySpec

ALLOWED_KEYS = ", ".join(spec.value for spec in KeySpec)

_RSA_SIZES = {
    2048: KeySpec.RSA_2048,
    3072: KeySpec.RSA_3072,
    4096: KeySpec.RSA_4096,
    8192: KeySpec.RSA_8192,
}
_CURVES: dict[str, KeySpec] = {
    "secp256r1": KeySpec.EC_P256,
    "secp384r1": KeySpec.EC_P384,
    "secp521r1": KeySpec.EC_P521,
}
_OTHER: tuple[tuple[type, KeySpec], ...] = (
    (ed25519.Ed25519PublicKey, KeySpec.ED25519),
    (ed448.Ed448PublicKey, KeySpec.ED448),
    (mldsa.MLDSA44PublicKey, KeySpec.ML_DSA_44),
    (mldsa.MLDSA65PublicKey, KeySpec.ML_DSA_65),
    (mldsa.MLDSA87PublicKey, KeySpec.ML_DSA_87),
)
_KEM = (mlkem.MLKEM768PublicKey, mlkem.MLKEM1024PublicKey)
_MIN_EXPONENT = 65537
_FERMAT_ROUNDS = 100


def _primes(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % d for d in range(2, math.isqrt(n) + 1))]


_SMALL_PRIMES = math.prod(_primes(752))


def _roca_residues() -> dict[int, frozenset[int]]:
    """For each prime, what a modulus from the broken generator can leave (CVE-2017-15361).

    Its primes are ``k*M + 65537**a mod M`` with ``M`` the product of small primes, so that the
    modulus lies in the subgroup of 65537 for every one of them. Where that is the whole group the
    prime tells nothing.
    """
    residues = {}
    for prime in _primes(168)[1:]:
        subgroup, power = set(), 1
        while power not in subgroup:
            subgroup.add(power)
            power = power * 65537 % prime
        if len(subgroup) < prime - 1:
            residues[prime] = frozenset(subgroup)
    return residues


_ROCA = _roca_residues()


def _is_roca(modulus: int) -> bool:
    return all(modulus % prime in subgroup for prime, subgroup in _ROCA.items())


def _has_close_primes(modulus: int) -> bool:
    """Fermat's factorisation finds the factors within a few rounds (CVE-2022-26320)."""
    a = math.isqrt(modulus - 1) + 1
    square = a * a - modulus
    for _ in range(_FERMAT_ROUNDS):
        if square & 15 in (0, 1, 4, 9) and math.isqrt(square) ** 2 == square:
            return True
        square += 2 * a + 1
        a += 1
    return False


def _refuse(pointer: str, code: str, detail: str, hint: str | None = None) -> Invalid:
    return Invalid.field(pointer, code, detail, hint=hint or f"Use one of {ALLOWED_KEYS}.")


def _rsa_spec(key: rsa.RSAPublicKey, pointer: str) -> KeySpec:
    numbers = key.public_numbers()
    spec = _RSA_SIZES.get(key.key_size)
    if key.key_size < 2048:
        raise _refuse(
            pointer,
            "key-too-weak",
            f"The RSA key has {key.key_size} bits; at least 2048 are required (BR 6.1.5).",
        )
    if spec is None:
        raise _refuse(
            pointer,
            "key-size",
            f"An RSA key of {key.key_size} bits is not accepted; sizes are 2048, 3072, "
            "4096 and 8192.",
        )
    if numbers.e < _MIN_EXPONENT or numbers.e % 2 == 0 or numbers.e.bit_length() > 256:
        raise _refuse(
            pointer,
            "key-too-weak",
            f"The RSA public exponent {numbers.e if numbers.e < 2**32 else 'given'} is "
            "not accepted; "
            "it must be odd and at least 65537 (BR 6.1.6).",
            "Make a new RSA key with the exponent 65537.",
        )
    weakness = None
    if math.gcd(numbers.n, _SMALL_PRIMES) != 1:
        weakness = "its modulus has a small factor"
    elif _is_roca(numbers.n):
        weakness = "its modulus carries the ROCA fingerprint (CVE-2017-15361)"
    elif _has_close_primes(numbers.n):
        weakness = "its primes are too close to each other (CVE-2022-26320)"
    if weakness:
        raise _refuse(
            pointer,
            "key-too-weak",
            f"The RSA key is known to be weak: {weakness}.",
            "Make a new key with current software.",
        )
    return spec


def spec_of(key: object) -> KeySpec | None:
    """The ``KeySpec`` of a public key object, ``None`` when its kind or size is not one of them.
    Checks nothing else."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_SIZES.get(key.key_size)
    return next((spec for kind, spec in _OTHER if isinstance(key, kind)), None)


def spki_der(key: CertificatePublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo of a key, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_encoding(key: CertificatePublicKeyTypes, spki: bytes, pointer: str) -> None:
    """The library reads explicit EC parameters and forgets them, so the bytes are compared (RFC
    5480 2.1.1)."""
    if spki_der(key) == spki:
        return
    if isinstance(key, ec.EllipticCurvePublicKey):
        # A named curve is an OID inside an AlgorithmIdentifier of at most 21 octets.
        if b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06" in spki[:24]:
            raise _refuse(
                pointer,
                "ec-point-format",
                "The EC point is not in uncompressed form (RFC 5480 2.2).",
                "Encode the public key with an uncompressed point.",
            )
        raise _refuse(
            pointer,
            "ec-explicit-parameters",
            "The EC key spells out its curve parameters; only named curves are accepted "
            "(RFC 5480 2.1.1).",
            "Make the key with a named curve: P-256, P-384 or P-521.",
        )
    raise _refuse(
        pointer,
        "key-encoding",
        "The public key is not encoded as RFC 3279 and RFC 8410 say (algorithm "
        "identifier and its parameters).",
        "RSA keys use the rsaEncryption identifier with NULL parameters.",
    )


@lru_cache(maxsize=512)
def load_spki(spki: bytes) -> PublicKeyTypes:
    """The key object of a SubjectPublicKeyInfo, loaded once. Raises what the library raises."""
    return load_der_public_key(spki)


def key_identifier(spki: bytes) -> bytes:
    """SHA-1 of the subjectPublicKey of a SubjectPublicKeyInfo in DER (RFC 5280 4.2.1.2 method 1).
    It names a key and protects nothing."""
    start = content_of(spki, end_of(spki, content_of(spki)))
    bits = spki[start + 1 :]  # the first octet counts unused bits
    return hashlib.sha1(bits, usedforsecurity=False).digest()


@lru_cache(maxsize=512)
def accepted_spec(spki: bytes, *, pointer: str = "/public_key") -> KeySpec:
    """The kind of a SubjectPublicKeyInfo (DER) that may be certified.

    Raises ``Invalid`` at ``pointer`` for other algorithms and sizes, RSA exponents below 65537,
    explicit EC parameters, other encodings, and keys known to be weak (small factors, ROCA, close
    primes).
    """
    try:
        key = load_spki(spki)
    except UnsupportedAlgorithm:
        raise _refuse(
            pointer, "key-algorithm", "The public key's algorithm is not known."
        ) from None
    except ValueError:
        raise _refuse(
            pointer,
            "key-algorithm",
            "The public key cannot be read, or its algorithm or curve is not accepted.",
        ) from None
    if isinstance(key, rsa.RSAPublicKey):
        spec: KeySpec | None = _rsa_spec(key, pointer)
    elif isinstance(key, _KEM):
        raise _refuse(
            pointer,
            "key-algorithm",
            "An ML-KEM key cannot sign, so that a request cannot prove its possession (RFC 9935).",
        )
    else:
        spec = spec_of(key)
    if spec is None:
        name = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise _refuse(pointer, "key-algorithm", f"Keys of the kind {name} are not accepted.")
    _check_encoding(key, spki, pointer)  # type: ignore[arg-type]  # the kinds with a KeySpec only
    return spec


def spki_sha256(spki: bytes) -> str:
    """Hex SHA-256 of a SubjectPublicKeyInfo: the identity of a key pair in look-ups."""
    return hashlib.sha256(spki).hexdigest()
