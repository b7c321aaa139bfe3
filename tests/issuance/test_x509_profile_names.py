"""The certificate profile, row by row: names, constraints, algorithms, pointers."""

import subprocess
from datetime import timedelta

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
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
from ucm.api.errors import CaOffline, Invalid, PolicyDenied
from ucm.api.issuance import (
    CAParameters,
    CertificateKind,
    Profile,
    RevocationReason,
    RevocationRequest,
)
from ucm.api.keys import KeySpec
from ucm.api.names import build_subject, parse_general_names
from ucm.api.publickeys import spki_der
from ucm.api.views import CaPublication

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
DNS = x509.DNSName


@pytest.mark.parametrize("kind", ["PrintableString", "T61String", "BMPString", "UTF8String"])
def test_row_18_the_issuer_is_the_authoritys_subject_byte_for_byte(place, kind):
    from cryptography.x509.name import _ASN1Type

    attribute = x509.NameAttribute(NameOID.COMMON_NAME, "Old CA", _type=_ASN1Type[kind])
    ca = place.imported_ca(*foreign_ca(subject=x509.Name([attribute])))
    leaf = place.issue(ca)
    wanted = asn1_x509.Certificate.load(ca.der)["tbs_certificate"]["subject"].dump()
    got = asn1_x509.Certificate.load(leaf.public_bytes(Encoding.DER))
    assert got["tbs_certificate"]["issuer"].dump() == wanted


def test_row_18_an_authority_needs_a_subject(place, root):
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, a_csr("", san=()), origin="csr", profile="intermediate-ca")
    assert "empty-subject" in codes(error)


def test_row_19_empty_subject_is_filled_from_the_first_dns_name(place, root):
    leaf = place.issue(root, a_csr("", san=("dns:a.example.com", "dns:b.example.com")))
    assert leaf.subject.rfc4514_string() == "CN=a.example.com"
    assert not extension(leaf, x509.SubjectAlternativeName).critical


def test_row_19_an_empty_subject_makes_the_names_critical(place, root):
    leaf = place.issue(root, a_csr("", san=("ip:192.0.2.7",)))
    assert leaf.subject == x509.Name([])
    assert extension(leaf, x509.SubjectAlternativeName).critical


def test_row_19_no_name_at_all_is_refused(place, root):
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, a_csr("", san=()))
    assert codes(error) == {"no-name"}


def test_row_20_a_long_name_fills_no_common_name(place, root):
    long = ".".join(["a" * 30, "b" * 30, "example.com"])
    assert len(long) > 64
    leaf = place.issue(root, a_csr("", san=(f"dns:{long}",)))
    assert leaf.subject == x509.Name([])
    assert extension(leaf, x509.SubjectAlternativeName).critical


def test_row_20_a_common_name_is_among_the_names(place, root):
    added = place.issue(root, a_csr("CN=www.example.com", san=("dns:example.com",)))
    names = extension(added, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(DNS) == ["example.com", "www.example.com"]
    with pytest.raises(PolicyDenied) as error:  # an enrollee does not smuggle it in
        place.issue(
            root,
            a_csr("CN=evil.example.net", san=("dns:example.com",)),
            origin="acme",
            actor=enrollee("acme"),
            names=tuple(parse_general_names(["dns:example.com"])),
        )
    assert codes(error) == {"common-name-not-covered"}


def test_row_21_every_common_name_counts(place, root):
    with pytest.raises(PolicyDenied) as error:
        place.issue(
            root,
            a_csr("CN=ok.example.com,CN=evil.example.net", san=("dns:ok.example.com",)),
            origin="scep",
            actor=enrollee(),
        )
    assert codes(error) == {"common-name-not-covered"}
    leaf = place.issue(root, a_csr("O=x\\, y,CN=a.example.com".replace("\\,", ";"), san=()))
    assert leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "x; y"
    with place.uow.read() as reader:
        view = reader.certificates.find(root.id, leaf.serial_number)
    assert view.common_name == "a.example.com"


def test_row_22_names_without_a_common_name_come_from_it(place, root):
    leaf = place.issue(root, a_csr("CN=www.example.com", san=()))
    names = extension(leaf, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(DNS) == ["www.example.com"]


@pytest.mark.parametrize("origin", ["acme", "scep", "est"])
@pytest.mark.parametrize("name", ["email:ceo@example.com", "upn:ceo@example.com"])
def test_row_23_names_of_persons_never_come_from_an_unproved_request(place, root, origin, name):
    csr = a_csr(san=("dns:www.example.com", name))
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, csr, origin=origin, actor=enrollee(origin))
    assert codes(error) == {"name-form-not-allowed"}
    proved = tuple(parse_general_names(["dns:www.example.com", name]))
    assert place.issue(root, csr, origin=origin, actor=enrollee(origin), names=proved)


def test_row_23_a_profile_decides_which_forms_pass(place, root):
    only_dns = Profile(name="d", extended_key_usage=(SERVER_AUTH,), san_types=frozenset({"dns"}))
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, a_csr(san=("ip:192.0.2.1",)), profile=only_dns)
    assert codes(error) == {"name-form-not-allowed"}


def test_row_24_names_are_lower_case_a_labels(place, root):
    names = tuple(parse_general_names(["dns:BÜCHER.Example", "dns:xn--bcher-kva.example"]))
    leaf = place.issue(root, a_csr("", san=()), names=names)
    got = extension(leaf, x509.SubjectAlternativeName).value.get_values_for_type(DNS)
    assert got == ["xn--bcher-kva.example"]


def constrained(place, root, *, permitted=(), excluded=(), name="Constrained"):
    from ucm.domain.nameconstraints import parse_subtree

    return place.a_ca(
        name,
        parent=root,
        parameters=CAParameters(
            permitted_subtrees=tuple(parse_subtree(t, pointer="") for t in permitted),
            excluded_subtrees=tuple(parse_subtree(t, pointer="") for t in excluded),
        ),
    )


def test_row_25_name_constraints_are_critical_and_in_authorities_only(place, root):
    ca = constrained(place, root, permitted=["dns:example.com", "ip:10.0.0.0/8"])
    found = extension(ca.certificate, x509.NameConstraints)
    assert found.critical
    assert found.value.excluded_subtrees is None
    assert len(found.value.permitted_subtrees) == 2
    assert present(place.issue(ca, a_csr("CN=a.example.com", san=())), x509.NameConstraints) is None


@pytest.mark.parametrize("bad", ["dns:*.x", "dns:.example.com", "ip:10.0.0.1", "ip:10.0.0.1/8", ""])
def test_row_25_malformed_constraints_are_refused(bad):
    from ucm.domain.nameconstraints import parse_subtree

    with pytest.raises(Invalid) as error:
        parse_subtree(bad, pointer="/name_constraints_permitted/0")
    assert error.value.fields[0].code == "invalid-name-constraint"
    assert error.value.fields[0].pointer == "/name_constraints_permitted/0"


@pytest.mark.parametrize("origin", ["api", "csr", "acme", "scep", "est"])
def test_row_26_constraints_of_the_whole_chain_bind_every_route(place, root, origin):
    top = constrained(place, root, permitted=["dns:example.com"])
    below = place.a_ca("Below", parent=top)
    actor = ADMIN if origin in ("api", "csr") else enrollee(origin)
    with pytest.raises(PolicyDenied) as error:
        place.issue(below, a_csr("", san=("dns:www.example.net",)), origin=origin, actor=actor)
    assert codes(error) == {"name-constraint"}
    assert place.issue(below, a_csr("", san=("dns:a.example.com",)), origin=origin, actor=actor)


def test_row_26_a_common_name_like_a_host_and_the_subject_are_checked(place, root):
    ca = constrained(place, root, permitted=["dns:example.com"])
    with pytest.raises(PolicyDenied) as error:
        place.issue(ca, a_csr("CN=www.example.net", san=()), profile="client")
    assert codes(error) == {"name-constraint"}
    directory = place.a_ca(
        "Directory",
        parent=root,
        parameters=CAParameters(
            permitted_subtrees=(x509.DirectoryName(build_subject([("O", "Example")])),)
        ),
    )
    with pytest.raises(PolicyDenied):
        place.issue(directory, a_csr("O=Other,CN=a.example.com", san=()))
    assert place.issue(directory, a_csr("O=EXAMPLE,CN=a.example.com", san=()))


def test_row_26_a_renewal_at_par_is_not_stranded_silently(place, root):
    parameters = CAParameters()
    ca = place.a_ca("Later constrained", parent=root, parameters=parameters)
    old = place.pipeline.issue(
        place.request(ca, a_csr("CN=www.example.net", san=("dns:www.example.net",))), actor=ADMIN
    )
    tight = constrained(place, root, permitted=["dns:example.com"], name="Tight")
    renewed_ca = _reissued(place, root, ca, tight)
    with place.uow.begin(ADMIN) as tx:  # the authority was renewed with constraints
        tx.cas.set_certificate(ca.id, certificate_id=renewed_ca, key=ca.key, path_length=None)
    with pytest.raises(PolicyDenied):
        place.issue(ca, a_csr("CN=www.example.net", san=("dns:www.example.net",)))
    renewed = place.pipeline.issue(
        place.request(
            ca,
            a_csr("CN=www.example.net", san=("dns:www.example.net",)),
            origin="renewal",
            renews=old.id,
        ),
        actor=ADMIN,
    )
    facts = place.audit("certificate_renewed")[-1]["details"]
    assert "name constraint tolerated: dns:www.example.net" in facts["adjustments"]
    assert renewed.id != old.id
    with pytest.raises(PolicyDenied):  # nothing new joins under that cover
        place.issue(
            ca,
            a_csr("", san=("dns:www.example.net", "dns:new.example.net")),
            origin="renewal",
            renews=old.id,
        )


def _reissued(place, root, ca, tight):
    """The same key and name certified again, with the constraints of another authority."""
    constraints = extension(tight.certificate, x509.NameConstraints).value
    issued = place.pipeline.issue(
        place.request(
            root,
            public_key=spki_der(ca.certificate.public_key()),
            profile="intermediate-ca",
            subject=ca.certificate.subject,
            names=(),
            ca_parameters=CAParameters(permitted_subtrees=tuple(constraints.permitted_subtrees)),
        ),
        actor=ADMIN,
    )
    return issued.id


@pytest.mark.parametrize(
    ("spec", "kwargs"),
    [
        (KeySpec.EC_P384, {"digest": "sha256"}),
        (KeySpec.EC_P256, {"digest": "sha384"}),
        (KeySpec.RSA_2048, {"digest": "sha512"}),
    ],
)
def test_row_32_a_templates_digest_is_honoured_and_never_below_the_curves(place, spec, kwargs):
    ca = place.a_ca("Signer", spec=spec)
    profile = Profile(name="t", extended_key_usage=(SERVER_AUTH,), **kwargs)
    expected = {"sha256": "sha384"}.get(kwargs["digest"], kwargs["digest"])
    assert place.issue(ca, profile=profile).signature_hash_algorithm.name == expected


@pytest.mark.parametrize(
    ("spec", "oid"),
    [
        (KeySpec.RSA_2048, "1.2.840.113549.1.1.11"),
        (KeySpec.EC_P256, "1.2.840.10045.4.3.2"),
        (KeySpec.EC_P384, "1.2.840.10045.4.3.3"),
        (KeySpec.EC_P521, "1.2.840.10045.4.3.4"),
        (KeySpec.ED25519, "1.3.101.112"),
        (KeySpec.ED448, "1.3.101.113"),
        (KeySpec.ML_DSA_44, "2.16.840.1.101.3.4.3.17"),
        (KeySpec.ML_DSA_65, "2.16.840.1.101.3.4.3.18"),
        (KeySpec.ML_DSA_87, "2.16.840.1.101.3.4.3.19"),
    ],
)
def test_row_32_the_digest_matches_the_authoritys_key(place, spec, oid):
    ca = place.a_ca("Signer", spec=spec)
    leaf = place.issue(ca)
    assert leaf.signature_algorithm_oid.dotted_string == oid
    assert ca.certificate.signature_algorithm_oid.dotted_string == oid
    ca.certificate.verify_directly_issued_by(ca.certificate)
    leaf.verify_directly_issued_by(ca.certificate)


def test_row_33_ml_dsa_has_no_parameters_and_signing_usages_only(place):
    ca = place.a_ca("PQ", spec=KeySpec.ML_DSA_65)
    _, spki = place.new_key(KeySpec.ML_DSA_65)
    leaf = place.issue(
        ca, public_key=spki, names=tuple(parse_general_names(["dns:pq.example.com"]))
    )
    parsed = asn1_x509.Certificate.load(leaf.public_bytes(Encoding.DER))
    assert parsed["signature_algorithm"].dump() == bytes.fromhex("300b0609608648016503040312")
    assert ku(leaf) == {"digitalSignature"}


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "http://a b/",
        "ldap://x/",
        "http://u:p@x/",
        "http://",
        "http://x/\n",
        "http://x/" + "a" * 3000,
        "//x/y",
        "http://[::1/",
    ],
)
def test_row_36_only_urls_that_clients_can_fetch(place, root, url):
    from ucm.api.names import checked_url

    with pytest.raises(Invalid) as error:
        checked_url(url, pointer="/cdp_urls/0")
    assert error.value.fields[0].pointer == "/cdp_urls/0"
    with pytest.raises(Invalid):
        place.a_ca("X", parent=root, parameters=CAParameters(sia_urls=(url,)))


def published(place, root, **more):
    return place.a_ca(
        "Published",
        parent=root,
        publication=CaPublication(
            cdp_enabled=True,
            cdp_urls=("http://pki.example.com/cdp/{ca_refid}.crl",),
            ocsp_enabled=True,
            ocsp_urls=("http://pki.example.com/ocsp",),
            aia_ca_issuers_enabled=True,
            aia_ca_issuers_urls=("http://pki.example.com/ca/{ca_refid}.cer",),
            cps_enabled=True,
            cps_uri="https://pki.example.com/cps",
            cps_oid="1.3.6.1.4.1.99999.1",
            **more,
        ),
    )


def test_row_36_a_bad_url_in_the_database_is_caught_by_the_lint(place, root):
    from ucm.api.errors import LintFailed

    ca = place.a_ca(
        "Bad",
        parent=root,
        publication=CaPublication(cdp_enabled=True, cdp_urls=("ftp://x/crl",)),
    )
    with pytest.raises(LintFailed, match="urls"):
        place.issue(ca)


def test_row_37_pointers_name_the_issuing_authority(place, root):
    ca = published(place, root)
    leaf = place.issue(ca)
    access = extension(leaf, x509.AuthorityInformationAccess)
    assert not access.critical
    by_method = {d.access_method: d.access_location.value for d in access.value}
    assert by_method == {
        AuthorityInformationAccessOID.OCSP: "http://pki.example.com/ocsp",
        AuthorityInformationAccessOID.CA_ISSUERS: f"http://pki.example.com/ca/{ca.refid}.cer",
    }
    points = extension(leaf, x509.CRLDistributionPoints).value
    assert points[0].full_name[0].value == f"http://pki.example.com/cdp/{ca.refid}.crl"
    below = place.a_ca("Below", parent=ca)
    pointer = extension(below.certificate, x509.AuthorityInformationAccess).value
    assert ca.refid in str([d.access_location.value for d in pointer])  # its parent's, not its own


def test_row_38_no_revocation_available_excludes_its_pointers(place, root):
    ca = published(place, root)
    profile = Profile(
        name="short",
        extended_key_usage=(SERVER_AUTH,),
        no_rev_avail=True,
        default_validity=timedelta(days=7),
    )
    leaf = place.issue(ca, profile=profile)
    assert raw(leaf, x509.ObjectIdentifier("2.5.29.56")) == b"\x05\x00"
    assert present(leaf, x509.CRLDistributionPoints) is None
    access = extension(leaf, x509.AuthorityInformationAccess).value
    assert [d.access_method for d in access] == [AuthorityInformationAccessOID.CA_ISSUERS]
    authority = Profile(name="x", kind=CertificateKind.INTERMEDIATE_CA, no_rev_avail=True)
    below = place.a_ca("Below", parent=ca, profile=authority)
    assert raw(below.certificate, x509.ObjectIdentifier("2.5.29.56")) is None


def test_row_39_policies_are_listed_once_with_their_cps(place, root):
    leaf = place.issue(published(place, root))
    policies = extension(leaf, x509.CertificatePolicies).value
    assert [p.policy_identifier.dotted_string for p in policies] == ["1.3.6.1.4.1.99999.1"]
    assert policies[0].policy_qualifiers == ["https://pki.example.com/cps"]
    with pytest.raises(Invalid, match="once only"):
        place.a_ca("X", parent=root, parameters=CAParameters(policy_oids=("1.2.3", "1.2.3")))
    any_policy = place.a_ca(
        "Any", parent=root, parameters=CAParameters(policy_oids=("2.5.29.32.0",))
    )
    assert extension(any_policy.certificate, x509.CertificatePolicies)


def test_row_39_policy_constraints_and_inhibit_any_policy_are_critical(place, root):
    ca = place.a_ca(
        "Strict",
        parent=root,
        parameters=CAParameters(
            require_explicit_policy=0, inhibit_policy_mapping=1, inhibit_any_policy=0
        ),
    )
    assert extension(ca.certificate, x509.PolicyConstraints).critical
    assert extension(ca.certificate, x509.InhibitAnyPolicy).critical
    with pytest.raises(Invalid):
        place.a_ca("X", parent=root, parameters=CAParameters(inhibit_any_policy=33))


def test_row_43_an_offline_authority_signs_nothing(place, root):
    with place.uow.begin(ADMIN) as tx:
        tx.cas.set_offline(root.id, offline=True)
    with place.signatures_during() as made:
        for origin in ("api", "csr", "renewal", "acme", "scep", "est"):
            with pytest.raises(CaOffline):
                place.issue(root, origin=origin)
        with pytest.raises(CaOffline):
            place.a_ca("Below", parent=root)
        for new_key in (False, True):
            with pytest.raises(CaOffline):
                place.pipeline.issue(place.self_renewal(root, new_key=new_key), actor=ADMIN)
        assert made() == 0
    refusals = place.audit("certificate_refused")
    assert len(refusals) == 9
    assert all(not row["success"] for row in refusals)
    assert {row["details"]["error"] for row in refusals} == {"ca-offline"}


def test_row_45_a_broken_lint_means_no_certificate(place, root):
    from ucm.api.lint import Lint

    def broken(certificate, draft):
        raise RuntimeError("the linter broke")

    place.lints.append(Lint("broken", "", broken))
    with place.signatures_during() as made, pytest.raises(RuntimeError):
        place.issue(root)
    assert made() == 0


def test_row_45_a_key_that_is_not_the_authoritys_is_noticed_after_signing(place, root):
    from ucm.api.errors import KeyUnavailable
    from ucm.store import tables

    other, _ = place.new_key()
    with place.uow.begin(ADMIN) as tx:
        tx.keys.replace_record(root.key, record=other)
    before = place.count(tables.certificate)
    with pytest.raises(KeyUnavailable, match="does not belong"):
        place.issue(root)
    assert place.count(tables.certificate) == before


def test_bad_input_20_a_path_length_on_a_leaf_is_refused(place, root):
    with pytest.raises(Invalid) as error:
        place.issue(root, ca_parameters=CAParameters(path_length=0))
    assert error.value.fields[0].code == "ca-parameters-on-leaf"


def test_row_31_a_compromised_key_is_never_certified_again(place, root):
    key = a_key()
    issued = place.pipeline.issue(place.request(root, a_csr(key=key)), actor=ADMIN)
    place.pipeline.revoke(
        RevocationRequest(
            certificate_id=issued.id,
            reason=RevocationReason.KEY_COMPROMISE,
            origin=place.request(root).origin,
        ),
        actor=ADMIN,
    )
    for origin in ("api", "acme", "scep", "renewal"):
        with pytest.raises(PolicyDenied) as error:
            place.issue(root, a_csr(key=key), origin=origin)
        assert codes(error) == {"key-compromised"}
    with place.uow.begin(ADMIN) as tx:
        tx.certificates.delete(issued.id)
    with pytest.raises(PolicyDenied):  # a deleted row does not wash it clean
        place.issue(root, a_csr(key=key))


@pytest.mark.peer("openssl")
def test_row_37_openssl_builds_the_chain(place, root, issuing, tmp_path):
    leaf = place.issue(issuing)
    for name, certificate in (
        ("leaf", leaf),
        ("issuing", issuing.certificate),
        ("root", root.certificate),
    ):
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-attime",
        str(int(NOW.timestamp())),
        "-purpose",
        "sslserver",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "issuing.pem",
        "leaf.pem",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert ExtendedKeyUsageOID.SERVER_AUTH.dotted_string in ekus(leaf)
