"""Renderers: subject attributes out of RFC 4514 text, as the library wrote it."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ucm.web.v2.documents.certificates import key_fields
from ucm.web.v2.documents.subject import subject_fields

VALUES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0x2FFF), min_size=1, max_size=20
)


@given(cn=VALUES, organization=VALUES, unit=VALUES)
def test_values_survive_escaping(cn, organization, unit):
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, cn),
        ]
    )
    found = subject_fields(name.rfc4514_string())
    assert found["common_name"] == cn
    assert found["organization"] == organization
    assert found["organizational_unit"] == unit
    assert (found["country"], found["state"], found["email"]) == ("CH", None, None)


def test_the_first_of_several_and_multi_valued_rdns():
    name = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x, y+z"),
                    x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.org"),
                ]
            ),
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "first")]),
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "second")]),
        ]
    )
    found = subject_fields(name.rfc4514_string())
    assert found["common_name"] == "first"
    assert found["organization"] == "x, y+z"
    assert found["email"] == "a@example.org"


def test_an_empty_subject_has_nothing():
    assert set(subject_fields("").values()) == {None}


@pytest.mark.parametrize(
    ("key_type", "algorithm", "size"),
    [
        ("RSA-2048", "RSA", 2048),
        ("EC-P384", "EC", 384),
        ("ED25519", "ED25519", None),
        ("ML-DSA-65", "ML-DSA", None),
        ("1.2.3.4", "1.2.3.4", None),
    ],
)
def test_key_fields(key_type, algorithm, size):
    fields = key_fields(key_type)
    assert (fields["key_algorithm"], fields["key_size"]) == (algorithm, size)
    assert fields["key_algo"] == key_type
