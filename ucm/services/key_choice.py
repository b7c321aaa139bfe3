"""Which key to make, from the ways in which clients name it; only what ``KeySpec`` lists."""

from __future__ import annotations

import re

from ucm.api.errors import Invalid
from ucm.api.keys import KeySpec

_ALLOWED = ", ".join(spec.value for spec in KeySpec)
_RSA = {
    2048: KeySpec.RSA_2048,
    3072: KeySpec.RSA_3072,
    4096: KeySpec.RSA_4096,
    8192: KeySpec.RSA_8192,
}
_CURVES = {
    "256": KeySpec.EC_P256,
    "p256": KeySpec.EC_P256,
    "prime256v1": KeySpec.EC_P256,
    "secp256r1": KeySpec.EC_P256,
    "nistp256": KeySpec.EC_P256,
    "384": KeySpec.EC_P384,
    "p384": KeySpec.EC_P384,
    "secp384r1": KeySpec.EC_P384,
    "nistp384": KeySpec.EC_P384,
    "521": KeySpec.EC_P521,
    "p521": KeySpec.EC_P521,
    "secp521r1": KeySpec.EC_P521,
    "nistp521": KeySpec.EC_P521,
}
_WHOLE = {spec.value.lower().replace("-", ""): spec for spec in KeySpec}
_SEPARATORS = re.compile(r"[\s_-]+")


def choose_key(
    key_type: str | None,
    *,
    size: int | str | None = None,
    curve: str | None = None,
    default: KeySpec,
) -> KeySpec:
    """The key for ``key_type`` (``rsa``, ``RSA 2048``, ``EC-P256``, ``ed25519``, ...) with a
    size or curve.

    Raises ``Invalid`` with the list of what is allowed, before any library is asked to make a key.
    """
    if key_type is None:
        if size is None and curve is None:
            return default
        key_type = "ec" if curve is not None or not _is_number(size) else "rsa"
    folded = _SEPARATORS.sub("", key_type.lower())
    whole = _WHOLE.get(folded)
    if whole is not None:
        _refuse_contradiction(whole, size, curve)
        return whole
    if folded == "rsa":
        return _rsa(size, curve)
    if folded in ("ec", "ecdsa", "ecc"):
        return _elliptic(size, curve)
    for prefix in ("ecdsa", "ec"):
        named = _CURVES.get(folded.removeprefix(prefix))
        if folded.startswith(prefix) and named is not None:
            _refuse_contradiction(named, size, curve)
            return named
    raise _refused("/key_type", f"The key type {key_type[:40]!a} is not allowed.")


def _rsa(size: int | str | None, curve: str | None) -> KeySpec:
    if curve is not None:
        raise _refused("/curve", "An RSA key has a size, no curve.")
    if size is None:
        return KeySpec.RSA_2048
    spec = _RSA.get(int(size)) if _is_number(size) else None
    if spec is None:
        raise _refused("/key_size", f"An RSA key of size {str(size)[:20]!a} is not allowed.")
    return spec


def _elliptic(size: int | str | None, curve: str | None) -> KeySpec:
    if size is not None and curve is not None:
        a, b = _curve(size), _curve(curve)
        if a is None or a is not b:
            raise _refused("/curve", "key_size and curve name different curves.")
        return a
    named = curve if curve is not None else size
    if named is None:
        return KeySpec.EC_P256
    spec = _curve(named)
    if spec is None:
        pointer = "/curve" if curve is not None else "/key_size"
        raise _refused(pointer, f"The curve {str(named)[:20]!a} is not allowed.")
    return spec


def _curve(name: int | str) -> KeySpec | None:
    return _CURVES.get(_SEPARATORS.sub("", str(name).lower()))


def _is_number(size: int | str | None) -> bool:
    return size is not None and re.fullmatch(r"[0-9]{1,5}", str(size)) is not None


def _refuse_contradiction(spec: KeySpec, size: int | str | None, curve: str | None) -> None:
    for pointer, value in (("/key_size", size), ("/curve", curve)):
        if value is None:
            continue
        same = _curve(value) is spec or (_is_number(value) and _RSA.get(int(value)) is spec)
        if not same:
            raise _refused(pointer, f"{str(value)[:20]!a} contradicts the key type {spec.value}.")


def _refused(pointer: str, detail: str) -> Invalid:
    return Invalid.field(pointer, "key-not-allowed", detail, hint=f"Allowed keys: {_ALLOWED}.")
