"""Files in and out: every format is read back by OpenSSL or by the reader itself."""

from __future__ import annotations

import base64
import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from ucm.api.errors import Conflict, Invalid, TooLarge, UcmError, Unsupported
from ucm.services.exports import (
    Exportable,
    ExportRequest,
    export,
    export_many,
    file_stem,
)
from ucm.services.imports import check_authority, read_material, read_private_key, spki_of

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def pkcs8(key, password=None):
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)


def make(
    key,
    *,
    name="leaf",
    issuer=None,
    ca=False,
    days=300,
    usage=None,
    digest="auto",
    constraints=True,
):
    signer = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(
            issuer[0].subject
            if issuer
            else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        )
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=400))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .public_key(key.public_key())
    )
    if constraints:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    if digest == "auto":
        digest = (
            None
            if isinstance(signer, ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey)
            else hashes.SHA256()
        )
    return builder.sign(signer, digest)


@pytest.fixture(scope="module")
def root():
    key = ec.generate_private_key(ec.SECP256R1())
    return make(key, name="Root", ca=True), key


@pytest.fixture(scope="module")
def leaf(root):
    key = ec.generate_private_key(ec.SECP256R1())
    return make(key, issuer=root), key


@pytest.fixture
def item(root, leaf):
    return Exportable(
        name="www.example.org / prod",
        certificate=leaf[0].public_bytes(Encoding.DER),
        chain=[root[0].public_bytes(Encoding.DER)],
        key=pkcs8(leaf[1]),
    )


def openssl(*arguments, data=b""):
    done = subprocess.run(
        ["openssl", *arguments], input=data, capture_output=True, timeout=30, check=True
    )
    return done.stdout


def test_pem_with_chain_and_encrypted_key_is_read_back(item, leaf, root):
    file = export(
        item, ExportRequest(format="pem", include_chain=True, include_key=True, password="secret")
    )
    assert file.secret
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in file.content
    read = read_material(file.content, password="secret")
    assert read.certificate == leaf[0]
    assert read.others == (root[0],)
    assert read.key == item.key


def test_pkcs12_is_modern_and_openssl_opens_it(item, leaf, tmp_path: Path):
    file = export(item, ExportRequest(format="pkcs12", include_chain=True, password="pässword"))
    path = tmp_path / "x.p12"
    path.write_bytes(file.content)
    shown = subprocess.run(
        ["openssl", "pkcs12", "-in", path, "-passin", "pass:pässword", "-noenc", "-info"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert shown.stdout.count(b"BEGIN CERTIFICATE") == 2
    assert b"AES-256-CBC" in shown.stderr
    assert b"sha256" in shown.stderr
    read = read_material(file.content, password="pässword")
    assert (read.certificate, read.key) == (leaf[0], item.key)


def test_pkcs7_lists_the_chain(item):
    file = export(item, ExportRequest(format="p7b", include_chain=True))
    listed = openssl("pkcs7", "-print_certs", data=file.content)
    assert listed.count(b"BEGIN CERTIFICATE") == 2
    assert read_material(file.content).certificate.public_bytes(Encoding.DER) == item.certificate


def test_der_is_the_certificate_itself(item):
    assert export(item, ExportRequest(format="der")).content == item.certificate


def test_key_without_password_is_plain_pkcs8(item):
    file = export(item, ExportRequest(format="key"))
    assert file.secret
    assert read_private_key(file.content.decode(), password=None) == item.key


def test_ml_dsa_key_goes_out_as_pem_but_not_as_pkcs12():
    key = mldsa.MLDSA44PrivateKey.generate()
    item = Exportable(name="x", certificate=make(key).public_bytes(Encoding.DER), key=pkcs8(key))
    file = export(item, ExportRequest(format="pem", include_key=True, password="long enough"))
    assert read_material(file.content, password="long enough").key == item.key
    with pytest.raises(Unsupported, match="PKCS#12"):
        export(item, ExportRequest(format="pkcs12", password="long enough"))


@pytest.mark.parametrize(
    ("request_", "error", "pointer"),
    [
        (ExportRequest(format="jks", password="abcd"), Unsupported, None),
        (ExportRequest(format="der", include_chain=True), Invalid, "/format"),
        (ExportRequest(format="der", include_key=True), Invalid, "/format"),
        (ExportRequest(format="p7b", include_key=True), Invalid, "/include_key"),
        (ExportRequest(format="pkcs12"), Invalid, "/password"),
        (ExportRequest(format="xml"), Invalid, "/format"),
    ],
)
def test_options_that_a_format_cannot_hold_are_refused(item, request_, error, pointer):
    with pytest.raises(error) as caught:
        export(item, request_)
    assert [field.pointer for field in caught.value.fields] == ([pointer] if pointer else [])


def test_asking_for_a_key_that_is_not_there_is_a_conflict(item):
    keyless = Exportable(name="x", certificate=item.certificate)
    with pytest.raises(Conflict):
        export(keyless, ExportRequest(format="pem", include_key=True))


def test_many_in_one_file(item):
    ders = [item.certificate, item.chain[0]]
    pem = export_many(ders, format="pem", name="all")
    assert pem.content.count(b"BEGIN CERTIFICATE") == 2
    assert (
        openssl(
            "pkcs7", "-print_certs", data=export_many(ders, format="p7b", name="all").content
        ).count(b"BEGIN CERTIFICATE")
        == 2
    )


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ('a"; filename="b', "a_filename_b"),
        ("*.example.org", "wildcard.example.org"),
        ("\r\nSet-Cookie: x", "Set-Cookie_x"),
        ("…", "certificate"),
    ],
)
def test_file_names_are_harmless(name, stem):
    assert file_stem(name) == stem


# --- reading -------------------------------------------------------------------------------------


def refused(call, *arguments, **options) -> tuple[str, str]:
    with pytest.raises(UcmError) as caught:
        call(*arguments, **options)
    (field,) = caught.value.fields
    return field.pointer, field.code


def test_der_and_text_around_pem_are_read(leaf):
    assert read_material(leaf[0].public_bytes(Encoding.DER)).certificate == leaf[0]
    text = b"subject=leaf\n" + leaf[0].public_bytes(Encoding.PEM) + b"\ntrailing"
    assert read_material(text).certificate == leaf[0]


def test_the_key_chooses_the_certificate(leaf, root):
    bundle = root[0].public_bytes(Encoding.PEM) + leaf[0].public_bytes(Encoding.PEM)
    assert read_material(bundle).certificate == leaf[0]
    key = root[1].private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    chosen = read_material(bundle + key)
    assert (chosen.certificate, chosen.others) == (root[0], (leaf[0],))


def test_a_foreign_key_is_refused(leaf):
    other = ec.generate_private_key(ec.SECP256R1())
    bundle = leaf[0].public_bytes(Encoding.PEM) + other.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    assert refused(read_material, bundle) == ("/file", "key-mismatch")


def test_passwords_missing_and_wrong(leaf):
    p12 = pkcs12.serialize_key_and_certificates(
        b"x", leaf[1], leaf[0], None, BestAvailableEncryption(b"right")
    )
    assert refused(read_material, p12) == ("/password", "password-required")
    assert refused(read_material, p12, password="wrong") == ("/password", "wrong-password")
    pem = leaf[0].public_bytes(Encoding.PEM) + leaf[1].private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"right")
    )
    assert refused(read_material, pem) == ("/password", "password-required")
    assert refused(read_material, pem, password="wrong") == ("/password", "wrong-password")
    assert read_material(pem, password="right").key == pkcs8(leaf[1])


def test_a_password_for_a_plain_key_is_not_held_against_it(leaf):
    pem = leaf[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert read_private_key(pem, password="whatever") == pkcs8(leaf[1])


def test_a_key_may_come_as_base64_of_der(leaf):
    text = base64.encodebytes(pkcs8(leaf[1])).decode()
    assert read_private_key(text, password=None) == pkcs8(leaf[1])


@pytest.mark.parametrize(
    ("data", "pointer", "code"),
    [
        (b"", "/file", "empty"),
        (b"  \n", "/file", "empty"),
        (b"hello", "/file", "invalid-certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "/file", None),
        (b"-----BEGIN NONSENSE-----\n-----END NONSENSE-----", "/file", "no-certificate"),
        (b"\x30\x82\xff\xff\x02\x01\x03junk", "/password", "password-required"),
    ],
)
def test_rubbish_is_refused_with_its_place(data, pointer, code):
    found = refused(read_material, data)
    assert found[0] == pointer
    assert code is None or found[1] == code


def test_oversize_is_too_large():
    with pytest.raises(TooLarge):
        read_material(b"x" * (1024 * 1024 + 1))


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", "-----BEGIN PRIVATE KEY-----"])
def test_rubbish_keys_are_refused(text):
    assert refused(read_private_key, text, password=None)[1] == "invalid-key"


def test_weak_keys_are_refused():
    key = rsa.generate_private_key(65537, 1024)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert refused(read_private_key, pem, password=None) == ("/key", "weak-key")
    curve = ec.generate_private_key(ec.SECP256K1())
    pem = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert refused(read_private_key, pem, password=None) == ("/key", "weak-key")


# --- authorities made elsewhere ------------------------------------------------------------------


def usage(*, cert_sign):
    return x509.KeyUsage(True, False, False, False, False, cert_sign, cert_sign, False, False)


def test_a_good_authority_passes(root):
    assert check_authority(root[0], now=NOW, pointer="/file").value == "EC-P256"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"ca": True, "days": -1}, "expired"),
        ({"ca": False}, "not-a-ca"),
        ({"constraints": False}, "not-a-ca"),
        ({"ca": True, "usage": usage(cert_sign=False)}, "no-cert-sign"),
    ],
)
def test_what_may_not_be_an_authority(options, code):
    certificate = make(ec.generate_private_key(ec.SECP256R1()), **options)
    assert refused(check_authority, certificate, now=NOW, pointer="/file") == ("/file", code)


def test_a_root_not_signed_by_its_own_key_is_refused():
    other = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = make(other, name="Root", ca=True)
    forged = make(key, name="Root", ca=True, issuer=(issuer, other))
    assert refused(check_authority, forged, now=NOW, pointer="/file")[1] == "bad-signature"


def with_openssl(tmp_path: Path, *, digest: str) -> x509.Certificate:
    """An intermediate signed with a weak digest, which the library refuses to make."""
    run = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
    subprocess.run(
        [*run, "-subj", "/CN=R", "-keyout", tmp_path / "r.key", "-out", tmp_path / "r.pem"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    subprocess.run(
        [
            *(*run, "-subj", "/CN=I", "-CA", tmp_path / "r.pem", "-CAkey", tmp_path / "r.key"),
            *(f"-{digest}", "-addext", "basicConstraints=critical,CA:TRUE"),
            *("-keyout", tmp_path / "i.key", "-out", tmp_path / "i.pem"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return x509.load_pem_x509_certificate((tmp_path / "i.pem").read_bytes())


@pytest.mark.parametrize("digest", ["md5", "sha1"])
def test_weak_signatures_are_refused(tmp_path: Path, digest):
    certificate = with_openssl(tmp_path, digest=digest)
    now = certificate.not_valid_before_utc + datetime.timedelta(days=1)
    assert refused(check_authority, certificate, now=now, pointer="/file") == (
        "/file",
        "weak-signature",
    )


def test_spki_is_that_of_openssl(leaf):
    pem = openssl("x509", "-pubkey", "-noout", data=leaf[0].public_bytes(Encoding.PEM))
    key = serialization.load_pem_public_key(pem)
    assert spki_of(leaf[0]) == key.public_bytes(
        Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
