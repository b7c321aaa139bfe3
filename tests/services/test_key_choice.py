"""The key that is made for the words that clients use."""

from __future__ import annotations

import pytest

from ucm.api.errors import Invalid
from ucm.api.keys import KeySpec
from ucm.services.key_choice import choose_key

DEFAULT = KeySpec.ED448


@pytest.mark.parametrize("spec", list(KeySpec))
def test_every_spec_by_its_own_name(spec):
    for name in (spec.value, spec.value.lower(), spec.value.replace("-", " ")):
        assert choose_key(name, default=DEFAULT) is spec


@pytest.mark.parametrize(
    ("key_type", "size", "curve", "spec"),
    [
        (None, None, None, DEFAULT),
        (None, 3072, None, KeySpec.RSA_3072),
        (None, None, "prime256v1", KeySpec.EC_P256),
        (None, "secp384r1", None, KeySpec.EC_P384),
        ("rsa", None, None, KeySpec.RSA_2048),
        ("RSA", "4096", None, KeySpec.RSA_4096),
        ("RSA 2048", 2048, None, KeySpec.RSA_2048),
        ("ec", 256, None, KeySpec.EC_P256),
        ("ECDSA", "prime256v1", None, KeySpec.EC_P256),
        ("ecdsa", None, "NIST P-521", KeySpec.EC_P521),
        ("ec", 384, "secp384r1", KeySpec.EC_P384),
        ("ECDSA P-384", None, None, KeySpec.EC_P384),
        ("EC-P256", None, "secp256r1", KeySpec.EC_P256),
        ("ec_secp521r1", None, None, KeySpec.EC_P521),
    ],
)
def test_words(key_type, size, curve, spec):
    assert choose_key(key_type, size=size, curve=curve, default=DEFAULT) is spec


@pytest.mark.parametrize(
    ("key_type", "size", "curve", "pointer"),
    [
        ("DSA", None, None, "/key_type"),
        ("", None, None, "/key_type"),
        ("rsa; rm -rf /", None, None, "/key_type"),
        ("rsa", 1024, None, "/key_size"),
        ("rsa", 2047, None, "/key_size"),
        ("rsa", 10**9, None, "/key_size"),
        ("rsa", -2048, None, "/key_size"),
        ("rsa", "2048; rm", None, "/key_size"),
        ("rsa", 2048, "prime256v1", "/curve"),
        ("ec", None, "secp256k1", "/curve"),
        ("ec", 521, "secp384r1", "/curve"),
        ("ec", 2048, None, "/key_size"),
        ("ed25519", 256, None, "/key_size"),
        ("RSA-2048", 4096, None, "/key_size"),
        ("EC-P256", None, "secp384r1", "/curve"),
        (None, 512, None, "/key_size"),
    ],
)
def test_everything_else_is_refused_with_what_is_allowed(key_type, size, curve, pointer):
    with pytest.raises(Invalid) as caught:
        choose_key(key_type, size=size, curve=curve, default=DEFAULT)
    assert [field.pointer for field in caught.value.fields] == [pointer]
    assert all(spec.value in caught.value.hint for spec in KeySpec)
