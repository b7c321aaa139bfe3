"""Keys of any backend sign whatever the library's builders build."""

import copy
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509 import ocsp

from tests.issuance.conftest import NOW
from ucm.api.errors import Unsupported
from ucm.api.keys import KeySpec, SignatureScheme
from ucm.api.names import build_subject
from ucm.api.private_keys import as_private_key, hash_of, rsa_padding_of, scheme_for, verify
from ucm.api.publickeys import spec_of, spki_der

# One size stands for all of RSA: the others differ in the seconds that they take to make.
SPECS = [spec for spec in KeySpec if spec.value.partition("-")[0] != "RSA"] + [KeySpec.RSA_2048]
NAME = build_subject([("CN", "Adapter")])


@pytest.fixture(params=SPECS, ids=lambda spec: spec.value)
def opened(request):
    """An opened key of the software backend, its spec, and a private key around it."""
    from ucm_softkeys.backend import SoftKeyBackend

    from ucm.domain.sealing import MasterKey, MasterKeys

    backend = SoftKeyBackend(MasterKeys([MasterKey.generate()]))
    record = backend.generate(request.param, label="t")
    with backend.open(record) as key:
        yield key, request.param


def digest_of(key):
    return hash_of(scheme_for(key.public_key()))


def a_certificate(private, key):
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(private, digest_of(key))
    )


def test_certificates_requests_crls_and_ocsp_answers(opened):
    key, _ = opened
    private = as_private_key(key)
    certificate = a_certificate(private, key)
    certificate.verify_directly_issued_by(certificate)
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(private, digest_of(key))
    )
    assert request.is_signature_valid
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .sign(private, digest_of(key))
    )
    assert crl.is_signature_valid(key.public_key())
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            certificate,
            certificate,
            hashes.SHA256(),
            ocsp.OCSPCertStatus.GOOD,
            NOW,
            None,
            None,
            None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
        .sign(private, digest_of(key))
    )
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    verify(
        key.public_key(),
        signature=answer.signature,
        data=answer.tbs_response_bytes,
        scheme=scheme_for(key.public_key()),
    )


def test_nothing_of_the_key_comes_out(opened):
    key, _ = opened
    private = as_private_key(key)
    assert copy.copy(private) is private
    assert copy.deepcopy(private) is private
    with pytest.raises(Unsupported):
        private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for name in ("private_bytes_raw", "private_numbers"):
        if hasattr(private, name):
            with pytest.raises(Unsupported):
                getattr(private, name)()
    assert "object at" not in repr(private)


def test_the_spec_of_a_key_is_found(opened):
    key, spec = opened
    assert spec_of(key.public_key()) is spec
    assert spec_of(as_private_key(key).public_key()) is spec


def test_schemes_fit_their_keys(opened):
    key, _spec = opened
    for digest in ("auto", "sha256", "sha384", "sha512"):
        scheme = scheme_for(key.public_key(), digest=digest)
        signature = key.sign(b"data", scheme)
        verify(key.public_key(), signature=signature, data=b"data", scheme=scheme)
    foreign = (
        SignatureScheme.ED25519
        if scheme_for(key.public_key()) is not SignatureScheme.ED25519
        else SignatureScheme.ED448
    )
    with pytest.raises(Unsupported):
        verify(key.public_key(), signature=b"", data=b"", scheme=foreign)


def an_rsa_key():
    from ucm_softkeys.backend import SoftKeyBackend

    from ucm.domain.sealing import MasterKey, MasterKeys

    backend = SoftKeyBackend(MasterKeys([MasterKey.generate()]))
    return backend.open(backend.generate(KeySpec.RSA_2048, label="t"))


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_rsa_pss(digest):
    with an_rsa_key() as key:
        scheme = scheme_for(key.public_key(), digest=digest, pss=True)
        assert scheme.value == f"rsa-pss-{digest}"
        private = as_private_key(key)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(NAME)
            .issuer_name(NAME)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=1))
            .sign(private, hash_of(scheme), rsa_padding=rsa_padding_of(scheme))
        )
        certificate.verify_directly_issued_by(certificate)
        verify(
            key.public_key(),
            signature=certificate.signature,
            data=certificate.tbs_certificate_bytes,
            scheme=scheme,
        )


def test_cms_and_refusals_of_what_backends_do_not_do():
    with an_rsa_key() as key:
        private = as_private_key(key)
        assert isinstance(private, rsa.RSAPrivateKey)
        certificate = a_certificate(private, key)
        signed = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(b"data")
            .add_signer(certificate, private, hashes.SHA256())
            .sign(Encoding.DER, [pkcs7.PKCS7Options.Binary])
        )
        assert signed
        with pytest.raises(Unsupported):
            private.sign(b"data", padding.PKCS1v15(), hashes.SHA1())
        with pytest.raises(Unsupported):
            private.sign(bytes(32), padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        secret = key.public_key().encrypt(
            b"secret", padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        )
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        assert private.decrypt(secret, oaep) == b"secret"


@pytest.mark.parametrize("digest", ["md5", "sha1", "SHA256", ""])
def test_other_digests_are_refused(digest):
    with pytest.raises(Unsupported):
        scheme_for(KeySpec.EC_P256, digest=digest)


def test_unknown_keys_are_refused():
    from cryptography.hazmat.primitives.asymmetric import x25519

    with pytest.raises(Unsupported):
        scheme_for(x25519.X25519PrivateKey.generate().public_key())
    assert spec_of(object()) is None


def test_keys_are_named_by_their_spki():
    with an_rsa_key() as key:
        assert spki_der(key.public_key()).startswith(b"\x30\x82")
