"""Requests are read strictly: every malformed, weak or ambiguous one is refused with its reason."""

import math
import shutil
import subprocess

import pytest
from asn1crypto import algos as asn1_algos
from asn1crypto import core as asn1_core
from asn1crypto import keys as asn1_keys
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, mlkem, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tests.issuance.conftest import ADMIN, a_csr, a_key, ekus, enrollee, extension, present
from ucm.api.csr import parse_csr
from ucm.api.errors import Invalid, TooLarge
from ucm.api.keys import KeySpec
from ucm.api.names import build_subject, general_name_text, parse_general_name
from ucm.api.publickeys import accepted_spec
from ucm.api.x509 import load_certificate, load_certificates

pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length:UserWarning")


def refused(data, **options):
    with pytest.raises(Invalid) as error:
        parse_csr(data, **options)
    assert all(f.pointer == "/csr" or f.pointer.startswith("/csr/") for f in error.value.fields)
    assert error.value.fields
    return error.value.fields[0].code


def csr_with(attributes, *, key=None, version=0, subject=None, sort=False):
    """A correctly signed request with exactly these attributes (DER each; ``None``: no [0])."""
    key = key or a_key()
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = (subject or build_subject([("CN", "www.example.com")])).public_bytes()
    body = asn1_core.Integer(version).dump() + name + spki
    if attributes is not None:
        body += tlv(0xA0, b"".join(sorted(attributes) if sort else attributes))
    info = tlv(0x30, body)
    signature = key.sign(info, ec.ECDSA(hashes.SHA256()))
    algorithm = asn1_algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}).dump()
    return tlv(0x30, info + algorithm + tlv(0x03, b"\0" + signature))


def tlv(tag, content):
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def ext_request(*extensions, values=1):
    """An extensionRequest attribute; each extension is (oid, critical, DER)."""
    listed = b"".join(
        tlv(
            0x30,
            asn1_core.ObjectIdentifier(oid).dump()
            + (b"\x01\x01\xff" if critical else b"")
            + tlv(0x04, value),
        )
        for oid, critical, value in extensions
    )
    oid = asn1_core.ObjectIdentifier("1.2.840.113549.1.9.14").dump()
    return tlv(0x30, oid + tlv(0x31, tlv(0x30, listed) * values))


def san(tag, content):
    return ("2.5.29.17", False, tlv(0x30, tlv(tag, content)))


BASIC_CA = ("2.5.29.19", True, bytes.fromhex("30030101ff"))
CHALLENGE = tlv(
    0x30,
    asn1_core.ObjectIdentifier("1.2.840.113549.1.9.7").dump()
    + tlv(0x31, asn1_core.PrintableString("s3cret").dump()),
)


def test_row_27_a_flipped_signature_bit_fails_proof_of_possession():
    for at in (-1, -20):
        data = bytearray(a_csr())
        data[at] ^= 1
        assert refused(bytes(data)) == "proof-of-possession"


def test_row_27_possession_is_judged_before_the_content():
    data = bytearray(a_csr("CN=" + "a" * 65))
    data[-1] ^= 1
    assert refused(bytes(data)) == "proof-of-possession"


@pytest.mark.peer("openssl")
def test_row_27_a_weak_digest_is_named():
    made = openssl("req -new -sha1 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=a")
    with pytest.raises(Invalid, match="SHA1") as error:
        parse_csr(made)
    assert error.value.fields[0].code == "weak-digest"
    assert "sha256" in error.value.hint


def openssl(arguments, **options):
    program = shutil.which("openssl")
    done = subprocess.run(
        [program, *arguments.split()], capture_output=True, timeout=60, check=True, **options
    )
    return done.stdout


def test_row_28_two_extension_requests_are_ambiguous():
    first = ext_request(san(0x82, b"www.example.com"))
    second = ext_request(BASIC_CA)
    assert refused(csr_with([first, second], sort=True)) == "duplicate-attribute"


def test_row_28_the_old_microsoft_attribute_counts_too():
    ours = ext_request(san(0x82, b"www.example.com"))
    theirs = ours.replace(
        asn1_core.ObjectIdentifier("1.2.840.113549.1.9.14").dump(),
        asn1_core.ObjectIdentifier("1.3.6.1.4.1.311.2.1.14").dump(),
    )
    content = theirs[2 + (theirs[1] >= 128) :]
    theirs = tlv(0x30, content)
    assert refused(csr_with([ours, theirs], sort=True)) == "duplicate-attribute"


def test_row_28_two_values_or_a_repeated_extension_are_refused():
    assert refused(csr_with([ext_request(BASIC_CA, values=2)])) == "invalid-csr"
    assert refused(csr_with([ext_request(BASIC_CA, BASIC_CA)])) == "duplicate-extension"


def test_row_29_pem_forms_of_real_clients():
    der = a_csr()
    text = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)
    assert parse_csr(text).der == der
    assert parse_csr(b"Certificate Request:\n  Data:\n" + text).der == der
    assert parse_csr(text.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")).der == der
    assert parse_csr(text.replace(b"\n", b"\r\n")).der == der


def test_row_29_missing_attributes_are_refused_cleanly_or_taken_when_lenient():
    made = csr_with(None)
    assert refused(made) == "invalid-csr"
    assert parse_csr(made, lenient=True).der == made


def test_row_29_attributes_out_of_order_are_for_the_lenient_way():
    attributes = sorted([ext_request(san(0x82, b"www.example.com")), CHALLENGE], reverse=True)
    made = csr_with(attributes)
    assert refused(made) == "invalid-csr"
    read = parse_csr(made, lenient=True)
    assert read.challenge_password == "s3cret"
    assert [general_name_text(n) for n in read.names] == ["dns:www.example.com"]
    assert read.der == made
    flipped = bytearray(made)
    flipped[-1] ^= 1
    assert refused(bytes(flipped), lenient=True) == "proof-of-possession"


def test_row_29_microsoft_attributes_are_tolerated():
    version = tlv(
        0x30,
        asn1_core.ObjectIdentifier("1.3.6.1.4.1.311.13.2.3").dump()
        + tlv(0x31, asn1_core.IA5String("10.0.20348.2").dump()),
    )
    made = csr_with([version, ext_request(san(0x82, b"www.example.com"))], sort=True)
    assert len(parse_csr(made).names) == 1


def test_row_29_subjects_without_a_common_name_do_not_crash(place, root):
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.UNSTRUCTURED_NAME, "router1"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "9K0X"),
        ]
    )
    made = csr_with([], subject=name)
    leaf = place.issue(root, made, profile="client", origin="scep", actor=enrollee())
    assert leaf.subject == name


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1024, 1032, 2047])
def test_row_30_short_rsa_keys_are_refused(bits):
    key = rsa.generate_private_key(65537, bits)
    assert refused(a_csr(key=key)) == "key-too-weak"


@pytest.mark.peer("openssl")
def test_row_30_rsa_512_is_refused():
    made = openssl("req -new -newkey rsa:512 -nodes -keyout /dev/null -subj /CN=a")
    assert refused(made) == "key-too-weak"


def test_row_30_exponent_3_is_refused():
    assert refused(a_csr(key=rsa.generate_private_key(3, 2048))) == "key-too-weak"


@pytest.mark.parametrize(
    "curve", [ec.SECP256K1(), ec.SECP192R1(), ec.SECP224R1(), ec.BrainpoolP256R1()]
)
def test_row_30_other_curves_are_refused(curve):
    key = ec.generate_private_key(curve)
    with pytest.raises(Invalid) as error:
        parse_csr(a_csr(key=key))
    assert error.value.fields[0].code == "key-algorithm"
    assert "EC-P256" in error.value.hint


def test_row_30_dsa_is_refused():
    key = dsa.generate_private_key(2048)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Invalid):
        accepted_spec(spki)


@pytest.mark.peer("openssl")
def test_row_30_explicit_curve_parameters_are_refused():
    made = openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit "
        "-nodes -keyout /dev/null -subj /CN=a"
    )
    assert refused(made) == "ec-explicit-parameters"


@pytest.mark.peer("openssl")
def test_row_30_explicit_parameters_are_not_hidden_by_the_named_form_elsewhere(tmp_path):
    """The named form of the same key inside an attribute must not pass for the key itself."""
    key = openssl(
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit"
    )
    (tmp_path / "key.pem").write_bytes(key)
    named = load_pem_private_key(key, None).public_key()
    spki = named.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    made = openssl(
        f"req -new -key {tmp_path}/key.pem -subj /CN=a -addext 1.2.3.4=DER:{spki.hex(':')}"
    )
    assert spki in x509.load_pem_x509_csr(made).tbs_certrequest_bytes
    assert refused(made) == "ec-explicit-parameters"


def test_row_30_compressed_points_are_refused():
    key = a_key()
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = asn1_keys.PublicKeyAlgorithm(
        {"algorithm": "ec", "parameters": asn1_keys.ECDomainParameters("named", "secp256r1")}
    ).dump()
    spki = tlv(0x30, algorithm + tlv(0x03, b"\0" + point))
    with pytest.raises(Invalid) as error:
        accepted_spec(spki)
    assert error.value.fields[0].code == "ec-point-format"


@pytest.mark.parametrize("bits", [2056, 6144])
def test_row_30_rsa_sizes_are_whitelisted(bits):
    modulus = (1 << bits) - 1
    spki = asn1_keys.PublicKeyInfo.wrap(
        asn1_keys.RSAPublicKey({"modulus": modulus, "public_exponent": 65537}), "rsa"
    ).dump()
    with pytest.raises(Invalid, match="2048, 3072, 4096 and 8192"):
        accepted_spec(spki)


def rsa_spki(modulus, exponent=65537):
    public = asn1_keys.RSAPublicKey({"modulus": modulus, "public_exponent": exponent})
    return asn1_keys.PublicKeyInfo.wrap(public, "rsa").dump()


SMALL_PRIMES = math.prod(n for n in range(2, 752) if all(n % d for d in range(2, 28) if d < n))


def without_small_factors(n, step):
    """The first number from ``n`` in steps that no small prime divides; whether it is prime does
    not matter to the checks, and a search for primes would take seconds.
    """
    while math.gcd(n, SMALL_PRIMES) != 1:
        n += step
    return n


def test_row_31_close_primes_are_found():
    p = without_small_factors((3 << 1022) + 1, 2)
    q = without_small_factors(p + 2000, 2)
    with pytest.raises(Invalid, match="too close"):
        accepted_spec(rsa_spki(p * q))


def test_row_31_the_roca_fingerprint_is_found():
    product = math.prod(n for n in range(3, 168) if all(n % d for d in range(2, 14) if d < n))

    def factor(a, bits):
        start = (1 << bits) // product * product + product + pow(65537, a, product)
        return without_small_factors(start, product)

    modulus = factor(5, 1024) * factor(123, 1023)
    assert modulus.bit_length() == 2048
    with pytest.raises(Invalid, match="ROCA"):
        accepted_spec(rsa_spki(modulus))


def test_row_31_small_factors_are_found():
    modulus = ((1 << 2040) + 1) * 251
    with pytest.raises(Invalid, match="small factor"):
        accepted_spec(rsa_spki(modulus))


def test_row_31_good_keys_pass():
    for _ in range(3):
        key = rsa.generate_private_key(65537, 2048)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert accepted_spec(spki) is KeySpec.RSA_2048


def test_row_34_slh_dsa_is_refused_cleanly():
    algorithm = tlv(0x30, bytes.fromhex("0609608648016503040314"))
    with pytest.raises(Invalid) as error:
        accepted_spec(tlv(0x30, algorithm + tlv(0x03, b"\0" + bytes(32))))
    assert error.value.fields[0].code == "key-algorithm"


@pytest.mark.parametrize("kind", [mlkem.MLKEM768PrivateKey, mlkem.MLKEM1024PrivateKey])
def test_row_35_ml_kem_keys_cannot_prove_possession(kind):
    key = kind.generate().public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Invalid, match="ML-KEM"):
        accepted_spec(spki)


def test_row_44_unknown_critical_extensions_are_refused_others_dropped(place, root):
    poison = ("1.3.6.1.4.1.11129.2.4.3", True, b"\x05\x00")
    unknown = ("1.2.3.4.5", True, b"\x05\x00")
    assert refused(csr_with([ext_request(unknown)])) == "unknown-critical-extension"
    harmless = [
        poison,
        ("1.2.3.4.5", False, b"\x05\x00"),
        ("1.3.6.1.5.5.7.48.1.5", False, b"\x05\x00"),
        ("2.5.29.14", False, tlv(0x04, b"\x01" * 20)),
        (
            "1.3.6.1.4.1.11129.2.4.2",
            False,
            tlv(0x04, b"\x00\x00"),
        ),
        san(0x82, b"www.example.com"),
    ]
    request = parse_csr(csr_with([ext_request(*harmless)]))
    assert len(request.ignored_extensions) == 5
    leaf = place.issue(root, request)
    for oid, _, _ in harmless[:3]:
        assert all(e.oid.dotted_string != oid for e in leaf.extensions)
    assert present(leaf, x509.OCSPNoCheck) is None
    assert "requested extension 1.2.3.4.5 ignored" in str(place.audit("certificate_created")[-1])


def test_row_46_inputs_are_capped():
    for read in (parse_csr, load_certificate, load_certificates):
        with pytest.raises(TooLarge):
            read(b"-----BEGIN " + b"A" * (256 * 1024))


# --- the table of bad input ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"a\0.evil", b"a b", b"*.*.x", b"foo*.x", b"x.", b"", b"a..b", b"-a.b", b"10.0.0.1"]
)
def test_bad_input_6_malformed_dns_names(value):
    assert refused(csr_with([ext_request(san(0x82, value))])) == "invalid-san"


@pytest.mark.parametrize("octets", [b"\x0a\0\0\0\x01", b"\x0a\0\0\0\xff\0\0\0", b"", b"\x0a" * 17])
def test_bad_input_7_addresses_of_other_lengths(octets):
    assert refused(csr_with([ext_request(san(0x87, octets))])) in ("invalid-san", "invalid-csr")


def test_bad_input_8_raw_utf8_in_a_dns_name():
    code = refused(csr_with([ext_request(san(0x82, "bücher.example".encode()))]))
    assert code in ("invalid-san", "invalid-csr")


@pytest.mark.parametrize("version", [1, 2])
def test_bad_input_9_other_versions(version):
    assert refused(csr_with([], version=version)) == "invalid-csr"


def test_bad_input_10_trailing_bytes():
    assert refused(a_csr() + b"\0") == "invalid-csr"


def test_bad_input_11_two_requests_in_one_text():
    text = x509.load_der_x509_csr(a_csr()).public_bytes(Encoding.PEM)
    assert refused(text + text) == "several-csrs"


def test_bad_input_12_an_enrollee_asking_for_everything_gets_a_leaf(place, root):
    csr = a_csr(
        extensions=[
            (x509.BasicConstraints(True, None), True),
            (x509.KeyUsage(True, False, False, False, False, True, True, False, False), True),
            (x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.9")]), False),
        ]
    )
    leaf = place.issue(root, csr, origin="est", actor=enrollee("est"))
    assert not extension(leaf, x509.BasicConstraints).value.ca
    assert ekus(leaf) == ["1.3.6.1.5.5.7.3.1"]
    adjustments = place.audit("certificate_created")[-1]["details"]["adjustments"]
    assert "extended key usage OCSPSigning not granted" in adjustments


@pytest.mark.parametrize(
    "subject", ["CN=" + "a" * 65, "CN=a\0b", "C=USA,CN=a", "C=1A,CN=a", "CN=", "O=" + "x" * 65]
)
def test_bad_input_15_malformed_subjects(subject):
    pairs = [p.split("=", 1) for p in subject.split(",")]
    oids = {"CN": "2.5.4.3", "C": "2.5.4.6", "O": "2.5.4.10"}
    rdns = b"".join(
        tlv(
            0x31,
            tlv(
                0x30,
                asn1_core.ObjectIdentifier(oids[short]).dump() + tlv(0x0C, value.encode()),
            ),
        )
        for short, value in pairs
    )

    class Raw:
        def public_bytes(self):
            return tlv(0x30, rdns)

    assert refused(csr_with([], subject=Raw())) in ("invalid-subject", "invalid-csr")


def test_bad_input_16_a_thousand_rdns():
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u")] * 1000)
    assert refused(csr_with([], subject=name)) == "invalid-subject"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        b"\x30\x80\x00\x00",
        b"\x30\x84\xff\xff\xff\xff",
        bytes(64),
        b"hello",
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_broken_pem_and_der_are_refused(data, lenient):
    assert refused(data, lenient=lenient) == "invalid-csr"


@pytest.mark.parametrize(
    "content",
    [
        ("2.5.29.17", False, b"\x30\x00"),
        ("2.5.29.37", False, b"\x30\x00"),
        ("2.5.29.15", True, b"\x03\x01\x00"),
    ],
)
def test_empty_extensions_are_refused(content):
    assert refused(csr_with([ext_request(content)])) in ("empty-extension", "invalid-csr")


def test_every_truncation_is_refused_cleanly():
    der = a_csr(extensions=[(x509.BasicConstraints(True, 1), True)])
    for size in range(0, len(der), 7):
        refused(der[:size])
        refused(der[:size], lenient=True)


def test_every_flipped_byte_is_refused_cleanly():
    der = a_csr()
    for at in range(0, len(der), 3):
        data = bytearray(der)
        data[at] ^= 0x55
        refused(bytes(data))
        refused(bytes(data), lenient=True)


def test_secrets_of_a_request_are_not_shown():
    request = parse_csr(
        csr_with([CHALLENGE, ext_request(san(0x82, b"www.example.com"))], sort=True)
    )
    assert request.challenge_password == "s3cret"
    assert "s3cret" not in repr(request)


def test_wishes_are_read_as_wishes():
    request = parse_csr(
        a_csr(
            extensions=[
                (x509.TLSFeature([x509.TLSFeatureType.status_request]), False),
                (x509.KeyUsage(True, False, True, False, False, False, False, False, False), True),
            ]
        )
    )
    assert request.must_staple
    assert request.key_usage == {"digitalSignature", "keyEncipherment"}
    assert not request.wants_ca


def test_general_names_keep_their_text():
    for text in (
        "dns:a.example.com",
        "ip:2001:db8::1",
        "email:a@example.com",
        "upn:a@EXAMPLE",
        "uri:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "dns:*.example.com",
    ):
        assert general_name_text(parse_general_name(text)) == text


@pytest.mark.peer("openssl")
def test_openssl_requests_are_issued(place, root):
    made = openssl(
        "req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj /C=DE/O=Example/CN=a.example.com "
        "-addext subjectAltName=DNS:a.example.com,IP:192.0.2.1,email:x@example.com"
    )
    issued = place.pipeline.issue(place.request(root, parse_csr(made)), actor=ADMIN)
    assert issued.claimed
