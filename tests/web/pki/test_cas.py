"""``/cas`` through HTTP."""

from __future__ import annotations

import datetime
import io

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
    pkcs12,
)

from ucm.api.actor import Actor
from ucm.testing.builders import a_csr
from ucm.web.v2.schemas import CaDetail, CaItem, CaNode

PATH = "/api/v2/cas"
EC = {"key_algorithm": "ECDSA", "key_size": "prime256v1"}


def create(tree, **body):
    answer = tree.admin.post(PATH, {**EC, **body})
    assert answer.status_code == 201, answer.json
    return answer.json["data"]


def certificate_of(tree, ca_id):
    return x509.load_der_x509_certificate(tree.viewer.get(f"{PATH}/{ca_id}/export?format=der").data)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


# --- making --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {
            "common_name": "Old Names",
            "organizational_unit": "PKI",
            "ca_type": "root",
            "key_algorithm": "ECDSA",
            "key_size": "secp384r1",
            "validity_years": 7,
            "path_length": 1,
            "inhibit_any_policy": 0,
        },
        {
            "commonName": "Old Names",
            "organizationalUnit": "PKI",
            "type": "root",
            "keyAlgo": "ECDSA",
            "keySize": "secp384r1",
            "validityYears": 7,
            "pathLength": 1,
            "inhibitAnyPolicy": 0,
        },
    ],
    ids=["snake_case", "camelCase"],
)
def test_both_spellings_make_the_same_authority(shared_tree, body):
    answer = shared_tree.admin.post(PATH, body)
    assert answer.status_code == 201, answer.json
    data = answer.json["data"]
    assert (data["type"], data["is_root"], data["parent_id"]) == ("root", True, None)
    assert (data["subject"], data["key_type"]) == ("CN=Old Names,OU=PKI", "EC-P384")
    assert (data["path_length"], data["inhibit_any_policy"]) == (1, 0)
    certificate = certificate_of(shared_tree, data["id"])
    years = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert abs(years.days - 7 * 365) <= 2


def test_parent_in_camel_case(shared_tree):
    data = create(shared_tree, commonName="Below", parentCAId=shared_tree.root, type="intermediate")
    assert data["parent_id"] == shared_tree.root
    assert (
        data["caref"] == shared_tree.viewer.get(f"{PATH}/{shared_tree.root}").json["data"]["refid"]
    )


def test_constraints_and_policies_go_into_the_certificate(shared_tree):
    data = create(
        shared_tree,
        common_name="Constrained",
        parent_id=shared_tree.root,
        name_constraints_permitted=["dns:example.org", "ip:192.0.2.0/24"],
        name_constraints_excluded=["dns:secret.example.org"],
        policy_constraints_require=0,
        cps_uri="https://example.org/cps",
        cps_oid="1.3.6.1.4.1.99999.1",
        extended_key_usage=["serverAuth"],
        sia_urls=["http://example.org/repo"],
    )
    assert data["name_constraints_permitted"] == ["dns:example.org", "ip:192.0.2.0/24"]
    assert data["name_constraints_excluded"] == ["dns:secret.example.org"]
    assert (data["policy_constraints_require"], data["sia_urls"]) == (
        0,
        ["http://example.org/repo"],
    )
    certificate = certificate_of(shared_tree, data["id"])
    assert extension(certificate, x509.CertificatePolicies)[0].policy_qualifiers == [
        "https://example.org/cps"
    ]
    outside = shared_tree.operator.post(
        "/api/v2/certificates", {"ca_id": data["id"], "cn": "www.example.com"}
    )
    assert outside.status_code == 400
    assert outside.json["errors"][0]["code"] == "name-constraint"
    inside = {"ca_id": data["id"], "cn": "www.example.org"}
    assert shared_tree.operator.post("/api/v2/certificates", inside).status_code == 201


def test_usages_of_roots_and_intermediates(shared_tree):
    root = extension(certificate_of(shared_tree, shared_tree.root), x509.KeyUsage)
    assert (root.key_cert_sign, root.crl_sign, root.digital_signature) == (True, True, False)
    below = extension(certificate_of(shared_tree, shared_tree.ca), x509.KeyUsage)
    assert below.digital_signature is True
    with pytest.raises(x509.ExtensionNotFound):
        extension(certificate_of(shared_tree, shared_tree.ca), x509.ExtendedKeyUsage)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/common_name"),
        ({"common_name": ""}, "/common_name"),
        ({"common_name": "x" * 65}, "/common_name"),
        ({"common_name": "a`b`"}, "/common_name"),
        ({"common_name": "A", "unknown": 1}, "/unknown"),
        ({"common_name": "A", "country": "USA"}, "/country"),
        ({"common_name": "A", "ca_type": "cross"}, "/ca_type"),
        ({"common_name": "A", "ca_type": "intermediate"}, "/parent_id"),
        ({"common_name": "A", "ca_type": "root", "parent_id": 1}, "/parent_id"),
        ({"common_name": "A", "key_algorithm": "DSA"}, "/key_algorithm"),
        ({"common_name": "A", "key_algorithm": "RSA", "key_size": 1024}, "/key_size"),
        ({"common_name": "A", "key_algorithm": "ECDSA", "key_size": "secp256k1"}, "/key_size"),
        ({"common_name": "A", "key_type": "RSA-1024"}, "/key_type"),
        ({"common_name": "A", "key_type": "RSA-2048", "key_size": 4096}, "/key_size"),
        ({"common_name": "A", "validity_years": 51}, "/validity_years"),
        ({"common_name": "A", "validity_years": "10"}, "/validity_years"),
        ({"common_name": "A", "validity_days": 0}, "/validity_days"),
        ({"common_name": "A", "validity_days": 1, "validity_years": 1}, "/validity_days"),
        ({"common_name": "A", "path_length": -1}, "/path_length"),
        ({"common_name": "A", "path_length": 33}, "/path_length"),
        ({"common_name": "A", "pathLength": "0"}, "/pathLength"),
        ({"common_name": "A", "name_constraints_permitted": ["dns:*.x"]},
         "/name_constraints_permitted/0"),
        ({"common_name": "A", "name_constraints_excluded": ["ip:10.0.0.1/8"]},
         "/name_constraints_excluded/0"),
        ({"common_name": "A", "name_constraints_permitted": ["dns:x.example"] * 33},
         "/name_constraints_permitted"),
        ({"common_name": "A", "sia_urls": ["ldap://x.example/"]}, "/sia_urls/0"),
        ({"common_name": "A", "sia_urls": ["http://x.example/"] * 9}, "/sia_urls"),
        ({"common_name": "A", "cps_uri": "javascript:alert(1)"}, "/cps_uri"),
        ({"common_name": "A", "cps_uri": "https://u:p@x.example/"}, "/cps_uri"),
        ({"common_name": "A", "cps_uri": "https://x.example/" + "a" * 2048}, "/cps_uri"),
        ({"common_name": "A", "cps_oid": "1.2.x"}, "/cps_oid"),
        ({"common_name": "A", "key_usage": ["cRLSign"]}, "/key_usage"),
        ({"common_name": "A", "key_usage": ["keyCertSign", "cRLSign", "keyAgreement"]},
         "/key_usage"),
        ({"common_name": "A", "key_usage": ["nonsense"]}, "/key_usage"),
        ({"common_name": "A", "extended_key_usage": ["serverAuth"]}, "/extended_key_usage"),
        ({"common_name": "A", "digest": "md5"}, "/digest"),
        ({"common_name": "A", "description": "x" * 1025}, "/description"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_bad_input(refused, pointers, body, pointer):
    answer = refused("POST", PATH, audit="ca_refused", json=body)
    assert answer.status_code == 400
    assert pointer in pointers(answer)


@pytest.mark.parametrize(
    ("purposes", "pointer", "code", "audit"),
    [
        (["serverAuth", "anyExtendedKeyUsage"], "/extended_key_usage/1", "unrestricted", "ca"),
        (
            ["timeStamping", "serverAuth"],
            "/extended_key_usage",
            "time-stamping-not-alone",
            "certificate",
        ),
    ],
)
def test_purposes_of_an_intermediate_are_refused_where_they_stand(
    refused, shared_tree, purposes, pointer, code, audit
):
    body = {"common_name": "A", "parent_id": shared_tree.root, "extended_key_usage": purposes, **EC}
    answer = refused("POST", PATH, audit=f"{audit}_refused", json=body)
    assert answer.status_code == 400
    assert [(e["pointer"], e["code"]) for e in answer.json["errors"]] == [(pointer, code)]


def test_path_length_zero_has_no_authorities_below(shared_tree):
    before = shared_tree.stored()
    answer = shared_tree.admin.post(
        PATH, {"common_name": "Too Deep", "parent_id": shared_tree.ca, **EC}
    )
    assert answer.status_code == 400
    assert answer.json["errors"][0]["code"] == "path-length-exhausted"
    after = shared_tree.stored()
    assert after == before


def test_only_those_who_may_create(shared_tree):
    answer = shared_tree.viewer.post(PATH, {"common_name": "Mine"})
    assert answer.status_code == 403


# --- reading -------------------------------------------------------------------------------------


def test_lists_and_tree(tree):
    tree.issue()
    listed = tree.viewer.get(PATH).json
    assert "meta" not in listed
    by_id = {ca["id"]: ca for ca in listed["data"]}
    assert (by_id[tree.root]["certs"], by_id[tree.ca]["certs"]) == (1, 1)
    paged = tree.viewer.get(f"{PATH}?per_page=1&page=2").json
    assert (len(paged["data"]), paged["meta"]["total"]) == (1, 2)
    assert [ca["id"] for ca in tree.viewer.get(f"{PATH}?search=issuing").json["data"]] == [tree.ca]
    assert [ca["id"] for ca in tree.viewer.get(f"{PATH}?type=root").json["data"]] == [tree.root]
    assert tree.viewer.get(f"{PATH}?type=orphan").json["data"] == []
    (top,) = tree.viewer.get(f"{PATH}/tree").json["data"]
    assert top["id"] == tree.root
    assert [child["id"] for child in top["children"]] == [tree.ca]
    assert tree.viewer.get(f"{PATH}/999").status_code == 404


def test_documents_have_the_declared_shape(shared_tree):
    item = shared_tree.viewer.get(PATH).json["data"][0]
    CaItem.model_validate(item, strict=True, extra="forbid")
    detail = shared_tree.viewer.get(f"{PATH}/{shared_tree.ca}").json["data"]
    CaDetail.model_validate(detail, strict=True, extra="forbid")
    assert detail["chain_status"]["status"] == "complete"
    for branch in shared_tree.viewer.get(f"{PATH}/tree").json["data"]:
        CaNode.model_validate(branch, strict=True, extra="forbid")


def test_a_cps_without_a_policy_of_its_own_belongs_to_any_policy(tree):
    body = {"common_name": "With CPS", "key_type": "EC-P256", "cps_uri": "https://pki.example/cps"}
    made = tree.admin.post(PATH, body)
    assert made.status_code == 201, made.json
    (policy,) = extension(certificate_of(tree, made.json["data"]["id"]), x509.CertificatePolicies)
    assert policy.policy_identifier.dotted_string == "2.5.29.32.0"
    assert policy.policy_qualifiers == ["https://pki.example/cps"]


# --- changing ------------------------------------------------------------------------------------


def test_urls_go_into_what_is_issued(tree):
    body = {
        "name": "Web CA",
        "cdp_enabled": True,
        "cdp_urls": ["http://pki.example/{ca_refid}.crl"],
        "ocsp_enabled": True,
        "ocsp_url": "http://ocsp.example/",
        "aia_ca_issuers_enabled": True,
        "aia_ca_issuers_urls": ["http://pki.example/ca.cer"],
        "cps_enabled": True,
        "cps_uri": "https://pki.example/cps",
        "cps_oid": "1.3.6.1.4.1.99999.2",
        "crl_validity_days": 3,
    }
    answer = tree.admin.patch(f"{PATH}/{tree.ca}", body)
    assert answer.status_code == 200, answer.json
    data = answer.json["data"]
    assert (data["name"], data["crl_validity_days"]) == ("Web CA", 3)
    assert data["ocsp_urls"] == ["http://ocsp.example/"]
    issued = tree.issue()
    certificate = tree.der(issued["id"])
    points = extension(certificate, x509.CRLDistributionPoints)
    assert points[0].full_name[0].value == f"http://pki.example/{data['refid']}.crl"
    access = {
        d.access_location.value for d in extension(certificate, x509.AuthorityInformationAccess)
    }
    assert access == {"http://ocsp.example/", "http://pki.example/ca.cer"}
    assert issued["ocsp_uri"] == "http://ocsp.example/"
    (row,) = tree.installation.audit("ca_updated")
    assert "cdp_urls" in row.details["changed"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"description": "An authority has a name only."}, "/description"),
        ({"cdp_enabled": True}, "/cdp_urls"),
        ({"ocsp_enabled": True, "ocsp_urls": []}, "/ocsp_urls"),
        ({"cps_enabled": True}, "/cps_uri"),
        ({"cps_enabled": True, "cps_uri": "https://pki.example/cps"}, "/cps_oid"),
        ({"cps_oid": "2.5.29.32.0"}, "/cps_oid"),
        ({"cdp_url": "ldap://x.example/"}, "/cdp_url"),
        ({"cdp_urls": ["http://a b/"]}, "/cdp_urls/0"),
        ({"cdp_urls": ["http://x.example/"] * 9}, "/cdp_urls"),
        ({"ocsp_urls": ["http://x.example/\r\nX: y"]}, "/ocsp_urls/0"),
        ({"name": ""}, "/name"),
        ({"is_active": "no"}, "/is_active"),
        ({"offline": True}, "/offline"),
        ({"crl_validity_days": 0}, "/crl_validity_days"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_changes(refused, shared_tree, pointers, body, pointer):
    answer = refused("PATCH", f"{PATH}/{shared_tree.ca}", audit="ca_refused", json=body)
    assert answer.status_code == 400
    assert pointers(answer) == [pointer]


def test_renewal_with_the_same_and_with_a_new_key(tree, tmp_path, openssl):
    leaf = tree.issue()
    before = certificate_of(tree, tree.ca)
    tree.installation.clock.advance(datetime.timedelta(days=20))
    same = tree.admin.post(f"{PATH}/{tree.ca}/renew")
    assert same.status_code == 200, same.json
    renewed = certificate_of(tree, tree.ca)
    assert renewed.public_key() == before.public_key()
    assert renewed.serial_number != before.serial_number
    assert renewed.not_valid_after_utc > before.not_valid_after_utc
    assert extension(renewed, x509.BasicConstraints).path_length == 0
    (tmp_path / "root.pem").write_bytes(tree.viewer.get(f"{PATH}/{tree.root}/export").data)
    (tmp_path / "ca.pem").write_bytes(renewed.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(tree.der(leaf["id"]).public_bytes(Encoding.PEM))
    moment = int(tree.installation.clock.now().timestamp())
    assert "OK" in openssl(
        *("verify", "-attime", moment, "-CAfile", tmp_path / "root.pem"),
        *("-untrusted", tmp_path / "ca.pem", tmp_path / "leaf.pem"),
    )
    other = tree.admin.post(f"{PATH}/{tree.ca}/renew", {"new_key": True, "validity_days": 400})
    assert other.status_code == 200, other.json
    rekeyed = certificate_of(tree, tree.ca)
    assert rekeyed.public_key() != before.public_key()
    assert rekeyed.subject == before.subject
    new_leaf = tree.der(tree.issue(cn="after.example")["id"])
    new_leaf.verify_directly_issued_by(rekeyed)
    assert len(tree.installation.audit("ca_renewed")) == 2


def test_chains_go_through_the_certificate_that_signed(tree, tmp_path, openssl):
    """After a renewal with a new key, older certificates still chain to the older one."""
    old = tree.issue(cn="old.example")
    assert tree.admin.post(f"{PATH}/{tree.root}/renew", {"new_key": True}).status_code == 200
    assert tree.admin.post(f"{PATH}/{tree.ca}/renew", {"new_key": True}).status_code == 200
    new = tree.issue(cn="new.example")
    moment = int(tree.installation.clock.now().timestamp())
    for issued in (old, new):
        content = tree.viewer.get(
            f"/api/v2/certificates/{issued['id']}/export?include_chain=true"
        ).data
        leaf, ca, root = x509.load_pem_x509_certificates(content)
        for name, certificate in (("leaf", leaf), ("ca", ca), ("root", root)):
            (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        assert "OK" in openssl(
            *("verify", "-attime", moment, "-CAfile", tmp_path / "root.pem"),
            *("-untrusted", tmp_path / "ca.pem", tmp_path / "leaf.pem"),
        )


def test_a_renewed_certificate_from_elsewhere_takes_over(tree):
    """The root is kept offline elsewhere; it renews the intermediate for the same key."""
    before = certificate_of(tree, tree.ca)
    key = load_pem_private_key(
        tree.admin.post(f"{PATH}/{tree.root}/export", {"format": "key"}).data, None
    )
    builder = x509.CertificateBuilder(
        issuer_name=before.issuer,
        subject_name=before.subject,
        public_key=before.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=before.not_valid_before_utc + datetime.timedelta(minutes=1),
        not_valid_after=before.not_valid_after_utc + datetime.timedelta(days=365),
        extensions=list(before.extensions),
    )
    from cryptography.hazmat.primitives import hashes

    renewed = builder.sign(key, hashes.SHA256())
    body = {"pem_content": renewed.public_bytes(Encoding.PEM).decode()}
    refused = tree.admin.post(f"{PATH}/import", {**body, "update_existing": False})
    assert refused.status_code == 409
    answer = tree.admin.post(f"{PATH}/import", body)
    assert answer.status_code == 201, answer.json
    assert answer.json["data"]["id"] == tree.ca
    assert certificate_of(tree, tree.ca) == renewed
    tree.der(tree.issue()["id"]).verify_directly_issued_by(renewed)
    assert tree.stored()["ca"] == 2


@pytest.mark.parametrize("whose", ["root", "ca"])
def test_a_renewed_certificate_that_the_issuer_did_not_sign_is_refused(tree, whose):
    """Names, key identifiers and public key are public: anybody can put them together."""
    from cryptography.hazmat.primitives import hashes

    ca_id = getattr(tree, whose)
    before = certificate_of(tree, ca_id)
    forged = x509.CertificateBuilder(
        issuer_name=before.issuer,
        subject_name=before.subject,
        public_key=before.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=before.not_valid_before_utc + datetime.timedelta(minutes=1),
        not_valid_after=before.not_valid_after_utc + datetime.timedelta(days=365),
        extensions=list(before.extensions),
    ).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    stored = tree.stored()
    body = {"pem_content": forged.public_bytes(Encoding.PEM).decode()}
    answer = tree.admin.post(f"{PATH}/import", body)
    assert answer.status_code == 400, answer.json
    if whose == "ca":
        assert [error["code"] for error in answer.json["errors"]] == ["not-the-issuer"]
    assert certificate_of(tree, ca_id) == before
    assert tree.stored() == stored


def test_named_urls_stay(tree, pointers):
    made = create(tree, common_name="Web & Mail CA", namedUrls=True)
    assert made["url_slug"] == "web-mail-ca"
    again = create(tree, common_name="Web & Mail CA", named_urls=True)
    assert again["url_slug"] == "web-mail-ca-2"
    answer = tree.admin.patch(f"{PATH}/{made['id']}", {"named_urls": False})
    assert pointers(answer) == ["/named_urls"]
    later = tree.admin.patch(f"{PATH}/{tree.ca}", {"namedUrls": True}).json["data"]
    assert (later["url_slug"], later["named_urls"]) == ("test-issuing", True)


def test_a_revoked_authority_issues_nothing_until_it_is_certified_anew(tree):
    listed = tree.viewer.get(f"{PATH}/{tree.ca}").json["data"]
    assert listed["status"] == "active"
    own = tree.installation.container.cas.get(tree.ca).certificate_id
    tree.issue()
    body = {"reason": "superseded"}
    answer = tree.admin.post(f"/api/v2/certificates/{own}/revoke", body)
    assert answer.status_code == 200, answer.json
    order = {"ca_id": tree.ca, "cn": "www.example.org"}
    refused = tree.operator.post("/api/v2/certificates", order)
    assert refused.status_code == 400, refused.json
    assert [error["code"] for error in refused.json["errors"]] == ["issuer-revoked"]
    shown = tree.viewer.get(f"{PATH}/{tree.ca}").json["data"]
    assert CaDetail.model_validate(shown).status == "revoked"
    renewed = tree.admin.post(f"{PATH}/{tree.ca}/renew", {"new_key": True})
    assert renewed.status_code in (200, 201), renewed.json
    assert renewed.json["data"]["status"] == "active"
    tree.issue()


def test_the_key_of_an_offline_authority_is_not_given_out(tree):
    with tree.installation.container.uow.begin(Actor.system("test")) as tx:
        tx.cas.set_offline(tree.ca, offline=True)
    refused = tree.admin.post(f"{PATH}/{tree.ca}/export", {"format": "key"})
    assert refused.status_code == 409
    assert refused.json["type"] == "urn:ucm:error:ca-offline"
    assert tree.admin.post(f"{PATH}/{tree.ca}/export", {"format": "pem"}).status_code == 200


def test_a_root_is_renewed_by_itself(tree):
    before = certificate_of(tree, tree.root)
    assert tree.admin.post(f"{PATH}/{tree.root}/renew", {"new_key": True}).status_code == 200
    after = certificate_of(tree, tree.root)
    after.verify_directly_issued_by(after)
    assert after.public_key() != before.public_key()
    assert tree.viewer.get(f"{PATH}/{tree.root}").json["data"]["is_root"] is True


def test_delete_is_refused_while_something_hangs_on_it(tree):
    assert tree.admin.delete(f"{PATH}/{tree.root}").status_code == 409
    issued = tree.issue()
    assert tree.admin.delete(f"{PATH}/{tree.ca}").status_code == 409
    assert tree.operator.delete(f"{PATH}/{tree.ca}").status_code == 403
    tree.admin.delete(f"/api/v2/certificates/{issued['id']}")
    tree.admin.post(f"{PATH}/{tree.ca}/renew", {"new_key": True})
    assert tree.admin.delete(f"{PATH}/{tree.ca}").status_code == 204
    outcome = tree.admin.post(f"{PATH}/bulk/delete", {"ids": [tree.root, tree.ca]}).json["data"]
    assert outcome["success"] == [tree.root]
    assert [failure["code"] for failure in outcome["failed"]] == ["not-found"]
    stored = tree.stored()
    assert (stored["ca"], stored["certificate"], stored["key"]) == (0, 0, 0)
    assert len(tree.installation.audit("ca_deleted")) == 2


# --- files ---------------------------------------------------------------------------------------


def test_exports(tree):
    chain = tree.viewer.get(f"{PATH}/{tree.ca}/export?include_chain=true").data
    assert len(x509.load_pem_x509_certificates(chain)) == 2
    everything = tree.viewer.get(f"{PATH}/export").data
    assert len(x509.load_pem_x509_certificates(everything)) == 2
    posted = tree.viewer.post(f"{PATH}/export", {"ids": [tree.ca]}).data
    assert len(x509.load_pem_x509_certificates(posted)) == 1
    one = tree.viewer.post(f"{PATH}/bulk/export", {"ids": [tree.root], "format": "p7b"})
    assert one.data.startswith(b"-----BEGIN PKCS7")
    assert tree.viewer.post(f"{PATH}/{tree.ca}/export", {"format": "key"}).status_code == 403
    key = tree.admin.post(f"{PATH}/{tree.ca}/export", {"format": "key", "password": "some pass"})
    loaded = load_pem_private_key(key.data, b"some pass")
    assert loaded.public_key() == certificate_of(tree, tree.ca).public_key()
    assert tree.admin.get(f"{PATH}/{tree.ca}/export?password=x").status_code == 400
    noted = tree.installation.audit("ca_exported")
    assert sum(1 for row in noted if row.details["key"]) == 1


# --- importing -----------------------------------------------------------------------------------


def moved(tree, ca_id):
    """PKCS#12 of an authority, which is then deleted here."""
    body = {"format": "pkcs12", "password": "move it", "include_chain": True}
    content = tree.admin.post(f"{PATH}/{ca_id}/export", body).data
    assert tree.admin.delete(f"{PATH}/{ca_id}").status_code == 204
    return content


def upload(tree, content, **fields):
    form = {"file": (io.BytesIO(content), "ca.p12"), **fields}
    return tree.admin.post(f"{PATH}/import", data=form)


def test_import_with_its_key_issues_again(tree):
    content = moved(tree, tree.ca)
    assert upload(tree, content).json["errors"][0]["code"] == "password-required"
    wrong = upload(tree, content, password="guess")
    assert wrong.json["errors"][0]["code"] == "wrong-password"
    answer = upload(tree, content, password="move it", name="Back Again")
    assert answer.status_code == 201, answer.json
    data = answer.json["data"]
    assert (data["parent_id"], data["has_private_key"]) == (tree.root, True)
    assert (data["imported_from"], data["path_length"]) == ("import", 0)
    body = {"ca_id": data["id"], "csr": a_csr().pem()}
    issued = tree.operator.post("/api/v2/certificates", body)
    assert issued.status_code == 201, issued.json
    tree.der(issued.json["data"]["id"]).verify_directly_issued_by(certificate_of(tree, data["id"]))
    again = upload(tree, content, password="move it", update_existing="false")
    assert again.status_code == 409


def test_import_without_a_key_issues_nothing(tree):
    content = moved(tree, tree.ca)
    answer = upload(tree, content, password="move it", import_key="false")
    assert answer.json["data"]["has_private_key"] is False
    ca_id = answer.json["data"]["id"]
    body = {"ca_id": ca_id, "cn": "a.example"}
    assert tree.operator.post("/api/v2/certificates", body).status_code == 409
    upload(tree, content, password="move it")
    assert tree.operator.post("/api/v2/certificates", body).status_code == 201


def test_an_imported_root_adopts_what_came_before_it(tree):
    leaf = tree.issue(csr=a_csr().pem())
    leaf_pem = tree.viewer.get(f"/api/v2/certificates/{leaf['id']}/export").data.decode()
    tree.admin.delete(f"/api/v2/certificates/{leaf['id']}")
    below = moved(tree, tree.ca)
    top = moved(tree, tree.root)
    body = {"pem_content": leaf_pem}
    orphan = tree.operator.post("/api/v2/certificates/import", body).json["data"]
    assert orphan["ca_id"] is None
    ca = upload(tree, below, password="move it").json["data"]
    assert (ca["parent_id"], ca["certs"]) == (None, 1)
    assert tree.viewer.get(f"{PATH}?type=orphan").json["data"][0]["id"] == ca["id"]
    root = upload(tree, top, password="move it").json["data"]
    assert tree.viewer.get(f"{PATH}/{ca['id']}").json["data"]["parent_id"] == root["id"]
    detail = tree.viewer.get(f"/api/v2/certificates/{orphan['id']}").json["data"]
    assert detail["chain_status"]["status"] == "complete"


def test_imported_keys_are_sealed(tree):
    content = moved(tree, tree.ca)
    upload(tree, content, password="move it")
    from sqlalchemy import text

    with tree.installation.container.engine.connect() as connection:
        sealed = connection.execute(text("SELECT sealed FROM core_key")).scalars().all()
    assert len(sealed) == 2
    assert all(value.startswith("ENC:") for value in sealed)


def foreign(*, ca=True, days=30, key=None):
    """A self-signed certificate."""
    from cryptography.hazmat.primitives import hashes

    from ucm.testing.builders import a_key

    key = key or a_key()
    start = datetime.datetime(2029, 1, 1, tzinfo=datetime.UTC)
    end = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=days)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Foreign")])
    builder = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    return key, builder.sign(key, hashes.SHA256())


def pem_of(certificate, key=None):
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    text = certificate.public_bytes(Encoding.PEM)
    if key is not None:
        text += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


@pytest.mark.parametrize(
    ("make", "pointer", "code"),
    [
        (lambda: pem_of(foreign(ca=False)[1]), "/file", "not-a-ca"),
        (lambda: pem_of(foreign(days=-10)[1]), "/file", "expired"),
        (lambda: pem_of(foreign()[1], foreign()[0]), "/file", "key-mismatch"),
        (lambda: "nonsense", "/file", "invalid-certificate"),
        (lambda: "", "/file", "empty"),
    ],
)
def test_bad_imports(refused, make, pointer, code):
    answer = refused("POST", f"{PATH}/import", audit="ca_refused", json={"pem_content": make()})
    assert answer.status_code == 400
    assert [(field["pointer"], field["code"]) for field in answer.json["errors"]] == [
        (pointer, code)
    ]


def test_bad_uploads(refused):
    send = {"method": "POST", "path": f"{PATH}/import", "audit": "ca_refused"}
    wrong = refused(**send, data={"file": (io.BytesIO(b"x"), "malware.exe")})
    assert wrong.json["errors"][0]["code"] == "file-kind"
    nothing = refused(**send, data={"name": "x"})
    assert nothing.json["errors"][0]["code"] == "one-source"
    unknown = refused(**send, json={"pem_content": "x", "nonsense": 1})
    assert unknown.json["errors"][0]["pointer"] == "/nonsense"
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="l.pem"\r\n\r\n'
    body = part + b"x" * 11_000_000 + b"\r\n--b--\r\n"
    large = refused(**send, data=body, content_type="multipart/form-data; boundary=b")
    assert large.status_code == 413


def test_passwords_that_look_like_numbers(tree):
    body = {"format": "pkcs12", "password": "12345"}
    content = tree.admin.post(f"{PATH}/{tree.ca}/export", body).data
    assert pkcs12.load_pkcs12(content, b"12345").key is not None
    tree.admin.delete(f"{PATH}/{tree.ca}")
    assert upload(tree, content, password="12345").status_code == 201
