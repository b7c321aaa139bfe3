"""Bad input to ``POST /certificates``: field and rule named, nothing stored or signed, audited."""

from __future__ import annotations

import base64
import json

import pytest
from asn1crypto import csr as asn1_csr
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ucm.testing.builders import a_csr

PATH = "/api/v2/certificates"
AUDIT = "certificate_refused"


def post(refused, tree, body=None, **options):
    if body is not None:
        options["json"] = {"ca_id": tree.ca, **body}
    return refused("POST", PATH, client=tree.operator, audit=AUDIT, **options)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"cn": "a.example", "unknown": 1}, "/unknown"),
        ({"cn": 5}, "/cn"),
        ({"cn": None, "san": []}, "/cn"),
        ({}, "/cn"),
        ({"cn": "a.example", "ca_id": "1"}, "/ca_id"),
        ({"cn": "a.example", "ca_id": True}, "/ca_id"),
        ({"cn": "a.example", "ca_id": 0}, "/ca_id"),
        ({"cn": "a.example", "ca_id": 2**80}, "/ca_id"),
        ({"cn": "x" * 65}, "/cn"),
        ({"cn": "a\nb"}, "/cn"),
        ({"cn": "a; rm -rf /"}, "/cn"),
        ({"cn": " a.example"}, "/cn"),
        ({"cn": ""}, "/cn"),
        ({"cn": "a.example", "country": "USA"}, "/country"),
        ({"cn": "a.example", "country": "ch"}, "/country"),
        ({"cn": "a.example", "validity_days": 0}, "/validity_days"),
        ({"cn": "a.example", "validity_days": -1}, "/validity_days"),
        ({"cn": "a.example", "validity_days": 3651}, "/validity_days"),
        ({"cn": "a.example", "validity_days": 10**9}, "/validity_days"),
        ({"cn": "a.example", "validity_days": "365"}, "/validity_days"),
        ({"cn": "a.example", "validity_days": 365.0}, "/validity_days"),
        ({"cn": "a.example", "validity_days": True}, "/validity_days"),
        ({"cn": "a.example", "cert_type": "root"}, "/cert_type"),
        ({"cn": "a.example", "san": "dns:a.example"}, "/san"),
        ({"cn": "a.example", "san": [""]}, "/san/0"),
        ({"cn": "a.example", "san": ["dns:ok.example", "dns:a b"]}, "/san/1"),
        ({"cn": "a.example", "san": ["dns:*.*.example"]}, "/san/0"),
        ({"cn": "a.example", "san": ["dns:foo*.example"]}, "/san/0"),
        ({"cn": "a.example", "san": ["dns:a.example."]}, "/san/0"),
        ({"cn": "a.example", "san": ["ip:10.0.0.0/8"]}, "/san/0"),
        ({"cn": "a.example", "san": ["ip:1.2.3"]}, "/san/0"),
        ({"cn": "a.example", "san": ["email:nobody"]}, "/san/0"),
        ({"cn": "a.example", "san_dns": ["ok.example", "-bad.example"]}, "/san_dns/1"),
        ({"cn": "a.example", "san_ip": ["999.1.1.1"]}, "/san_ip/0"),
        ({"cn": "a.example", "san_email": ["x"]}, "/san_email/0"),
        ({"cn": "a.example", "san_uri": ["no scheme"]}, "/san_uri/0"),
        ({"cn": "a.example", "email": "nobody"}, "/email"),
        ({"cn": "a.example", "san": ["dns:a.example"] * 257}, "/san"),
        ({"cn": "a.example", "key_type": "DSA"}, "/key_type"),
        ({"cn": "a.example", "key_type": "rsa", "key_size": 1024}, "/key_size"),
        ({"cn": "a.example", "key_type": "rsa", "key_size": 65536}, "/key_size"),
        ({"cn": "a.example", "key_type": "rsa", "key_size": "2048; rm"}, "/key_size"),
        ({"cn": "a.example", "key_type": "ec", "curve": "secp256k1"}, "/curve"),
        ({"cn": "a.example", "key_type": "ec", "curve": "brainpoolP256r1"}, "/curve"),
        ({"cn": "a.example", "key_type": "EC-P256", "key_size": 2048}, "/key_size"),
        ({"cn": "a.example", "extra_ekus": ["nonsense"]}, "/extra_ekus/0"),
        ({"cn": "a.example", "extra_ekus": ["anyExtendedKeyUsage"]}, "/extra_ekus/0"),
        ({"cn": "a.example", "extra_ekus": ["2.5.29.37.0"]}, "/extra_ekus/0"),
        ({"cn": "a.example", "extra_ekus": ["serverAuth"] * 17}, "/extra_ekus"),
        ({"cn": "a.example", "description": "x" * 1025}, "/description"),
        ({"cn": "a.example", "ocsp_must_staple": "yes"}, "/ocsp_must_staple"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else value,
)
def test_fields(refused, shared_tree, pointers, body, pointer):
    answer = post(refused, shared_tree, body)
    assert answer.status_code == 400
    assert pointer in pointers(answer)


def test_nul_in_text(refused, shared_tree, pointers):
    answer = post(refused, shared_tree, {"cn": "a\0b"})
    assert answer.status_code == 400
    assert pointers(answer) == ["/cn"]


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"ca_id": 1, "ca_id": 2}', "application/json", 400),
        (b'{"ca_id": NaN}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"ca_id=1", "application/x-www-form-urlencoded", 415),
        (b'{"ca_id": 1}', "text/plain", 415),
    ],
)
def test_bodies_that_are_no_json_object(refused, shared_tree, data, content_type, status):
    answer = post(refused, shared_tree, data=data, content_type=content_type)
    assert answer.status_code == status


def test_beyond_the_issuer(refused, shared_tree, pointers):
    answer = post(refused, shared_tree, {"cn": "a.example", "validity_days": 3650})
    assert answer.status_code == 400
    assert pointers(answer) == ["/validity_days"]
    assert "outlive" in answer.json["detail"]


def test_unknown_authority_is_not_found(shared_tree):
    before = shared_tree.stored()
    answer = shared_tree.operator.post(PATH, {"ca_id": 999_999, "cn": "a.example"})
    assert answer.status_code == 404
    assert shared_tree.stored() == before


# --- signing requests ----------------------------------------------------------------------------


def flipped(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


def weak_rsa(bits: int, exponent: int = 65537) -> str:
    key = rsa.generate_private_key(exponent, bits)
    return a_csr().with_key(key).pem()


def two_extension_requests() -> str:
    parsed = asn1_csr.CertificationRequest.load(a_csr().der())
    attributes = parsed["certification_request_info"]["attributes"]
    attributes.append(attributes[0].copy())
    return pem(parsed.dump(force=True))


def explicit_parameters() -> str:
    import subprocess

    script = (
        "openssl ecparam -name prime256v1 -param_enc explicit -genkey -noout -out k.pem && "
        "openssl req -new -key k.pem -subj /CN=a.example"
    )
    return _in_temporary_directory(subprocess, script)


def sha1_signed() -> str:
    import subprocess

    script = (
        "openssl req -new -newkey rsa:2048 -nodes -keyout k.pem -sha1 -subj /CN=a.example "
        "2>/dev/null"
    )
    return _in_temporary_directory(subprocess, script)


def _in_temporary_directory(subprocess, script: str) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            ["sh", "-c", script], cwd=directory, capture_output=True, check=True, timeout=60
        )
    return done.stdout.decode()


def bad_name() -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = x509.SubjectAlternativeName([x509.DNSName("a b")])
    key = ec.generate_private_key(ec.SECP256R1())
    return (
        builder.add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def empty_purposes() -> str:
    return a_csr().with_extension(x509.ExtendedKeyUsage([])).pem()


def empty_names() -> str:
    return (
        a_csr()
        .with_names()
        .with_common_name("a.example")
        .with_extension(x509.SubjectAlternativeName([]))
        .pem()
    )


REQUESTS = {
    "broken pem": lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n",
    "no pem": lambda: "hello",
    "empty": lambda: "",
    "broken der": lambda: pem(a_csr().der()[:-20]),
    "trailing byte": lambda: pem(a_csr().der() + b"\0"),
    "two requests": lambda: a_csr().pem() + a_csr().pem(),
    "a certificate": lambda: a_csr().pem().replace("CERTIFICATE REQUEST", "CERTIFICATE"),
    "bad signature": lambda: pem(flipped(a_csr().der())),
    "two extensionRequest attributes": two_extension_requests,
    "RSA 1024": lambda: weak_rsa(1024),
    "RSA exponent 3": lambda: weak_rsa(2048, 3),
    "secp256k1": lambda: a_csr().with_key(ec.generate_private_key(ec.SECP256K1())).pem(),
    "explicit EC parameters": explicit_parameters,
    "SHA-1": sha1_signed,
    "SAN with a space": bad_name,
    "empty EKU": empty_purposes,
    "empty SAN": empty_names,
}


@pytest.mark.parametrize("make", REQUESTS.values(), ids=REQUESTS.keys())
def test_signing_requests(refused, shared_tree, pointers, make):
    answer = post(refused, shared_tree, {"csr": make()})
    assert answer.status_code == 400
    assert all(pointer.startswith("/csr") for pointer in pointers(answer))
    assert pointers(answer)


def test_oversize_request(refused, shared_tree):
    answer = post(refused, shared_tree, {"csr": a_csr().pem() + "#" * 65_536})
    assert answer.status_code == 413


def test_a_request_and_a_key_to_make_contradict(refused, shared_tree, pointers):
    answer = post(refused, shared_tree, {"csr": a_csr().pem(), "key_type": "rsa"})
    assert pointers(answer) == ["/key_type"]


def test_a_request_for_an_authority_gives_a_leaf(shared_tree):
    csr = (
        a_csr("ca.example")
        .with_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .with_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False),
            critical=True,
        )
        .pem()
    )
    issued = shared_tree.der(shared_tree.issue(csr=csr)["id"])
    usage = issued.extensions.get_extension_for_class(x509.KeyUsage).value
    assert not usage.key_cert_sign
    assert not usage.crl_sign
    purposes = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in purposes] == ["1.3.6.1.5.5.7.3.1"]
