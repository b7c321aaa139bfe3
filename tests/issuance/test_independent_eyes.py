"""What UCM issues, read by others: OpenSSL, asn1crypto and pkilint find nothing wrong."""

import subprocess

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuance.conftest import NOW
from ucm.api.issuance import CAParameters
from ucm.api.keys import KeySpec
from ucm.api.names import build_subject, parse_general_names
from ucm.api.views import CaPublication
from ucm.issuance.profiles import BUILT_IN

LEAVES = ("server", "client", "combined", "code_signing", "email", "ocsp-signing")
FAST = (
    KeySpec.RSA_2048,
    KeySpec.EC_P256,
    KeySpec.EC_P384,
    KeySpec.EC_P521,
    KeySpec.ED25519,
    KeySpec.ED448,
)
POST_QUANTUM = (KeySpec.ML_DSA_44, KeySpec.ML_DSA_65, KeySpec.ML_DSA_87)
PURPOSES = {
    "server": "sslserver",
    "client": "sslclient",
    "combined": "sslserver",
    "email": "smimesign",
    "code_signing": "any",
    "ocsp-signing": "ocsphelper",
}
PUBLICATION = CaPublication(
    cdp_enabled=True,
    cdp_urls=("http://pki.example.com/cdp/{ca_refid}.crl",),
    ocsp_enabled=True,
    ocsp_urls=("http://pki.example.com/ocsp",),
    aia_ca_issuers_enabled=True,
    aia_ca_issuers_urls=("http://pki.example.com/ca/{ca_refid}.cer",),
    cps_enabled=True,
    cps_uri="https://pki.example.com/cps",
    cps_oid="1.3.6.1.4.1.99999.1",
)


def a_chain(place, spec):
    root = place.a_ca("Root", spec=spec, publication=PUBLICATION)
    issuing = place.a_ca(
        "Issuing",
        spec=spec,
        parent=root,
        parameters=CAParameters(path_length=0),
        publication=PUBLICATION,
    )
    return root, issuing


def a_leaf(place, issuing, spec, profile):
    _, spki = place.new_key(spec)
    texts = ["email:user@example.com"] if profile == "email" else ["dns:www.example.com"]
    subject = "user" if profile == "email" else "www.example.com"
    return place.issue(
        issuing,
        profile=profile,
        public_key=spki,
        subject=build_subject([("C", "DE"), ("O", "Example"), ("CN", subject)]),
        names=tuple(parse_general_names(texts)),
    )


def lint(certificate):
    """What pkilint's PKIX set warns of."""
    from pkilint import loader
    from pkilint.pkix import certificate as pkix
    from pkilint.pkix import extension as pkix_extension
    from pkilint.pkix import name as pkix_name

    validator = pkix.create_pkix_certificate_validator_container(
        pkix.create_decoding_validators(
            pkix_name.ATTRIBUTE_TYPE_MAPPINGS, pkix_extension.EXTENSION_MAPPINGS
        ),
        [
            pkix.create_issuer_validator_container([]),
            pkix.create_validity_validator_container(),
            pkix.create_subject_validator_container([]),
            pkix.create_extensions_validator_container([]),
        ],
    )
    document = loader.load_certificate(certificate.public_bytes(Encoding.DER), "certificate")
    results = validator.validate(document.root)
    return [
        (finding.finding.severity.name, finding.finding.code, finding.message)
        for result in results
        for finding in result.finding_descriptions
        if finding.finding.severity.name in {"WARNING", "ERROR", "FATAL"}
    ]


@pytest.mark.parametrize("spec", FAST)
def test_pkilint_finds_nothing(place, spec):
    root, issuing = a_chain(place, spec)
    found = {
        "root": lint(root.certificate),
        "issuing": lint(issuing.certificate),
    }
    for profile in LEAVES:
        found[profile] = lint(a_leaf(place, issuing, spec, profile))
    assert {name: findings for name, findings in found.items() if findings} == {}


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("spec", FAST)
def test_openssl_verifies_every_profile(place, spec, tmp_path):
    root, issuing = a_chain(place, spec)
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "issuing.pem").write_bytes(issuing.certificate.public_bytes(Encoding.PEM))
    for profile in LEAVES:
        leaf = tmp_path / f"{profile}.pem"
        leaf.write_bytes(a_leaf(place, issuing, spec, profile).public_bytes(Encoding.PEM))
        command = ["openssl", "verify", "-x509_strict", "-purpose", PURPOSES[profile]]
        command += ["-attime", str(int(NOW.timestamp())), "-CAfile", "root.pem"]
        command += ["-untrusted", "issuing.pem", leaf.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, (profile, done.stderr)


@pytest.mark.peer("openssl")
def test_openssl_shows_the_promised_profile(place, tmp_path):
    _, issuing = a_chain(place, KeySpec.EC_P256)
    path = tmp_path / "leaf.pem"
    path.write_bytes(a_leaf(place, issuing, KeySpec.EC_P256, "server").public_bytes(Encoding.PEM))
    shown = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-text"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    for line in (
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "CA:FALSE",
        "X509v3 Key Usage: critical",
        "Digital Signature",
        "TLS Web Server Authentication",
        "DNS:www.example.com",
        "URI:http://pki.example.com/ocsp",
        "CPS: https://pki.example.com/cps",
    ):
        assert line in shown, line


@pytest.mark.peer("openssl")
def test_openssl_refuses_a_leaf_outside_the_constraints(place, root, tmp_path):
    """The gate refuses it first; this one was signed before the constraint existed."""
    from ucm.domain.nameconstraints import parse_subtree

    free = place.a_ca("Same", parent=root)
    leaf = place.issue(free)
    tight = place.pipeline.issue(
        place.request(
            root,
            public_key=_spki(free),
            profile="intermediate-ca",
            subject=free.certificate.subject,
            names=(),
            ca_parameters=CAParameters(
                permitted_subtrees=(parse_subtree("dns:example.net", pointer=""),)
            ),
        ),
        actor=_admin(),
    )
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "tight.pem").write_bytes(
        x509.load_der_x509_certificate(tight.der).public_bytes(Encoding.PEM)
    )
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-attime", str(int(NOW.timestamp())), "-CAfile", "root.pem"]
    command += ["-untrusted", "tight.pem", "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "permitted subtree violation" in done.stderr


def _spki(ca):
    from ucm.api.publickeys import spki_der

    return spki_der(ca.certificate.public_key())


def _admin():
    from tests.issuance.conftest import ADMIN

    return ADMIN


@pytest.mark.parametrize("spec", [*FAST, *POST_QUANTUM])
def test_asn1crypto_reads_what_was_written(place, spec):
    root, issuing = a_chain(place, spec)
    for profile in LEAVES:
        leaf = a_leaf(place, issuing, spec, profile)
        der = leaf.public_bytes(Encoding.DER)
        parsed = asn1_x509.Certificate.load(der, strict=True)
        tbs = parsed["tbs_certificate"]
        assert tbs["version"].native == "v3"
        assert tbs["signature"].dump() == parsed["signature_algorithm"].dump()
        issuer = asn1_x509.Certificate.load(issuing.der)["tbs_certificate"]["subject"]
        assert tbs["issuer"].dump() == issuer.dump()
        oids = [item["extn_id"].dotted for item in tbs["extensions"]]
        assert len(oids) == len(set(oids))
        assert tbs["subject_public_key_info"].dump() == _spki_of(leaf)
        leaf.verify_directly_issued_by(issuing.certificate)
        issuing.certificate.verify_directly_issued_by(root.certificate)


def _spki_of(certificate):
    from ucm.api.publickeys import spki_der

    return spki_der(certificate.public_key())


def test_every_built_in_leaf_profile_is_looked_at():
    assert set(LEAVES) == set(BUILT_IN) - {"root-ca", "intermediate-ca", "server-tls"}
