"""Making private keys of every `KeySpec` with `cryptography`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa

from ucm.api.errors import Unsupported
from ucm.api.keys import KeySpec, SignatureScheme

MLDSAPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | MLDSAPrivateKey
)

_EXPONENT = 65537

_MAKERS: Mapping[KeySpec, Callable[[], PrivateKey]] = {
    KeySpec.RSA_2048: functools.partial(rsa.generate_private_key, _EXPONENT, 2048),
    KeySpec.RSA_3072: functools.partial(rsa.generate_private_key, _EXPONENT, 3072),
    KeySpec.RSA_4096: functools.partial(rsa.generate_private_key, _EXPONENT, 4096),
    KeySpec.RSA_8192: functools.partial(rsa.generate_private_key, _EXPONENT, 8192),
    KeySpec.EC_P256: functools.partial(ec.generate_private_key, ec.SECP256R1()),
    KeySpec.EC_P384: functools.partial(ec.generate_private_key, ec.SECP384R1()),
    KeySpec.EC_P521: functools.partial(ec.generate_private_key, ec.SECP521R1()),
    KeySpec.ED25519: ed25519.Ed25519PrivateKey.generate,
    KeySpec.ED448: ed448.Ed448PrivateKey.generate,
    KeySpec.ML_DSA_44: mldsa.MLDSA44PrivateKey.generate,
    KeySpec.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate,
    KeySpec.ML_DSA_87: mldsa.MLDSA87PrivateKey.generate,
}


@functools.cache
def available_specs() -> tuple[KeySpec, ...]:
    """Every `KeySpec` that the installed `cryptography` can make; ML-DSA depends on its OpenSSL."""
    return tuple(spec for spec in KeySpec if not spec.name.startswith("ML_DSA") or _can_make(spec))


def _can_make(spec: KeySpec) -> bool:
    try:
        _MAKERS[spec]()
    except UnsupportedAlgorithm:
        return False
    return True


def make(spec: KeySpec) -> PrivateKey:
    """A new private key. Raises `Unsupported` for a spec that is not available here."""
    if spec not in available_specs():
        raise Unsupported(
            f"The installed cryptography library cannot make {spec.value} keys.",
            hint=f"Available here: {names(available_specs())}.",
        )
    return _MAKERS[spec]()


def names(members: Iterable[KeySpec | SignatureScheme]) -> str:
    """The values of enum members as one readable list."""
    return ", ".join(member.value for member in members)
