"""Name constraints by RFC 5280 4.2.1.10 and 6.1.3, with the cases that matchers get wrong."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ucm.api.errors import Invalid
from ucm.api.names import build_subject, parse_general_name, upn_name
from ucm.domain.nameconstraints import Constraints, parse_subtree, violations

EMPTY = x509.Name([])


def subtree(text):
    if text.startswith("."):  # as found in imported authorities only
        return x509.DNSName(text)
    return parse_subtree(text, pointer="")


def allowed(name, *, permitted=(), excluded=(), subject=EMPTY):
    constraints = Constraints(
        "CN=CA", tuple(map(subtree, permitted)), tuple(map(subtree, excluded))
    )
    names = [parse_general_name(name)] if name else []
    return not violations([constraints], subject=subject, names=names)


@pytest.mark.parametrize(
    ("name", "constraint", "inside"),
    [
        ("dns:example.com", "dns:example.com", True),
        ("dns:a.b.example.com", "dns:example.com", True),
        ("dns:badexample.com", "dns:example.com", False),
        ("dns:example.com.evil.net", "dns:example.com", False),
        ("dns:com", "dns:example.com", False),
        ("dns:*.example.com", "dns:example.com", True),
        ("dns:EXAMPLE.com", "dns:example.COM", True),
        ("dns:a.example.com", ".example.com", True),
        ("dns:example.com", ".example.com", False),
        ("ip:10.1.2.3", "ip:10.0.0.0/8", True),
        ("ip:11.0.0.1", "ip:10.0.0.0/8", False),
        ("ip:2001:db8::1", "ip:2001:db8::/32", True),
        ("ip:2001:db9::1", "ip:2001:db8::/32", False),
        ("ip:2001:db8::1", "ip:10.0.0.0/8", False),
        ("email:a@example.com", "email:example.com", True),
        ("email:a@sub.example.com", "email:example.com", False),
        ("email:a@sub.example.com", "email:.example.com", True),
        ("email:a@example.com", "email:.example.com", False),
        ("email:a@example.com", "email:a@example.com", True),
        ("email:b@example.com", "email:a@example.com", False),
        ("email:A@example.com", "email:a@example.com", False),
        ("uri:https://example.com/x", "uri:example.com", True),
        ("uri:https://a.example.com/x", "uri:example.com", False),
        ("uri:https://a.example.com:8443/x", "uri:.example.com", True),
        ("uri:https://example.com@evil.net/", "uri:example.com", False),
        ("uri:urn:uuid:1", "uri:example.com", False),
        ("uri:https://10.0.0.1/", "uri:example.com", False),
    ],
)
def test_permitted_and_excluded_agree_on_what_is_inside(name, constraint, inside):
    assert allowed(name, permitted=[constraint]) == inside
    if not name.startswith(("uri:urn", "uri:https://10.")):
        assert allowed(name, excluded=[constraint]) != inside


@pytest.mark.parametrize("name", ["uri:urn:uuid:1", "uri:https://10.0.0.1/x"])
def test_a_uri_without_a_host_name_fits_no_constraint(name):
    assert not allowed(name, permitted=["uri:example.com"])
    assert not allowed(name, excluded=["uri:example.com"])


def test_a_wildcard_does_not_reach_round_an_exclusion():
    assert not allowed("dns:*.example.com", excluded=["dns:secret.example.com"])
    assert allowed("dns:*.example.com", excluded=["dns:a.b.example.com"])
    assert not allowed("dns:*.com", permitted=["dns:example.com"])
    assert allowed("dns:*.other.com", excluded=["dns:secret.example.com"])


def test_a_constraint_binds_names_of_its_form_only():
    assert allowed("email:a@other.net", permitted=["dns:example.com"])
    assert allowed("dns:a.net", permitted=["ip:10.0.0.0/8"])


def test_excluded_outranks_permitted_and_every_authority_counts():
    assert not allowed(
        "dns:a.example.com", permitted=["dns:example.com"], excluded=["dns:a.example.com"]
    )
    above = Constraints("CN=Root", (subtree("dns:example.com"),), ())
    below = Constraints("CN=Sub", (subtree("dns:a.example.com"),), ())
    name = [parse_general_name("dns:b.example.com")]
    found = violations([below, above], subject=EMPTY, names=name)
    assert [violation.authority for violation in found] == ["CN=Sub"]


def test_the_subject_is_under_directory_constraints():
    rule = x509.DirectoryName(build_subject([("C", "DE"), ("O", "Example GmbH")]))
    constraints = [Constraints("CN=CA", (rule,), ())]

    def broken(*pairs):
        return violations(constraints, subject=build_subject(pairs), names=())

    assert not broken(("C", "DE"), ("O", "example  gmbh"), ("CN", "x"))
    assert broken(("C", "DE"), ("O", "Other"))
    assert broken(("O", "Example GmbH"))
    assert not violations(constraints, subject=EMPTY, names=())


@pytest.mark.parametrize(
    ("pairs", "constraint"),
    [
        ([("CN", "www.evil.net")], "dns:example.com"),
        ([("CN", "WWW.EVIL.NET")], "dns:example.com"),
        ([("CN", "192.0.2.1")], "ip:10.0.0.0/8"),
        ([("emailAddress", "a@evil.net")], "email:example.com"),
    ],
)
def test_names_in_the_subject_do_not_pass_by(pairs, constraint):
    assert not allowed(None, permitted=[constraint], subject=build_subject(pairs))
    assert allowed(None, permitted=[constraint], subject=build_subject([("CN", "Alice")]))


def test_forms_that_cannot_be_judged_count_against_the_name():
    upn = upn_name("a@example.com")
    constraints = [Constraints("CN=CA", (upn,), ())]
    assert violations(constraints, subject=EMPTY, names=[upn_name("b@example.com")])
    constraints = [Constraints("CN=CA", (), (upn,))]
    assert violations(constraints, subject=EMPTY, names=[upn_name("b@example.com")])


@pytest.mark.parametrize(
    "text",
    [
        "dns:*.example.com",
        "dns:.example.com",
        "ip:10.0.0.1",
        "ip:10.0.0.1/8",
        "dns:",
        "a b",
        "email:a@",
        "uri:https://x/",
        "ip:300.0.0.0/8",
        "ünicode.example",
    ],
)
def test_malformed_subtrees_are_refused(text):
    with pytest.raises(Invalid) as error:
        parse_subtree(text, pointer="/p")
    assert error.value.fields[0].pointer == "/p"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("example.com", x509.DNSName),
        ("10.0.0.0/8", x509.IPAddress),
        ("2001:db8::/32", x509.IPAddress),
        ("a@example.com", x509.RFC822Name),
    ],
)
def test_bare_subtrees_are_recognised(text, kind):
    assert isinstance(parse_subtree(text, pointer=""), kind)


labels = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(st.lists(labels, min_size=1, max_size=4), st.lists(labels, min_size=1, max_size=4))
def test_a_name_below_a_subtree_is_inside_and_everything_else_outside(below, base):
    domain = ".".join([*base, "test"])
    name = ".".join([*below, domain])
    assert allowed(f"dns:{name}", permitted=[f"dns:{domain}"])
    assert not allowed(f"dns:x{domain}", permitted=[f"dns:{domain}"])
    assert not allowed(f"dns:{name}", excluded=[f"dns:{domain}"])
