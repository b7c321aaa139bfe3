"""Every lint of the core is shown to bite: a certificate that breaks its rule, and no other."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from tests.issuance.conftest import NOW
from ucm.api.errors import LintFailed
from ucm.api.issuance import CertificateDraft, CertificateKind, Profile
from ucm.api.keys import SignatureScheme
from ucm.api.lint import Severity
from ucm.api.names import build_subject
from ucm.api.publickeys import spki_der
from ucm.api.x509 import key_usage
from ucm.issuance.lint import Linter
from ucm.issuance.lints import CORE_LINTS, read

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = build_subject([("CN", "Test CA")])
SERVER_AUTH = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
TIME_STAMPING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.8")
ANY = x509.ObjectIdentifier("2.5.29.37.0")
DNS = x509.DNSName("www.example.com")


def usage(*names):
    return x509.KeyUsage(**{f: False for f in _FIELDS} | {_FIELD_OF[name]: True for name in names})


_FIELD_OF = {
    "digitalSignature": "digital_signature",
    "keyEncipherment": "key_encipherment",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "dataEncipherment": "data_encipherment",
}
_FIELDS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def leaf_values():
    """Extensions of a right leaf by class, with their criticality."""
    return {
        x509.SubjectKeyIdentifier: (
            x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()),
            False,
        ),
        x509.AuthorityKeyIdentifier: (
            x509.AuthorityKeyIdentifier(b"\x01" * 20, None, None),
            False,
        ),
        x509.BasicConstraints: (x509.BasicConstraints(False, None), True),
        x509.KeyUsage: (key_usage(["digitalSignature"]), True),
        x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([SERVER_AUTH]), False),
        x509.SubjectAlternativeName: (x509.SubjectAlternativeName([DNS]), False),
    }


def a_draft(values=None, *, ca=False, **fields):
    values = leaf_values() if values is None else values
    defaults = {
        "profile": Profile(
            name="p", kind=CertificateKind.INTERMEDIATE_CA if ca else CertificateKind.END_ENTITY
        ),
        "subject": build_subject([("CN", "www.example.com")]),
        "issuer": ISSUER,
        "names": (DNS,),
        "public_key": spki_der(KEY.public_key()),
        "serial": 1 << 100,
        "not_before": NOW,
        "not_after": NOW + timedelta(days=90),
        "scheme": SignatureScheme.ECDSA_SHA256,
        "extensions": tuple(
            x509.Extension(value.oid, critical, value) for value, critical in values.values()
        ),
    }
    return CertificateDraft(**defaults | fields)


def certificate_of(draft, **fields):
    """A certificate made without the gate's builder, with some fields other than the draft's."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(fields.get("subject", draft.subject))
        .issuer_name(fields.get("issuer", draft.issuer))
        .public_key(fields.get("public_key", KEY.public_key()))
        .serial_number(fields.get("serial", draft.serial))
        .not_valid_before(fields.get("not_before", draft.not_before))
        .not_valid_after(fields.get("not_after", draft.not_after))
    )
    for extension in fields.get("extensions", draft.extensions):
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(KEY, hashes.SHA256())


def findings(draft, **fields):
    """Names of the lints that find something."""
    reading = read(certificate_of(draft, **fields), draft)
    return {lint.name for lint in CORE_LINTS if list(lint.rule(reading))}


def test_a_right_leaf_has_no_findings():
    assert findings(a_draft()) == set()


def changed(**by_class):
    """Leaf extensions with some replaced (value, critical) or left out (``None``)."""
    values = leaf_values()
    for name, new in by_class.items():
        kind = getattr(x509, name)
        values.pop(kind, None)
        if new is not None:
            values[kind] = new
    return values


RULES = {
    "no key usage": (changed(KeyUsage=None), {"key-usage", "extended-key-usage"}),
    "key usage not critical": (
        changed(KeyUsage=(key_usage(["digitalSignature"]), False)),
        {"key-usage"},
    ),
    "no bit set": (changed(KeyUsage=(usage(), True)), {"key-usage", "extended-key-usage"}),
    "leaf signs certificates": (
        changed(KeyUsage=(usage("digitalSignature", "keyCertSign"), True)),
        {"key-usage"},
    ),
    "leaf signs CRLs": (
        changed(KeyUsage=(usage("digitalSignature", "cRLSign"), True)),
        {"key-usage"},
    ),
    "bit that an EC key cannot serve": (
        changed(KeyUsage=(usage("digitalSignature", "keyEncipherment"), True)),
        {"key-usage-fits-key"},
    ),
    "no purpose": (changed(ExtendedKeyUsage=None), {"extended-key-usage"}),
    "purpose twice": (
        changed(ExtendedKeyUsage=(x509.ExtendedKeyUsage([SERVER_AUTH, SERVER_AUTH]), False)),
        {"extended-key-usage"},
    ),
    "any purpose": (
        changed(ExtendedKeyUsage=(x509.ExtendedKeyUsage([ANY]), False)),
        {"extended-key-usage"},
    ),
    "time stamping not critical": (
        changed(ExtendedKeyUsage=(x509.ExtendedKeyUsage([TIME_STAMPING]), False)),
        {"extended-key-usage"},
    ),
    "time stamping not alone": (
        changed(ExtendedKeyUsage=(x509.ExtendedKeyUsage([TIME_STAMPING, SERVER_AUTH]), True)),
        {"extended-key-usage"},
    ),
    "no basic constraints": (changed(BasicConstraints=None), {"basic-constraints"}),
    "leaf is an authority": (
        changed(BasicConstraints=(x509.BasicConstraints(True, None), True)),
        {"basic-constraints"},
    ),
    "basic constraints not critical": (
        changed(BasicConstraints=(x509.BasicConstraints(False, None), False)),
        {"basic-constraints"},
    ),
    "no subject key id": (changed(SubjectKeyIdentifier=None), {"subject-key-id"}),
    "short subject key id": (
        changed(SubjectKeyIdentifier=(x509.SubjectKeyIdentifier(b"\1" * 8), False)),
        {"subject-key-id"},
    ),
    "no authority key id": (changed(AuthorityKeyIdentifier=None), {"authority-key-id"}),
    "authority by name and serial": (
        changed(
            AuthorityKeyIdentifier=(
                x509.AuthorityKeyIdentifier(b"\1" * 20, [x509.DirectoryName(ISSUER)], 5),
                False,
            )
        ),
        {"authority-key-id"},
    ),
    "alternative names critical beside a subject": (
        changed(SubjectAlternativeName=(x509.SubjectAlternativeName([DNS]), True)),
        {"alternative-names"},
    ),
    "no alternative names": (changed(SubjectAlternativeName=None), {"alternative-names"}),
    "empty alternative names": (
        changed(SubjectAlternativeName=(x509.SubjectAlternativeName([]), False)),
        {"alternative-names"},
    ),
    "malformed alternative name": (
        changed(SubjectAlternativeName=(x509.SubjectAlternativeName([x509.DNSName("a b")]), False)),
        {"alternative-names"},
    ),
    "alternative name in upper case": (
        changed(
            SubjectAlternativeName=(
                x509.SubjectAlternativeName([x509.DNSName("WWW.example.com")]),
                False,
            )
        ),
        {"alternative-names"},
    ),
    "name constraints on a leaf": (
        {**leaf_values(), x509.NameConstraints: (x509.NameConstraints([DNS], None), True)},
        {"extensions"},
    ),
    "policy constraints on a leaf": (
        {**leaf_values(), x509.PolicyConstraints: (x509.PolicyConstraints(0, None), True)},
        {"extensions"},
    ),
    "a URL nobody fetches": (
        {
            **leaf_values(),
            x509.AuthorityInformationAccess: (
                x509.AuthorityInformationAccess(
                    [
                        x509.AccessDescription(
                            AuthorityInformationAccessOID.OCSP,
                            x509.UniformResourceIdentifier("javascript:x"),
                        )
                    ]
                ),
                False,
            ),
        },
        {"urls"},
    ),
    "a policy twice": (
        {
            **leaf_values(),
            x509.CertificatePolicies: (
                x509.CertificatePolicies(
                    [x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)] * 2
                ),
                False,
            ),
        },
        {"policies"},
    ),
    "any policy on a leaf": (
        {
            **leaf_values(),
            x509.CertificatePolicies: (
                x509.CertificatePolicies(
                    [x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]
                ),
                False,
            ),
        },
        {"policies"},
    ),
    "no revocation available with a CRL": (
        {
            **leaf_values(),
            x509.UnrecognizedExtension: (
                x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\5\0"),
                False,
            ),
            x509.CRLDistributionPoints: (
                x509.CRLDistributionPoints(
                    [
                        x509.DistributionPoint(
                            [x509.UniformResourceIdentifier("http://x/crl")], None, None, None
                        )
                    ]
                ),
                False,
            ),
        },
        {"no-revocation"},
    ),
}


@pytest.mark.parametrize("case", RULES)
def test_each_rule_of_extensions_bites(case):
    values, expected = RULES[case]
    assert findings(a_draft(values)) == expected


SHORT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other.example.com")])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"serial": 5}, {"serial"}),
        ({"serial": (1 << 100) + 1}, {"serial"}),
        ({"not_after": NOW + timedelta(days=91)}, {"validity", "time-encoding"}),
        ({"issuer": SHORT}, {"issuer"}),
        ({"public_key": ec.generate_private_key(ec.SECP256R1()).public_key()}, {"public-key"}),
        ({"subject": SHORT}, {"common-name-covered"}),
        ({"extensions": a_draft().extensions[:-1]}, {"extensions", "alternative-names"}),
    ],
)
def test_a_certificate_that_is_not_its_draft_is_noticed(fields, expected):
    assert findings(a_draft(), **fields) == expected


def test_the_issuers_name_is_compared_byte_for_byte():
    from cryptography.x509.name import _ASN1Type

    printable = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Test CA", _type=_ASN1Type.PrintableString)]
    )
    assert printable == ISSUER
    assert findings(a_draft(), issuer=printable) == {"issuer"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"not_after": NOW + timedelta(days=3651)}, {"validity"}),
        ({"serial": 1 << 63 >> 1}, {"serial"}),
        ({"subject": x509.Name([])}, {"alternative-names"}),
        (
            {"profile": Profile(name="short", max_validity=timedelta(days=10))},
            {"validity"},
        ),
    ],
)
def test_a_draft_beyond_its_bounds_is_noticed(fields, expected):
    assert findings(a_draft(**fields)) == expected


def ca_values():
    values = leaf_values()
    del values[x509.ExtendedKeyUsage]
    del values[x509.SubjectAlternativeName]
    values[x509.BasicConstraints] = (x509.BasicConstraints(True, 0), True)
    values[x509.KeyUsage] = (key_usage(["keyCertSign", "cRLSign"]), True)
    return values


def test_a_right_authority_has_no_findings():
    assert findings(a_draft(ca_values(), ca=True, names=())) == set()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({x509.KeyUsage: (key_usage(["cRLSign"]), True)}, {"key-usage"}),
        (
            {x509.BasicConstraints: (x509.BasicConstraints(False, None), True)},
            {"basic-constraints"},
        ),
        (
            {
                x509.UnrecognizedExtension: (
                    x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\5\0"),
                    False,
                )
            },
            {"no-revocation"},
        ),
    ],
)
def test_each_rule_of_authorities_bites(values, expected):
    assert findings(a_draft({**ca_values(), **values}, ca=True, names=())) == expected


def test_an_authority_with_an_empty_subject_is_noticed():
    draft = a_draft(ca_values(), ca=True, names=(), subject=x509.Name([]))
    assert findings(draft) == {"subject", "alternative-names"}


def test_the_linter_refuses_with_every_finding_and_its_source():
    values = changed(KeyUsage=None, BasicConstraints=None)
    with pytest.raises(LintFailed) as error:
        Linter().examine(a_draft(values))
    assert {f.lint for f in error.value.findings} == {
        "key-usage",
        "extended-key-usage",
        "basic-constraints",
    }
    assert all(f.ref and f.severity is Severity.ERROR for f in error.value.findings)


def test_what_cannot_be_read_back_is_refused():
    values = changed(ExtendedKeyUsage=(x509.ExtendedKeyUsage([]), False))
    with pytest.raises(LintFailed, match="readable"):
        Linter().examine(a_draft(values))


def test_the_linter_signs_with_a_key_of_its_own():
    draft = a_draft()
    one, other = Linter().examine(draft), Linter().examine(draft)
    # What is signed does not depend on the key that signs.
    assert one.tbs == other.tbs == certificate_of(draft).tbs_certificate_bytes
    for ticket in (one, other):
        with pytest.raises(InvalidSignature):
            KEY.public_key().verify(
                ticket.lint_certificate.signature, ticket.tbs, ec.ECDSA(hashes.SHA256())
            )


@pytest.mark.parametrize("scheme", list(SignatureScheme))
def test_there_is_a_throwaway_key_for_every_scheme(scheme):
    ticket = Linter().examine(replace(a_draft(), scheme=scheme))
    assert ticket.draft.scheme is scheme
    name = scheme.value.rpartition("-")[2]
    if name.startswith("sha"):
        assert ticket.lint_certificate.signature_hash_algorithm.name == name
