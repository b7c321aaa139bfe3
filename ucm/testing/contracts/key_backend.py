"""What every key backend must do, as tests: subclass `KeyBackendContract` and give the fixtures."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from asn1crypto import core
from asn1crypto import keys as asn1_keys
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from ucm.api.errors import Invalid, KeyUnavailable, Unsupported
from ucm.api.keys import (
    DecryptionKey,
    ExportingKeyBackend,
    ImportingKeyBackend,
    KeyBackend,
    KeyCapability,
    KeyRecord,
    KeySpec,
    SignatureScheme,
)
from ucm.api.private_keys import as_private_key

MESSAGE = b"the full data, never a digest"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_RSA, _EC = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1"
_CURVES = {
    "1.2.840.10045.3.1.7": "EC-P256",
    "1.3.132.0.34": "EC-P384",
    "1.3.132.0.35": "EC-P521",
}
_ONE_KIND = {
    "1.3.101.112": "ED25519",
    "1.3.101.113": "ED448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}
_QUICK = (KeySpec.EC_P256, KeySpec.ED25519, KeySpec.EC_P384, KeySpec.ML_DSA_44, KeySpec.RSA_2048)


def schemes_for(spec: KeySpec) -> tuple[SignatureScheme, ...]:
    """Every scheme that a key of this kind must offer."""
    family = {"RSA": "rsa-", "EC": "ecdsa-"}.get(spec.value.split("-")[0], spec.value.lower())
    return tuple(scheme for scheme in SignatureScheme if scheme.value.startswith(family))


def verify(
    public_key: CertificatePublicKeyTypes, *, signature: bytes, scheme: SignatureScheme
) -> None:
    """Check a signature over `MESSAGE` with `cryptography`, apart from the backend's own code.

    Raises `cryptography.exceptions.InvalidSignature`.
    """
    key = cast("Any", public_key)
    digest = _HASHES.get(scheme.value.rpartition("-")[2])
    if isinstance(public_key, rsa.RSAPublicKey):
        assert digest is not None
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        key.verify(signature, MESSAGE, pss if "pss" in scheme.value else padding.PKCS1v15(), digest)
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        assert digest is not None
        key.verify(signature, MESSAGE, ec.ECDSA(digest))
    else:
        key.verify(signature, MESSAGE)


class KeyBackendContract:
    """Subclass it in the plugin's tests and define the fixture `reopen`.

    `reopen` is a callable that returns the backend as a restarted process would have it: a new
    object over the same store. `outage` (optional) is a context manager during which the store
    behind the backend is gone: token pulled, service down, master key missing. `spared` names specs
    that are too slow to generate in every run.

        class TestMyKeys(KeyBackendContract):
            @pytest.fixture
            def reopen(self, tmp_path):
                return lambda: MyBackend(tmp_path)
    """

    spared: frozenset[KeySpec] = frozenset({KeySpec.RSA_4096, KeySpec.RSA_8192})

    @pytest.fixture
    def reopen(self) -> Callable[[], KeyBackend]:
        """Return the maker of backend objects over one store."""
        raise NotImplementedError("define the fixture 'reopen': see KeyBackendContract")

    @pytest.fixture
    def outage(self) -> Callable[[], AbstractContextManager[object]] | None:
        """Return how to break the store behind the backend; `None` leaves those tests out."""
        return None

    @pytest.fixture
    def backend(self, reopen: Callable[[], KeyBackend]) -> KeyBackend:
        """The backend under test."""
        return reopen()

    @pytest.fixture
    def quick(self, backend: KeyBackend) -> KeySpec:
        """The quickest spec the backend has."""
        return next((spec for spec in _QUICK if spec in backend.specs()), backend.specs()[0])

    # --- what it says about itself -------------------------------------------------------------

    def test_describes_itself_truthfully(self, backend: KeyBackend) -> None:
        assert isinstance(backend, KeyBackend)
        assert backend.kind
        assert KeyCapability.SIGN in backend.capabilities
        assert backend.specs()
        assert len(set(backend.specs())) == len(backend.specs())
        assert backend.probe().available

    def test_declared_capabilities_have_their_methods(self, backend: KeyBackend) -> None:
        assert isinstance(backend, ImportingKeyBackend) == (
            KeyCapability.IMPORT in backend.capabilities
        )
        assert isinstance(backend, ExportingKeyBackend) == (
            KeyCapability.EXPORT in backend.capabilities
        )

    # --- making and using keys -----------------------------------------------------------------

    def test_signs_verifiably_with_every_scheme_of_every_spec(self, backend: KeyBackend) -> None:
        for spec in [spec for spec in backend.specs() if spec not in self.spared]:
            record = backend.generate(spec, label=f"contract {spec.value}")
            assert record.spec is spec
            assert record.backend == backend.kind
            with backend.open(record) as key:
                for scheme in schemes_for(spec):
                    signature = key.sign(MESSAGE, scheme)
                    verify(key.public_key(), signature=signature, scheme=scheme)
                    with pytest.raises(InvalidSignature):
                        verify(key.public_key(), signature=_damaged(signature), scheme=scheme)

    def test_public_keys_are_of_the_kind_that_was_asked_for(self, backend: KeyBackend) -> None:
        for spec in [spec for spec in backend.specs() if spec not in self.spared]:
            with backend.open(backend.generate(spec, label="kind")) as key:
                assert _kind(key.public_key()) == spec.value

    def test_two_keys_are_two_keys(self, backend: KeyBackend, quick: KeySpec) -> None:
        with (
            backend.open(backend.generate(quick, label="same label")) as one,
            backend.open(backend.generate(quick, label="same label")) as other,
        ):
            assert _spki(one.public_key()) != _spki(other.public_key())

    def test_foreign_schemes_are_refused_with_the_list_of_allowed_ones(
        self, backend: KeyBackend, quick: KeySpec
    ) -> None:
        own = schemes_for(quick)
        with backend.open(backend.generate(quick, label="foreign scheme")) as key:
            for scheme in [scheme for scheme in SignatureScheme if scheme not in own]:
                with pytest.raises(Unsupported) as refused:
                    key.sign(MESSAGE, scheme)
                assert own[0].value in f"{refused.value.detail} {refused.value.hint}"

    def test_specs_it_does_not_have_are_refused(self, backend: KeyBackend) -> None:
        for spec in [spec for spec in KeySpec if spec not in backend.specs()]:
            with pytest.raises(Unsupported):
                backend.generate(spec, label="not here")

    # --- what cryptography's builders make of it -----------------------------------------------

    def test_signs_a_request_that_verifies(self, backend: KeyBackend) -> None:
        for spec in [spec for spec in backend.specs() if spec not in self.spared]:
            with backend.open(backend.generate(spec, label="csr")) as key:
                name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "contract")])
                builder = x509.CertificateSigningRequestBuilder().subject_name(name)
                private_key = cast("Any", as_private_key(key))
                csr = builder.sign(private_key, cast("Any", _builder_hash(spec)))
            again = x509.load_der_x509_csr(csr.public_bytes(serialization.Encoding.DER))
            assert again.is_signature_valid

    def test_signs_a_revocation_list_that_verifies(self, backend: KeyBackend) -> None:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "contract")])
        start = datetime(2030, 1, 1, tzinfo=UTC)
        for spec in [spec for spec in backend.specs() if spec not in self.spared]:
            builder = x509.CertificateRevocationListBuilder(
                issuer_name=issuer, last_update=start, next_update=start + timedelta(days=1)
            )
            with backend.open(backend.generate(spec, label="crl")) as key:
                private_key = cast("Any", as_private_key(key))
                crl = builder.sign(private_key, cast("Any", _builder_hash(spec)))
                again = x509.load_der_x509_crl(crl.public_bytes(serialization.Encoding.DER))
                assert again.is_signature_valid(cast("Any", key.public_key()))

    # --- restart, destruction, wrong records ---------------------------------------------------

    def test_a_key_survives_a_restart(
        self, backend: KeyBackend, reopen: Callable[[], KeyBackend], quick: KeySpec
    ) -> None:
        record = backend.generate(quick, label="restart")
        with backend.open(record) as key:
            before = _spki(key.public_key())
        with reopen().open(_stored(record)) as key:
            assert _spki(key.public_key()) == before
            scheme = schemes_for(quick)[0]
            verify(key.public_key(), signature=key.sign(MESSAGE, scheme), scheme=scheme)

    def test_a_record_of_another_backend_is_refused(
        self, backend: KeyBackend, quick: KeySpec
    ) -> None:
        record = backend.generate(quick, label="other")
        foreign = dataclasses.replace(record, backend=f"not-{backend.kind}")
        with pytest.raises(Invalid), backend.open(foreign):
            pass

    def test_a_record_that_names_another_kind_of_key_is_refused(self, backend: KeyBackend) -> None:
        specs = [spec for spec in backend.specs() if spec in _QUICK][:2]
        if len(specs) < 2:
            pytest.skip("the backend has one kind of key only")
        record = dataclasses.replace(backend.generate(specs[0], label="kind"), spec=specs[1])
        with pytest.raises((Invalid, KeyUnavailable)), backend.open(record):
            pass

    def test_a_destroyed_key_is_gone(
        self, backend: KeyBackend, reopen: Callable[[], KeyBackend], quick: KeySpec
    ) -> None:
        # A backend whose key lies in its record cannot undo copies of it; one with a store must.
        record = backend.generate(quick, label="destroy")
        other = backend.generate(quick, label="stays")
        with backend.open(record):
            pass
        backend.destroy(record)
        backend.destroy(record)  # quiet when already gone
        if record.sealed is None:
            for each in (backend, reopen()):
                with pytest.raises((KeyUnavailable, Invalid)), each.open(record):
                    pass
        with backend.open(other) as key:
            key.sign(MESSAGE, schemes_for(quick)[0])

    # --- threads -------------------------------------------------------------------------------

    def test_thirty_two_threads_share_one_key(self, backend: KeyBackend, quick: KeySpec) -> None:
        record = backend.generate(quick, label="threads")
        scheme = schemes_for(quick)[0]

        def use(_: int) -> None:
            with backend.open(record) as key:
                for _ in range(5):
                    verify(key.public_key(), signature=key.sign(MESSAGE, scheme), scheme=scheme)

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(use, range(32)))

    def test_threads_make_and_destroy_keys_without_disturbing_each_other(
        self, backend: KeyBackend, quick: KeySpec
    ) -> None:
        scheme = schemes_for(quick)[0]

        def cycle(number: int) -> bytes:
            record = backend.generate(quick, label=f"cycle {number}")
            with backend.open(record) as key:
                verify(key.public_key(), signature=key.sign(MESSAGE, scheme), scheme=scheme)
                spki = _spki(key.public_key())
            backend.destroy(record)
            return spki

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(cycle, range(32)))) == 32

    # --- secrets -------------------------------------------------------------------------------

    def test_no_secret_shows(self, backend: KeyBackend) -> None:
        specs = [spec for spec in backend.specs() if spec in _QUICK]
        for spec in specs:
            record = backend.generate(spec, label="secret")
            with backend.open(record) as key:
                shown = [repr(record), repr(backend), repr(key), str(key)]
            shown.append(json.dumps(dict(record.locator)))
            assert record.sealed is None or record.sealed.startswith("ENC:")
            if record.sealed is not None:
                assert record.sealed not in repr(record)
            if isinstance(backend, ExportingKeyBackend):
                pkcs8 = backend.export_key(record)
                for text in [*shown, record.sealed or ""]:
                    for secret in secret_forms(pkcs8):
                        assert secret not in text.encode(), f"{spec.value} shows its key"

    # --- declared capabilities -----------------------------------------------------------------

    def test_imports_keys_made_elsewhere(
        self, backend: KeyBackend, reopen: Callable[[], KeyBackend]
    ) -> None:
        if not isinstance(backend, ImportingKeyBackend):
            pytest.skip("declares no IMPORT")
        if KeySpec.EC_P256 not in backend.specs():
            pytest.skip("needs EC-P256")
        made = ec.generate_private_key(ec.SECP256R1())
        record = backend.import_key(_pkcs8(made), label="import")
        assert record.spec is KeySpec.EC_P256
        with reopen().open(record) as key:
            assert _spki(key.public_key()) == _spki(made.public_key())

    @pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP224R1()], ids=lambda c: c.name)
    def test_refuses_to_import_what_ucm_does_not_accept(
        self, backend: KeyBackend, curve: ec.EllipticCurve
    ) -> None:
        if not isinstance(backend, ImportingKeyBackend):
            pytest.skip("declares no IMPORT")
        with pytest.raises(Unsupported):
            backend.import_key(_pkcs8(ec.generate_private_key(curve)), label="no")

    def test_refuses_to_import_what_is_no_key(self, backend: KeyBackend) -> None:
        if not isinstance(backend, ImportingKeyBackend):
            pytest.skip("declares no IMPORT")
        for rubbish in (b"", b"\x30\x00", b"not a key", MESSAGE * 50):
            with pytest.raises((Invalid, Unsupported)):
                backend.import_key(rubbish, label="rubbish")

    def test_exports_the_very_key(self, backend: KeyBackend) -> None:
        if not isinstance(backend, ExportingKeyBackend):
            pytest.skip("declares no EXPORT")
        for spec in [spec for spec in backend.specs() if spec in _QUICK]:
            record = backend.generate(spec, label="export")
            exported = serialization.load_der_private_key(backend.export_key(record), None)
            with backend.open(record) as key:
                assert _spki(cast("Any", exported.public_key())) == _spki(key.public_key())

    def test_decrypts_with_rsa(self, backend: KeyBackend) -> None:
        if KeyCapability.DECRYPT not in backend.capabilities:
            pytest.skip("declares no DECRYPT")
        spec = next(spec for spec in backend.specs() if spec.value.startswith("RSA"))
        with backend.open(backend.generate(spec, label="decrypt")) as key:
            assert isinstance(key, DecryptionKey)
            public = cast("rsa.RSAPublicKey", key.public_key())
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
            assert key.decrypt(public.encrypt(b"content key", oaep), oaep=True) == b"content key"
            v15 = public.encrypt(b"content key", padding.PKCS1v15())
            assert key.decrypt(v15, oaep=False) == b"content key"
            with pytest.raises(Invalid):
                key.decrypt(b"\x01" * (public.key_size // 8), oaep=True)
            with pytest.raises(Invalid):
                key.decrypt(b"short", oaep=False)

    # --- failure -------------------------------------------------------------------------------

    def test_an_outage_is_said_and_passes(
        self,
        reopen: Callable[[], KeyBackend],
        outage: Callable[[], AbstractContextManager[object]] | None,
        quick: KeySpec,
    ) -> None:
        if outage is None:
            pytest.skip("no way to break the store was given")
        record = reopen().generate(quick, label="outage")
        with outage():
            broken = reopen()
            status = broken.probe()
            assert not status.available
            assert status.detail
            with pytest.raises(KeyUnavailable), broken.open(record) as key:
                key.sign(MESSAGE, schemes_for(quick)[0])
            with pytest.raises(KeyUnavailable):
                broken.generate(quick, label="outage")
        with reopen().open(record) as key:
            key.sign(MESSAGE, schemes_for(quick)[0])


def secret_forms(pkcs8: bytes) -> list[bytes]:
    """How a private key could show up somewhere: its parts raw, in hex, base64 and decimal."""
    parts = {pkcs8, _private_part(pkcs8)}
    if core.Sequence.load(pkcs8)[1][0].native == _RSA:
        native = asn1_keys.PrivateKeyInfo.load(pkcs8)["private_key"].parsed.native
        for name in ("private_exponent", "prime1", "prime2"):
            parts.add(native[name].to_bytes((native[name].bit_length() + 7) // 8, "big"))
    return sorted({form for part in parts for form in _spellings(part)})


def _private_part(pkcs8: bytes) -> bytes:
    version, algorithm, private_key = (core.Sequence.load(pkcs8)[i] for i in range(3))
    assert version.native in (0, 1)
    contents = cast("bytes", private_key.contents)
    if algorithm[0].native == _RSA:
        return contents
    if algorithm[0].native == _EC:
        return cast("bytes", core.Sequence.load(contents)[1].contents)
    return contents[2:]  # an OCTET STRING inside the OCTET STRING (RFC 8410); a seed (RFC 9881)


def _spellings(part: bytes) -> set[bytes]:
    encoded = base64.b64encode(part)
    return {
        part,
        part.hex().encode(),
        part.hex().upper().encode(),
        encoded.rstrip(b"="),
        base64.urlsafe_b64encode(part).rstrip(b"="),
        str(int.from_bytes(part, "big")).encode() if len(part) < 1000 else part,
    }


def _damaged(signature: bytes) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1])


def _stored(record: KeyRecord) -> KeyRecord:
    """The record as it comes back from the database."""
    return dataclasses.replace(record, locator=json.loads(json.dumps(dict(record.locator))))


def _spki(public_key: CertificatePublicKeyTypes) -> bytes:
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _kind(public_key: CertificatePublicKeyTypes) -> str:
    """The `KeySpec` value, read from the SubjectPublicKeyInfo by another library."""
    spki = _spki(public_key)
    algorithm = core.Sequence.load(spki)[0][0].native
    if algorithm == _RSA:
        return f"RSA-{asn1_keys.PublicKeyInfo.load(spki).bit_size}"
    if algorithm == _EC:
        return _CURVES[core.Sequence.load(spki)[0][1].native]
    return _ONE_KIND[algorithm]


def _builder_hash(spec: KeySpec) -> hashes.HashAlgorithm | None:
    return hashes.SHA256() if spec.value.startswith(("RSA", "EC-")) else None


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
