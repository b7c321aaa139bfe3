"""Text and canonical forms of names."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ucm.api.errors import Invalid
from ucm.api.names import (
    build_subject,
    canonical_general_name,
    canonical_names,
    check_subject,
    general_name_text,
    parse_general_name,
    parse_general_names,
)
from ucm.api.x509 import canonical_key_usages, eku_oid, key_usage, key_usage_names
from ucm.domain.names import mail_identity, server_identity


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("WWW.Example.COM", "dns:www.example.com"),
        ("bücher.example", "dns:xn--bcher-kva.example"),
        ("dns:*.Example.com", "dns:*.example.com"),
        ("localhost", "dns:localhost"),
        ("192.0.2.1", "ip:192.0.2.1"),
        ("IP:2001:DB8:0::1", "ip:2001:db8::1"),
        ("a.b+c@EXAMPLE.com", "email:a.b+c@example.com"),
        ("https://Example.com/A", "uri:https://Example.com/A"),
        ("uri:spiffe://td/x", "uri:spiffe://td/x"),
        ("upn:user@CORP", "upn:user@CORP"),
    ],
)
def test_texts_become_canonical_names(text, canonical):
    name = parse_general_name(text)
    assert general_name_text(name) == canonical
    assert canonical_general_name(name) == name
    assert parse_general_name(canonical) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a\0b",
        "a..b",
        ".a",
        "a.",
        "-a.b",
        "a-.b",
        "a_b.c",
        "*",
        "*.",
        "a.*.b",
        "foo*.b",
        "x" * 64 + ".a",
        ".".join(["abcdefgh"] * 29),
        "10.0.0.0/8",
        "ip:1.2.3",
        "ip:",
        "1.2.3.4.5",
        "email:a",
        "email:@b",
        "email:a@",
        "email:a b@c",
        "email:a@*.b",
        "uri:x",
        "uri:/a",
        "uri:http://a b",
        "uri:http://ü",
        "upn:x",
        "upn:",
        "dns:xn--a",
        "email:ü@b.c",
    ],
)
def test_malformed_texts_are_refused_with_the_rule(text):
    with pytest.raises(Invalid) as error:
        parse_general_name(text, pointer="/san/3")
    field = error.value.fields[0]
    assert (field.pointer, field.code) == ("/san/3", "invalid-san")
    assert "\0" not in field.detail


@given(st.text(max_size=80))
def test_any_text_is_a_canonical_name_or_refused(text):
    try:
        name = parse_general_name(text)
    except Invalid:
        return
    assert canonical_general_name(name) == name
    assert parse_general_name(general_name_text(name)) == name


def test_names_are_listed_once_in_their_order():
    names = parse_general_names(["b.example", "a.example", "B.example"])
    assert [general_name_text(name) for name in names] == ["dns:b.example", "dns:a.example"]
    with pytest.raises(Invalid) as error:
        parse_general_names(["a.example", "a b"])
    assert error.value.fields[0].pointer == "/san/1"
    with pytest.raises(Invalid, match="more than"):
        parse_general_names(["a.example"] * 257)
    with pytest.raises(Invalid, match="more than"):
        canonical_names([x509.DNSName(f"a{i}.example") for i in range(257)])


def test_a_subject_is_built_in_the_usual_order():
    subject = build_subject([("CN", "x"), ("O", "Org"), ("C", "DE"), ("OU", ""), ("L", "Köln")])
    assert subject.rfc4514_string() == "CN=x,O=Org,L=Köln,C=DE"


@pytest.mark.parametrize(
    "pair",
    [
        ("CN", "x" * 65),
        ("CN", "a\0b"),
        ("CN", "  "),
        ("C", "DEU"),
        ("C", "1x"),
        ("O", "x" * 65),
        ("X", "y"),
        ("CN", "a\nb"),
    ],
)
def test_attributes_keep_their_bounds(pair):
    with pytest.raises(Invalid) as error:
        build_subject([pair])
    assert error.value.fields[0].pointer == f"/subject/{pair[0]}"
    assert error.value.fields[0].code == "invalid-subject"


def test_a_subject_has_a_limited_number_of_parts():
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "x")] * 33)
    with pytest.raises(Invalid, match="at most 32"):
        check_subject(name)


def test_a_server_is_named_by_its_common_name_when_nothing_else_names_it():
    subject = build_subject([("CN", "WWW.example.com")])
    identity = server_identity(subject, (), may_add=False)
    assert [general_name_text(n) for n in identity.names] == ["dns:www.example.com"]
    people = server_identity(build_subject([("CN", "Web Server 7")]), (), may_add=True)
    assert people.names == ()


def test_a_word_beside_names_is_no_host():
    names = (x509.DNSName("a.example.com"),)
    identity = server_identity(build_subject([("CN", "printer")]), names, may_add=False)
    assert identity.uncovered_common_name is None
    assert identity.names == names


def test_mail_addresses_of_the_subject_become_names():
    subject = build_subject([("CN", "Alice"), ("emailAddress", "alice@Example.com")])
    identity = mail_identity(subject, ())
    assert [general_name_text(n) for n in identity.names] == ["email:alice@example.com"]


@given(
    st.frozensets(
        st.sampled_from(
            [
                "digitalSignature",
                "nonRepudiation",
                "keyAgreement",
                "decipherOnly",
                "encipherOnly",
                "cRLSign",
            ]
        ),
        min_size=1,
    )
)
def test_key_usages_survive_their_encoding(names):
    if names & {"decipherOnly", "encipherOnly"} and "keyAgreement" not in names:
        with pytest.raises(Invalid):
            key_usage(names)
    else:
        assert key_usage_names(key_usage(names)) == names


def test_usages_and_purposes_are_known_by_all_their_names():
    spellings = ["digital_signature", "keyEncipherment", "content-commitment", "crl_sign"]
    assert canonical_key_usages(spellings) == {
        "digitalSignature",
        "keyEncipherment",
        "nonRepudiation",
        "cRLSign",
    }
    assert {
        eku_oid(t) for t in ("serverAuth", "server_auth", "SERVERAUTH", "1.3.6.1.5.5.7.3.1")
    } == {"1.3.6.1.5.5.7.3.1"}
    for bad in ("", "serverauthh", "3.1.2", "1", "1.2.03", "1..2", "a\0"):
        with pytest.raises(Invalid):
            eku_oid(bad)
    with pytest.raises(Invalid):
        canonical_key_usages(["nonsense"])
