"""What is particular to keys that live, sealed, in their own record."""

import dataclasses
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from ucm_softkeys.backend import SoftKeyBackend

from ucm.api.errors import Invalid, KeyUnavailable, SafeMode, Unsupported
from ucm.api.keys import KeyCapability, KeySpec, SignatureScheme


@pytest.fixture
def backend(vault):
    return SoftKeyBackend(vault)


def pkcs8(key):
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def spki(key):
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_offers_every_key_spec_of_ucm(backend):
    assert set(backend.specs()) == set(KeySpec)


def test_declares_local_keys_that_can_be_imported_exported_and_used_to_decrypt(backend):
    assert backend.local
    assert backend.capabilities == {
        KeyCapability.SIGN,
        KeyCapability.IMPORT,
        KeyCapability.EXPORT,
        KeyCapability.DECRYPT,
    }


def test_the_record_holds_the_sealed_pkcs8(backend, vault):
    record = backend.generate(KeySpec.EC_P256, label="any")
    assert record.sealed.startswith("ENC:")
    key = serialization.load_der_private_key(vault.unseal(record.sealed), None)
    with backend.open(record) as opened:
        assert spki(opened) == spki(key)


def test_a_key_is_unsealed_once(backend, vault):
    record = backend.generate(KeySpec.RSA_2048, label="ca")
    for _ in range(5):
        with backend.open(record) as key:
            key.sign(b"data", SignatureScheme.RSA_PKCS1_SHA256)
    assert vault.unsealed == 1


def test_the_cache_is_bounded_and_drops_what_was_used_longest_ago(vault):
    backend = SoftKeyBackend(vault, cache_size=2)
    first, second, third = (backend.generate(KeySpec.EC_P256, label="x") for _ in range(3))
    for record in (first, second, first, third, first):
        with backend.open(record):
            pass
    assert vault.unsealed == 3
    with backend.open(second):
        pass
    assert vault.unsealed == 4


def test_an_exported_key_does_not_stay_open(backend, vault):
    record = backend.generate(KeySpec.EC_P256, label="subject")
    backend.export_key(record)
    backend.export_key(record)
    assert vault.unsealed == 2


def test_opening_a_sealed_rsa_key_does_not_repeat_the_slow_consistency_check(vault):
    record = SoftKeyBackend(vault).generate(KeySpec.RSA_4096, label="ca")
    der = vault.unseal(record.sealed)
    started = time.perf_counter()
    serialization.load_der_private_key(der, None)
    checked = time.perf_counter() - started
    started = time.perf_counter()
    with SoftKeyBackend(vault).open(record):
        opened = time.perf_counter() - started
    assert opened < checked / 5


def test_a_destroyed_key_leaves_the_cache(backend, vault):
    record = backend.generate(KeySpec.EC_P256, label="x")
    with backend.open(record):
        pass
    backend.destroy(record)
    with backend.open(record):
        pass
    assert vault.unsealed == 2


def test_a_record_whose_sealed_text_was_exchanged_does_not_open(backend):
    ours = backend.generate(KeySpec.EC_P256, label="subject")
    ca = backend.generate(KeySpec.EC_P256, label="ca")
    forged = dataclasses.replace(ours, sealed=ca.sealed)
    with pytest.raises(Invalid, match="not the one its record describes"), backend.open(forged):
        pass
    with pytest.raises(Invalid), backend.open(forged):  # not from the cache either
        pass
    with pytest.raises(Invalid):
        backend.export_key(forged)


def test_an_opened_key_is_not_found_under_an_edited_record(backend):
    record = backend.generate(KeySpec.EC_P256, label="x")
    with backend.open(record):
        pass
    with (
        pytest.raises(Invalid),
        backend.open(dataclasses.replace(record, spec=KeySpec.EC_P384)),
    ):
        pass


def test_a_key_stored_in_clear_is_not_used(backend):
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    record = dataclasses.replace(backend.generate(KeySpec.EC_P256, label="x"), sealed=text)
    with pytest.raises(KeyUnavailable, match="without encryption") as refused, backend.open(record):
        pass
    assert text not in str(refused.value)
    assert "encrypt all keys" in refused.value.hint
    backend.destroy(record)  # and may be thrown away


def test_a_sealed_pem_of_another_product_opens(backend, vault):
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    record = dataclasses.replace(
        backend.generate(KeySpec.EC_P256, label="x"), sealed=vault.seal(pem), locator={}
    )
    with backend.open(record) as opened:
        assert spki(opened) == spki(key)
    assert backend.export_key(record) == pkcs8(key)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="rsa-1024"),
        pytest.param(lambda: rsa.generate_private_key(65537, 2560), id="rsa-2560"),
        pytest.param(lambda: ec.generate_private_key(ec.BrainpoolP256R1()), id="brainpool"),
        pytest.param(lambda: dsa.generate_private_key(2048), id="dsa"),
    ],
)
def test_other_algorithms_are_refused_with_the_list_of_allowed_ones(backend, key):
    with pytest.raises(Unsupported) as refused:
        backend.import_key(pkcs8(key()), label="no")
    assert "RSA-2048" in refused.value.hint
    assert "ML-DSA-65" in refused.value.hint


def test_a_weak_rsa_key_is_not_imported(backend):
    with pytest.raises(Invalid, match="exponent"):
        backend.import_key(pkcs8(rsa.generate_private_key(3, 2048)), label="e=3")


def test_an_inconsistent_rsa_key_is_not_imported(backend):
    encoded = pkcs8(rsa.generate_private_key(65537, 2048))
    damaged = encoded[:-20] + bytes([encoded[-20] ^ 1]) + encoded[-19:]  # in the CRT coefficient
    with pytest.raises(Invalid, match="not a usable private key"):
        backend.import_key(damaged, label="damaged")


def test_an_encrypted_key_is_not_imported(backend):
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pw"),
    )
    with pytest.raises(Invalid):
        backend.import_key(encoded, label="encrypted")


def test_without_a_master_key_no_key_is_made(backend, vault):
    vault.gone = True
    with pytest.raises(SafeMode):
        backend.generate(KeySpec.EC_P256, label="x")
    assert backend.probe().detail == "The master key is missing."


@pytest.mark.timeout(600)
def test_rsa_8192_is_generated_opened_and_signs(backend):
    from ucm.testing.contracts.key_backend import MESSAGE, verify

    record = backend.generate(KeySpec.RSA_8192, label="slow")
    with backend.open(record) as key:
        scheme = SignatureScheme.RSA_PSS_SHA512
        verify(key.public_key(), signature=key.sign(MESSAGE, scheme), scheme=scheme)
        assert key.public_key().key_size == 8192


def test_the_plugin_offers_the_backend():
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="ucm.plugins", name="softkeys")
    plugin = entry.load()
    assert plugin.manifest.name == entry.name
    assert plugin.manifest.accepts_api()
