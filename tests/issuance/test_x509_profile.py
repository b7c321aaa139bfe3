"""The certificate profile, row by row: fields, identifiers, usages and purposes."""

import datetime
from datetime import timedelta

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import (
    ExtensionOID,
)

from tests.issuance.conftest import (
    ADMIN,
    NOW,
    a_csr,
    a_key,
    codes,
    ekus,
    enrollee,
    extension,
    foreign_ca,
    ku,
    present,
    raw,
)
from ucm.api.errors import Conflict, Forbidden, Invalid, PolicyDenied
from ucm.api.issuance import (
    CAParameters,
    CertificateKind,
    Profile,
)
from ucm.api.keys import KeySpec
from ucm.api.names import build_subject, parse_general_names
from ucm.api.x509 import load_certificate, parse_serial, serial_text

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
SMARTCARD_LOGON = "1.3.6.1.4.1.311.20.2.2"
CMC_RA = "1.3.6.1.5.5.7.3.28"
ANY = "2.5.29.37.0"
DNS = x509.DNSName


def test_row_1_serials_are_positive_random_and_unique(place, root):
    leaves = [place.issue(root) for _ in range(40)]
    assert len({leaf.serial_number for leaf in leaves}) == len(leaves)
    for leaf in leaves:
        assert 64 <= leaf.serial_number.bit_length() <= 159
        octets = asn1_x509.Certificate.load(leaf.public_bytes(Encoding.DER))["tbs_certificate"][
            "serial_number"
        ].contents
        assert len(octets) <= 20
        assert octets[0] < 0x80


def test_row_1_a_serial_is_never_used_twice(place, root):
    class StuckIds:
        def __init__(self, inner):
            self.inner = inner

        def serial(self):
            return 1 << 100

        def __getattr__(self, name):
            return getattr(self.inner, name)

    from dataclasses import replace

    pipeline = replace(place.pipeline, ids=StuckIds(place.ids))
    pipeline.issue(place.request(root), actor=ADMIN)
    with pytest.raises(Conflict, match="serial"):
        pipeline.issue(place.request(root), actor=ADMIN)


@pytest.mark.parametrize("text", ["0x0A1B2C", "a1b2c", "00:0A:1B:2C", "0a1B 2c", "000a1b2c"])
def test_row_2_serials_have_one_canonical_form(text):
    assert serial_text(parse_serial(text)) == "a1b2c"


def test_row_2_a_certificate_is_found_by_issuer_and_serial(place, root):
    certificate = place.issue(root)
    with place.uow.read() as reader:
        found = reader.certificates.find(root.id, certificate.serial_number)
    assert found.serial == f"{certificate.serial_number:x}"


def test_row_3_version_3_and_one_signature_algorithm(place, root):
    der = place.issue(root).public_bytes(Encoding.DER)
    parsed = asn1_x509.Certificate.load(der)
    assert parsed["tbs_certificate"]["version"].native == "v3"
    inside = parsed["tbs_certificate"]["signature"].dump()
    assert inside == parsed["signature_algorithm"].dump()


def test_row_3_version_1_with_extensions_is_refused_on_import(place, root):
    der = bytearray(place.issue(root).public_bytes(Encoding.DER))
    at = der.index(b"\xa0\x03\x02\x01\x02")
    der[at + 4] = 0
    with pytest.raises(Invalid, match="version"):
        load_certificate(bytes(der))


def test_row_4_times_are_utctime_to_2049_and_generalized_after(place):
    long_lived = Profile(
        name="root-ca",
        kind=CertificateKind.ROOT_CA,
        key_usage=frozenset({"keyCertSign", "cRLSign"}),
        max_validity=timedelta(days=18000),
    )
    before = place.a_ca("Before", profile=long_lived, days=8438)
    after = place.a_ca("After", profile=long_lived, days=8439)
    assert (before.not_after.year, after.not_after.year) == (2049, 2050) or (
        before.not_after.year == 2049 and after.not_after.year in (2049, 2050)
    )
    for ca, tag in ((before, 0x17), (place.a_ca("Far", profile=long_lived, days=9000), 0x18)):
        validity = asn1_x509.Certificate.load(ca.der)["tbs_certificate"]["validity"]
        assert validity["not_before"].chosen.dump()[0] == 0x17
        assert validity["not_after"].chosen.dump()[0] == tag
        assert validity["not_after"].chosen.contents.endswith(b"Z")
        assert b"." not in validity["not_after"].chosen.contents


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"validity": timedelta(days=3651)}, "validity-too-long"),
        ({"validity": timedelta(0)}, "validity-not-positive"),
        ({"validity": timedelta(days=-1)}, "validity-not-positive"),
        ({"not_after": NOW - timedelta(days=1)}, "already-expired"),
        ({"not_after": datetime.datetime.max.replace(tzinfo=datetime.UTC)}, "validity-too-long"),
        ({"not_after": NOW.replace(tzinfo=None)}, "naive-time"),
        ({"not_before": NOW + timedelta(days=1)}, "not-before-in-future"),
    ],
)
def test_row_5_validity_bounds(place, wish, code):
    far = place.a_ca("Far", days=18000)
    with pytest.raises(Invalid) as error:
        place.issue(far, **wish)
    assert error.value.fields[0].code == code


def test_row_5_beyond_the_issuer_is_refused_or_cut_and_never_longer(place):
    short = place.a_ca("Short", days=30)
    with pytest.raises(Invalid) as error:
        place.issue(short, validity=timedelta(days=31))
    assert error.value.fields[0].code == "validity-beyond-issuer"
    for origin, actor in (("csr", ADMIN), ("renewal", ADMIN), ("scep", enrollee())):
        certificate = place.issue(short, validity=timedelta(days=31), origin=origin, actor=actor)
        assert certificate.not_valid_after_utc == short.not_after
    assert place.issue(short).not_valid_after_utc == short.not_after  # by the profile's default


def test_row_5_days_are_days_in_leap_years_too(place, root):
    place.clock.advance(datetime.datetime(2028, 2, 1, tzinfo=datetime.UTC) - place.clock.now())
    certificate = place.issue(root, validity=timedelta(days=365))
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime == timedelta(days=365)


def test_row_6_not_before_lies_back_without_stretching_the_lifetime(place, root):
    place.clock.advance(timedelta(hours=1))
    certificate = place.issue(root, validity=timedelta(days=90))
    assert certificate.not_valid_before_utc <= place.clock.now() - timedelta(minutes=5)
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime == timedelta(days=90)
    end = place.clock.now() + timedelta(days=10)
    assert place.issue(root, not_after=end).not_valid_after_utc == end


def test_row_7_subject_key_id_comes_from_the_key_never_from_the_request(place, root):
    key = a_key()
    wanted = x509.SubjectKeyIdentifier(b"\x01" * 20)
    certificate = place.issue(root, a_csr(key=key, extensions=[(wanted, False)]))
    ski = extension(certificate, x509.SubjectKeyIdentifier).value
    assert ski == x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert len(ski.digest) == 20
    assert extension(root.certificate, x509.SubjectKeyIdentifier)


def test_row_8_authority_key_id_is_the_issuers_own_value(place, root):
    odd = place.imported_ca(*foreign_ca(ski=bytes(range(32))))
    aki = extension(place.issue(odd), x509.AuthorityKeyIdentifier)
    assert aki.value.key_identifier == bytes(range(32))
    assert aki.value.authority_cert_issuer is None
    assert aki.value.authority_cert_serial_number is None
    assert not aki.critical
    assert present(root.certificate, x509.AuthorityKeyIdentifier) is None


def test_row_8_an_issuer_without_a_key_id_is_identified_by_its_key(place):
    certificate, key = foreign_ca()
    ca = place.imported_ca(certificate, key)
    aki = extension(place.issue(ca), x509.AuthorityKeyIdentifier).value
    expected = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    assert aki.key_identifier == expected.key_identifier


def test_row_9_basic_constraints_encoding(place, root):
    leaf = place.issue(root)
    assert raw(leaf, ExtensionOID.BASIC_CONSTRAINTS) == bytes.fromhex("3000")
    assert raw(root.certificate, ExtensionOID.BASIC_CONSTRAINTS) == bytes.fromhex("30030101ff")
    assert extension(root.certificate, x509.BasicConstraints).critical
    limited = place.a_ca("Limited", parent=root, parameters=CAParameters(path_length=0))
    assert raw(limited.certificate, ExtensionOID.BASIC_CONSTRAINTS) == bytes.fromhex(
        "30060101ff020100"
    )


@pytest.mark.parametrize("origin", ["api", "csr", "acme", "scep", "est"])
def test_row_9_a_request_for_an_authority_becomes_a_leaf(place, root, origin):
    csr = a_csr(
        extensions=[
            (x509.BasicConstraints(True, 3), True),
            (x509.KeyUsage(False, False, False, False, False, True, True, False, False), True),
        ]
    )
    actor = ADMIN if origin in ("api", "csr") else enrollee(origin)
    leaf = place.issue(root, csr, origin=origin, actor=actor)
    assert extension(leaf, x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    assert not ku(leaf) & {"keyCertSign", "cRLSign"}
    facts = place.audit("certificate_created")[-1]["details"]
    assert "CA:TRUE not granted" in facts["adjustments"]
    assert "key usage keyCertSign not granted" in facts["adjustments"]


def test_row_10_path_length_shrinks_on_every_route(place):
    root = place.a_ca("R", parameters=CAParameters(path_length=2))
    child = place.a_ca("C", parent=root)
    assert extension(child.certificate, x509.BasicConstraints).value.path_length == 1
    last = place.a_ca("L", parent=child, parameters=CAParameters(path_length=0))
    with pytest.raises(PolicyDenied) as error:
        place.a_ca("X", parent=last)
    assert codes(error) == {"path-length-exhausted"}
    with pytest.raises(PolicyDenied) as error:
        place.a_ca("Y", parent=root, parameters=CAParameters(path_length=2))
    assert codes(error) == {"path-length-too-great"}
    with pytest.raises(PolicyDenied) as error:  # by CSR
        place.issue(last, a_csr("CN=Sub"), origin="csr", profile="intermediate-ca")
    assert codes(error) == {"path-length-exhausted"}
    by_csr = place.issue(child, a_csr("CN=Sub", san=()), origin="csr", profile="intermediate-ca")
    assert extension(by_csr, x509.BasicConstraints).value.path_length == 0


def test_row_10_a_limit_far_above_counts_too(place):
    root = place.a_ca("R", parameters=CAParameters(path_length=1))
    certificate, key = foreign_ca("Between")
    between = place.imported_ca(certificate, key, name="Between", parent=root)
    with pytest.raises(PolicyDenied) as error:
        place.a_ca("Below", parent=between)
    assert codes(error) == {"path-length-exhausted"}


def test_row_10_an_authority_needs_its_own_permission(place, root):
    from ucm.api.actor import Actor, ActorKind

    operator = Actor(
        kind=ActorKind.USER, name="op", permissions=frozenset({"write:certificates", "write:csrs"})
    )
    with pytest.raises(Forbidden, match="write:cas"):
        place.issue(
            root, a_csr("CN=Sub", san=()), origin="csr", profile="intermediate-ca", actor=operator
        )
    assert place.issue(root, actor=operator)


@pytest.mark.parametrize(
    ("spec", "profile", "bits"),
    [
        (KeySpec.EC_P256, "server", "03020780"),
        (KeySpec.RSA_2048, "server", "030205a0"),
        (KeySpec.RSA_2048, "email", "030205e0"),
        (KeySpec.ED25519, "email", "030206c0"),
    ],
)
def test_row_11_key_usage_bits(place, root, spec, profile, bits):
    _, spki = place.new_key(spec)
    leaf = place.issue(
        root,
        profile=profile,
        public_key=spki,
        subject=build_subject([("CN", "Someone")]),
        names=tuple(parse_general_names(["email:a@example.com"])),
    )
    assert raw(leaf, ExtensionOID.KEY_USAGE) == bytes.fromhex(bits)
    assert extension(leaf, x509.KeyUsage).critical


def test_row_11_key_usage_bits_of_authorities(place, root, issuing):
    assert raw(root.certificate, ExtensionOID.KEY_USAGE) == bytes.fromhex("03020106")
    assert raw(issuing.certificate, ExtensionOID.KEY_USAGE) == bytes.fromhex("03020186")


def test_row_11_no_bit_at_all_is_refused():
    from ucm.api.x509 import key_usage

    with pytest.raises(Invalid, match="At least one"):
        key_usage([])
    decipher = key_usage(["decipherOnly", "keyAgreement"])
    assert decipher.public_bytes() == bytes.fromhex("0303070880")


def test_row_12_an_authority_must_sign_certificates(place, root):
    with pytest.raises(Invalid) as error:
        place.a_ca(
            "X",
            profile=Profile(name="x", kind=CertificateKind.ROOT_CA),
            parameters=CAParameters(key_usage=frozenset({"cRLSign"})),
        )
    assert error.value.fields[0].code == "ca-without-key-cert-sign"


@pytest.mark.parametrize("bit", ["encipherOnly", "decipherOnly"])
def test_row_12_only_bits_need_key_agreement(bit):
    from ucm.api.x509 import key_usage

    with pytest.raises(Invalid, match="keyAgreement"):
        key_usage([bit, "digitalSignature"])


ALL_BITS = frozenset(
    {"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement"}
)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        (KeySpec.RSA_2048, ALL_BITS - {"keyAgreement"}),
        (KeySpec.EC_P256, ALL_BITS - {"keyEncipherment", "dataEncipherment"}),
        (KeySpec.ED25519, {"digitalSignature", "nonRepudiation"}),
        (KeySpec.ED448, {"digitalSignature", "nonRepudiation"}),
        (KeySpec.ML_DSA_44, {"digitalSignature", "nonRepudiation"}),
        (KeySpec.ML_DSA_65, {"digitalSignature", "nonRepudiation"}),
    ],
)
def test_row_13_key_usage_fits_the_key(place, root, spec, kept):
    profile = Profile(name="all", key_usage=ALL_BITS, extended_key_usage=(SERVER_AUTH,))
    _, spki = place.new_key(spec)
    leaf = place.issue(
        root,
        profile=profile,
        public_key=spki,
        names=tuple(parse_general_names(["dns:a.example.com"])),
    )
    assert ku(leaf) == kept
    dropped = place.audit("certificate_created")[-1]["details"]["adjustments"]
    assert {f"key usage {bit} not granted" for bit in ALL_BITS - kept} <= set(dropped)


@pytest.mark.parametrize(
    ("profile", "purposes"),
    [
        ("server", [SERVER_AUTH]),
        ("client", [CLIENT_AUTH]),
        ("combined", [SERVER_AUTH, CLIENT_AUTH]),
        ("code_signing", ["1.3.6.1.5.5.7.3.3"]),
        ("email", ["1.3.6.1.5.5.7.3.4"]),
        ("ocsp-signing", [OCSP_SIGNING]),
    ],
)
def test_row_14_purposes_of_the_built_in_profiles(place, root, profile, purposes):
    leaf = place.issue(root, profile=profile)
    assert ekus(leaf) == purposes
    assert not extension(leaf, x509.ExtendedKeyUsage).critical
    assert "digitalSignature" in ku(leaf)


def test_row_14_time_stamping_is_critical_and_alone(place, root):
    profile = Profile(
        name="tsa", key_usage=frozenset({"digitalSignature"}), extended_key_usage=(TIME_STAMPING,)
    )
    leaf = place.issue(root, profile=profile)
    assert extension(leaf, x509.ExtendedKeyUsage).critical
    with pytest.raises(Invalid, match="only extended key usage"):
        place.issue(root, profile=profile, extra_ekus=(SERVER_AUTH,))


def test_row_14_a_purpose_without_its_usage_gets_it(place, root):
    profile = Profile(
        name="odd",
        key_usage=frozenset({"keyEncipherment"}),
        extended_key_usage=("1.3.6.1.5.5.7.3.3",),
    )
    key = a_key("RSA-2048")
    assert "digitalSignature" in ku(place.issue(root, a_csr(key=key), profile=profile))


FORBIDDEN = [ANY, OCSP_SIGNING, TIME_STAMPING, SMARTCARD_LOGON, CMC_RA]


@pytest.mark.parametrize("oid", FORBIDDEN)
@pytest.mark.parametrize("origin", ["acme", "scep", "est", "cmp", "a-protocol-of-tomorrow"])
def test_row_15_an_enrollee_never_gets_a_forbidden_purpose(place, root, origin, oid):
    csr = a_csr(extensions=[(x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid)]), False)])
    leaf = place.issue(root, csr, origin=origin, actor=enrollee(origin))
    assert ekus(leaf) == [SERVER_AUTH]  # all refused: the profile's default, never none
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, origin=origin, actor=enrollee(origin), extra_ekus=(oid,))
    assert codes(error) == {"purpose-not-allowed"}


def test_row_15_a_profile_of_the_authoritys_own_is_not_for_enrollees(place, root):
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, profile="ocsp-signing", origin="scep", actor=enrollee())
    assert "profile-not-for-enrolment" in codes(error)


def test_row_15_a_csr_narrows_but_never_widens_the_profile(place, root):
    def wish(*oids):
        value = x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids])
        return a_csr(extensions=[(value, False)])

    assert ekus(place.issue(root, wish(CLIENT_AUTH), profile="combined")) == [CLIENT_AUTH]
    assert ekus(place.issue(root, wish(CLIENT_AUTH), profile="server")) == [SERVER_AUTH]
    device = Profile(
        name="device",
        extended_key_usage=(SERVER_AUTH,),
        allowed_extra_ekus=frozenset({CLIENT_AUTH, OCSP_SIGNING}),
    )
    leaf = place.issue(
        root, wish(CLIENT_AUTH, OCSP_SIGNING), profile=device, origin="est", actor=enrollee("est")
    )
    assert ekus(leaf) == [CLIENT_AUTH]


def test_row_15_an_operator_may_add_purposes_but_not_all(place, root):
    assert ekus(place.issue(root, extra_ekus=(OCSP_SIGNING,))) == [SERVER_AUTH, OCSP_SIGNING]
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, extra_ekus=(ANY,))
    assert codes(error) == {"purpose-not-allowed"}


def test_row_16_an_acme_leaf_is_for_tls_servers(place, root):
    bare = Profile(name="bare")
    leaf = place.issue(root, profile=bare, origin="acme", actor=enrollee("acme"))
    assert ekus(leaf) == [SERVER_AUTH]


def test_row_17_issuing_authorities_have_no_purpose_by_default(place, root, issuing):
    assert present(issuing.certificate, x509.ExtendedKeyUsage) is None
    assert present(root.certificate, x509.ExtendedKeyUsage) is None
    responder = place.issue(issuing, profile="ocsp-signing")
    assert present(responder, x509.OCSPNoCheck)
