"""``/certificates`` through HTTP."""

from __future__ import annotations

import datetime
import io

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from ucm.api.keys import KeySpec
from ucm.testing.builders import a_csr, a_key
from ucm.web.v2.schemas import CertificateDetail, CertificateItem

PATH = "/api/v2/certificates"


def san(certificate):
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


# --- issuing -------------------------------------------------------------------------------------


def test_a_key_made_here(tree, tmp_path, openssl):
    issued = tree.issue(
        cn="www.example.org",
        organization="Example",
        country="CH",
        san=["dns:example.org", "ip:192.0.2.1", "ip:2001:db8::1"],
        key_type="ec",
        curve="secp384r1",
        validity_days=90,
        description="the web server",
    )
    assert issued["has_private_key"] is True
    assert issued["key_type"] == "EC-P384"
    assert issued["san_dns"] == ["example.org", "www.example.org"]
    assert issued["san_ip"] == ["192.0.2.1", "2001:db8::1"]
    assert (issued["organization"], issued["country"]) == ("Example", "CH")
    assert issued["descr"] == "the web server"
    assert issued["status"] == "valid"
    bundle = tree.viewer.get(f"{PATH}/{issued['id']}/export?include_chain=true").data
    (tmp_path / "leaf.pem").write_bytes(bundle)
    (tmp_path / "root.pem").write_bytes(tree.viewer.get(f"/api/v2/cas/{tree.root}/export").data)
    moment = int(tree.installation.clock.now().timestamp())
    assert "OK" in openssl(
        *("verify", "-x509_strict", "-attime", moment, "-CAfile", tmp_path / "root.pem"),
        *("-untrusted", tmp_path / "leaf.pem", tmp_path / "leaf.pem"),
    )
    (row,) = tree.installation.audit("certificate_created")[:1]
    assert row.resource_id == str(issued["id"])
    assert row.username == "operator"


def test_a_request_uploaded_and_signed_in_one_call(tree):
    key = a_key(KeySpec.RSA_2048)
    csr = a_csr("dns:a.example", "dns:b.example").with_key(key).pem()
    issued = tree.issue(csr=csr)
    assert issued["has_private_key"] is False
    assert issued["san_dns"] == ["a.example", "b.example"]
    certificate = tree.der(issued["id"])
    assert certificate.public_key() == key.public_key()
    assert tree.stored()["csr"] == 0


def test_what_is_given_replaces_what_the_request_says(tree):
    issued = tree.issue(csr=a_csr("dns:a.example").pem(), cn="c.example", san=["dns:c.example"])
    assert issued["subject"] == "CN=c.example"
    assert issued["san_dns"] == ["c.example"]


@pytest.mark.parametrize(
    ("cert_type", "purposes"),
    [
        ("server", ["1.3.6.1.5.5.7.3.1"]),
        ("client", ["1.3.6.1.5.5.7.3.2"]),
        ("combined", ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]),
        ("code_signing", ["1.3.6.1.5.5.7.3.3"]),
        ("email", ["1.3.6.1.5.5.7.3.4"]),
    ],
)
def test_the_type_decides_the_purposes(shared_tree, cert_type, purposes):
    issued = shared_tree.issue(
        cn="thing", san=["email:a@example.org", "dns:thing.example"], cert_type=cert_type
    )
    assert issued["cert_type"] == cert_type
    found = shared_tree.der(issued["id"]).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert [oid.dotted_string for oid in found.value] == purposes


def test_extra_purposes_and_must_staple(shared_tree):
    issued = shared_tree.issue(
        extra_ekus=["clientAuth", "1.3.6.1.5.5.8.2.2"], ocsp_must_staple=True
    )
    certificate = shared_tree.der(issued["id"])
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {oid.dotted_string for oid in purposes} == {
        "1.3.6.1.5.5.7.3.1",
        "1.3.6.1.5.5.7.3.2",
        "1.3.6.1.5.5.8.2.2",
    }
    assert certificate.extensions.get_extension_for_class(x509.TLSFeature)
    assert issued["ocsp_must_staple"] is True


def test_typed_names(shared_tree):
    issued = shared_tree.issue(
        cn="a person",
        cert_type="client",
        san_email=["Person@Example.org"],
        san_uri=["urn:uuid:1"],
        san_upn=["person@corp"],
        san_dns=["BÜCHER.example"],
    )
    assert issued["san_email"] == ["Person@example.org"]
    assert issued["san_uri"] == ["urn:uuid:1"]
    assert issued["san_upn"] == ["person@corp"]
    assert issued["san_dns"] == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        ({"key_type": "RSA 2048"}, "RSA-2048"),
        ({"key_type": "rsa", "key_size": 3072}, "RSA-3072"),
        ({"key_type": "ec"}, "EC-P256"),
        ({"key_type": "ecdsa", "curve": "P-521"}, "EC-P521"),
        ({"key_type": "Ed25519"}, "ED25519"),
        ({"key_type": "ed448"}, "ED448"),
        ({"key_type": "ML-DSA-65"}, "ML-DSA-65"),
        ({}, "EC-P256"),
    ],
)
def test_key_types(shared_tree, fields, spec):
    assert shared_tree.issue(**fields)["key_type"] == spec


def test_viewers_do_not_issue(shared_tree):
    before = shared_tree.stored()
    answer = shared_tree.viewer.post(PATH, {"ca_id": shared_tree.ca, "cn": "a.example"})
    assert answer.status_code == 403
    assert shared_tree.stored() == before


def test_an_inactive_authority_does_not_issue(tree, pointers):
    tree.admin.patch(f"/api/v2/cas/{tree.ca}", {"is_active": False})
    before = tree.stored()["certificate"]
    answer = tree.operator.post(PATH, {"ca_id": tree.ca, "cn": "a.example"})
    assert answer.status_code == 409
    assert tree.stored()["certificate"] == before


def test_an_offline_authority_does_not_issue(tree):
    container = tree.installation.container
    with container.uow.begin(_system()) as tx:
        tx.cas.set_offline(tree.ca, offline=True)
    before = tree.stored()
    answer = tree.operator.post(PATH, {"ca_id": tree.ca, "cn": "a.example"})
    assert answer.status_code == 409
    assert answer.json["type"] == "urn:ucm:error:ca-offline"
    assert tree.stored() == before


def _system():
    from ucm.api.actor import Actor

    return Actor.system("test")


# --- renewing ------------------------------------------------------------------------------------


def test_renewal_is_a_new_certificate_with_a_new_key(tree):
    old = tree.issue(san=["dns:x.example"], key_type="RSA 2048", validity_days=47)
    tree.installation.clock.advance(datetime.timedelta(days=10))
    answer = tree.operator.post(f"{PATH}/{old['id']}/renew")
    assert answer.status_code == 201, answer.json
    new = answer.json["data"]
    assert new["renews"] == old["id"]
    assert new["serial_number"] != old["serial_number"]
    assert new["has_private_key"] is True
    before, after = tree.der(old["id"]), tree.der(new["id"])
    assert after.public_key() != before.public_key()
    assert after.subject == before.subject
    assert san(after) == san(before)
    lifetime = after.not_valid_after_utc - after.not_valid_before_utc
    assert lifetime == before.not_valid_after_utc - before.not_valid_before_utc
    assert tree.viewer.get(f"{PATH}/{old['id']}").json["data"]["renewed_by"] == new["id"]
    assert tree.installation.audit("certificate_renewed")


def test_renewal_of_a_foreign_key_certifies_it_again(tree):
    old = tree.issue(csr=a_csr().pem())
    new = tree.operator.post(f"{PATH}/{old['id']}/renew", {"validity_days": 12}).json["data"]
    assert tree.der(new["id"]).public_key() == tree.der(old["id"]).public_key()
    assert new["has_private_key"] is False
    assert (tree.der(new["id"]).not_valid_after_utc - tree.installation.clock.now()).days <= 12


def test_renewal_with_the_requesters_new_key(tree):
    old = tree.issue()
    key = a_key()
    csr = a_csr("dns:other.example").with_key(key).pem()
    new = tree.operator.post(f"{PATH}/{old['id']}/renew", {"csr": csr}).json["data"]
    assert tree.der(new["id"]).public_key() == key.public_key()
    assert new["san_dns"] == old["san_dns"]
    assert new["has_private_key"] is False


def test_renewal_keeps_purposes_and_usages(tree):
    old = tree.issue(cert_type="combined", extra_ekus=["codeSigning"], ocsp_must_staple=True)
    new = tree.operator.post(f"{PATH}/{old['id']}/renew").json["data"]
    before, after = tree.der(old["id"]), tree.der(new["id"])
    for kind in (x509.KeyUsage, x509.ExtendedKeyUsage, x509.TLSFeature):
        assert (
            after.extensions.get_extension_for_class(kind).value
            == before.extensions.get_extension_for_class(kind).value
        )


@pytest.fixture
def from_template(tree):
    """A certificate of a template that asks for P-384 and 30 days, and the template's id."""
    template = tree.admin.post(
        "/api/v2/templates",
        {
            "name": "Strict",
            "template_type": "web_server",
            "key_type": "EC-P384",
            "validity_days": 30,
            "digest": "sha384",
            "pinned_subject_fields": {"O": "Example"},
        },
    )
    assert template.status_code == 201, template.json
    template_id = template.json["data"]["id"]
    return tree.issue(template_id=template_id, key_type="EC-P384"), template_id


def test_a_renewal_stays_within_its_template(tree, from_template, pointers):
    old, template_id = from_template
    renew = f"{PATH}/{old['id']}/renew"
    stored = tree.stored()["certificate"]
    weak = a_csr().with_key(a_key(KeySpec.RSA_2048)).pem()
    refused = tree.operator.post(renew, {"csr": weak})
    assert refused.status_code == 400, refused.json
    assert [error["code"] for error in refused.json["errors"]] == ["key-type-not-allowed"]
    refused = tree.operator.post(renew, {"validity_days": 3000})
    assert refused.status_code == 400, refused.json
    assert pointers(refused) == ["/validity_days"]
    assert tree.stored()["certificate"] == stored
    new = tree.operator.post(renew, {"validity_days": 30})
    assert new.status_code == 201, new.json
    certificate = tree.der(new.json["data"]["id"])
    assert certificate.signature_hash_algorithm.name == "sha384"
    assert certificate.subject == tree.der(old["id"]).subject
    assert new.json["data"]["template_id"] == template_id


def test_a_renewal_follows_a_template_that_became_stricter(tree, from_template):
    old, template_id = from_template
    changed = {"validity_days": 10, "pinned_subject_fields": {"O": "Renamed"}}
    answer = tree.admin.put(f"/api/v2/templates/{template_id}", changed)
    assert answer.status_code == 200, answer.json
    new = tree.operator.post(f"{PATH}/{old['id']}/renew")
    assert new.status_code == 201, new.json
    certificate = tree.der(new.json["data"]["id"])
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime == datetime.timedelta(days=10)
    [organization] = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    assert organization.value == "Renamed"


def test_a_template_that_is_not_active_renews_nothing(tree, from_template):
    old, template_id = from_template
    tree.admin.put(f"/api/v2/templates/{template_id}", {"is_active": False})
    stored = tree.stored()
    refused = tree.operator.post(f"{PATH}/{old['id']}/renew")
    assert refused.status_code == 409
    assert "not active" in refused.json["detail"]
    assert tree.stored() == stored


def test_a_revoked_certificate_and_an_authority_are_not_renewed(tree):
    issued = tree.issue()
    tree.operator.post(f"{PATH}/{issued['id']}/revoke", {"reason": "superseded"})
    assert tree.operator.post(f"{PATH}/{issued['id']}/renew").status_code == 409
    own = tree.viewer.get(f"/api/v2/cas/{tree.ca}").json["data"]["certificate_id"]
    assert tree.operator.post(f"{PATH}/{own}/renew").status_code == 409


# --- revoking ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "stored"),
    [
        ("keyCompromise", "keyCompromise"),
        ("key_compromise", "keyCompromise"),
        ("caCompromise", "cACompromise"),
        ("affiliation_changed", "affiliationChanged"),
        ("cessationOfOperation", "cessationOfOperation"),
        ("privilegeWithdrawn", "privilegeWithdrawn"),
    ],
)
def test_reasons_in_every_spelling(shared_tree, reason, stored):
    issued = shared_tree.issue()
    answer = shared_tree.operator.post(f"{PATH}/{issued['id']}/revoke", {"reason": reason})
    assert answer.status_code == 200
    data = answer.json["data"]
    assert (data["status"], data["revoked"], data["revoke_reason"]) == ("revoked", True, stored)


def test_revoking_without_a_body_is_unspecified_and_final(shared_tree):
    issued = shared_tree.issue()
    answer = shared_tree.operator.post(f"{PATH}/{issued['id']}/revoke")
    assert answer.json["data"]["revoke_reason"] == "unspecified"
    again = shared_tree.operator.post(f"{PATH}/{issued['id']}/revoke", {"reason": "superseded"})
    assert again.status_code == 409


def test_hold_and_unhold(tree):
    issued = tree.issue()
    url = f"{PATH}/{issued['id']}"
    assert tree.operator.post(f"{url}/unhold").status_code == 409
    held = tree.operator.post(f"{url}/revoke", {"reason": "certificateHold"}).json["data"]
    assert held["status"] == "on_hold"
    listed = tree.viewer.get(f"{PATH}?status=on_hold").json["data"]
    assert [row["id"] for row in listed] == [issued["id"]]
    lifted = tree.operator.post(f"{url}/unhold").json["data"]
    assert (lifted["status"], lifted["revoked"], lifted["revoke_reason"]) == ("valid", False, None)
    assert tree.installation.audit("certificate_unheld")


def test_invalidity_date(shared_tree, pointers):
    tree = shared_tree
    issued = tree.issue()
    url = f"{PATH}/{issued['id']}/revoke"
    now = tree.installation.clock.now()
    future = (now + datetime.timedelta(hours=1)).isoformat()
    for wrong in (future, "yesterday", "0001-01-01T00:00:00+14:00"):
        answer = tree.operator.post(url, {"reason": "keyCompromise", "invalidity_date": wrong})
        assert answer.status_code == 400
        assert pointers(answer) == ["/invalidity_date"]
    since = (now - datetime.timedelta(days=3)).replace(microsecond=0)
    answer = tree.operator.post(
        url, {"reason": "keyCompromise", "invalidity_at": since.isoformat()}
    )
    assert answer.json["data"]["invalidity_at"] == since.isoformat().replace("+00:00", "Z")


def test_a_key_revoked_as_compromised_is_not_certified_again(tree):
    csr = a_csr().with_key(a_key()).pem()
    issued = tree.issue(csr=csr)
    tree.operator.post(f"{PATH}/{issued['id']}/revoke", {"reason": "keyCompromise"})
    answer = tree.operator.post(PATH, {"ca_id": tree.ca, "csr": csr})
    assert answer.status_code == 400
    assert "compromised" in answer.json["detail"]


# --- keeping -------------------------------------------------------------------------------------


def test_rename(tree):
    issued = tree.issue()
    answer = tree.operator.patch(f"{PATH}/{issued['id']}", {"descr": "mail gateway"})
    assert answer.json["data"]["descr"] == "mail gateway"
    assert tree.viewer.get(f"{PATH}?search=gateway").json["meta"]["total"] == 1
    assert tree.operator.patch(f"{PATH}/{issued['id']}", {"descr": ""}).status_code == 400


def test_attach_key(tree, pointers):
    key = a_key()
    issued = tree.issue(csr=a_csr().with_key(key).pem())
    url = f"{PATH}/{issued['id']}/key"
    wrong = a_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    answer = tree.operator.post(url, {"key": wrong})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["code"] == "key-mismatch"
    sealed = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
    ).decode()
    assert tree.operator.post(url, {"key": sealed}).json["errors"][0]["code"] == "password-required"
    answer = tree.operator.post(url, {"key": sealed, "passphrase": "open sesame"})
    assert answer.json["data"]["has_private_key"] is True
    exported = tree.admin.post(f"{PATH}/{issued['id']}/export", {"format": "key"})
    assert load_pem_private_key(exported.data, None).public_key() == key.public_key()
    assert tree.operator.post(url, {"key": wrong}).status_code == 409


def test_delete_keeps_the_serial_and_drops_the_key(tree):
    before = tree.stored()
    issued = tree.issue()
    assert tree.operator.delete(f"{PATH}/{issued['id']}").status_code == 403
    assert tree.admin.delete(f"{PATH}/{issued['id']}").status_code == 204
    assert tree.viewer.get(f"{PATH}/{issued['id']}").status_code == 404
    after = tree.stored()
    assert (after["certificate"], after["key"]) == (before["certificate"], before["key"])
    assert tree.installation.audit("cert_deleted")
    own = tree.viewer.get(f"/api/v2/cas/{tree.ca}").json["data"]["certificate_id"]
    assert tree.admin.delete(f"{PATH}/{own}").status_code == 409


# --- files ---------------------------------------------------------------------------------------


def test_exports_without_a_key(shared_tree):
    issued = shared_tree.issue()
    url = f"{PATH}/{issued['id']}/export"
    pem = shared_tree.viewer.get(url)
    assert pem.headers["Content-Disposition"] == 'attachment; filename="www.example.org.pem"'
    assert len(x509.load_pem_x509_certificates(pem.data)) == 1
    chain = shared_tree.viewer.get(f"{url}?include_chain=true")
    assert len(x509.load_pem_x509_certificates(chain.data)) == 3
    assert shared_tree.viewer.get(f"{url}?format=p7b").data.startswith(b"-----BEGIN PKCS7")
    assert shared_tree.installation.audit("certificate_exported")


def test_private_keys_need_their_permission(tree):
    issued = tree.issue()
    url = f"{PATH}/{issued['id']}/export"
    for body in (
        {"format": "key"},
        {"format": "pem", "include_key": True},
        {"format": "pkcs12", "password": "some password"},
    ):
        answer = tree.operator.post(url, body)
        assert answer.status_code == 403
        assert answer.json["missing_permissions"] == ["read:private_keys"]
    assert not tree.installation.audit("certificate_key_exported")
    answer = tree.admin.post(
        url, {"format": "pkcs12", "password": "pass word", "include_chain": True}
    )
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    content = pkcs12.load_pkcs12(answer.data, b"pass word")
    assert content.key.public_key() == tree.der(issued["id"]).public_key()
    assert len(content.additional_certs) == 2
    assert len(tree.installation.audit("certificate_key_exported")) == 1


def test_an_encrypted_key(tree):
    issued = tree.issue()
    body = {"format": "pem", "include_key": True, "password": "1234e5"}
    content = tree.admin.post(f"{PATH}/{issued['id']}/export", body).data
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in content
    key = content[content.index(b"-----BEGIN ENCRYPTED") :]
    assert load_pem_private_key(key, b"1234e5")


def test_what_cannot_be_exported(shared_tree, pointers):
    with_csr = shared_tree.issue(csr=a_csr().pem())
    url = f"{PATH}/{with_csr['id']}/export"
    assert shared_tree.admin.post(url, {"format": "key"}).status_code == 409
    in_url = shared_tree.admin.get(f"{url}?format=pkcs12&password=secret")
    assert in_url.status_code == 400
    assert pointers(in_url) == ["password"]
    assert b"secret" not in in_url.data
    jks = shared_tree.admin.post(url, {"format": "jks", "password": "some password"})
    assert jks.status_code == 400
    assert "pkcs12" in jks.json["hint"]
    short = shared_tree.admin.post(url, {"format": "pkcs12", "password": "abc"})
    assert pointers(short) == ["/password"]


def test_exporting_many(tree):
    ids = [tree.issue(cn=f"h{i}.example")["id"] for i in range(3)]
    everything = tree.viewer.get(f"{PATH}/export")
    assert len(x509.load_pem_x509_certificates(everything.data)) == 3
    some = tree.viewer.post(f"{PATH}/bulk/export", {"ids": ids[:2], "format": "pem"})
    assert len(x509.load_pem_x509_certificates(some.data)) == 2
    assert tree.viewer.post(f"{PATH}/bulk/export", {"ids": [999]}).status_code == 404
    assert len(tree.installation.audit("certificates_exported")) == 2
    posted = tree.viewer.post(f"{PATH}/export", {"format": "p7b"})
    assert posted.data.startswith(b"-----BEGIN PKCS7")
    one = tree.viewer.post(f"{PATH}/export", {"ids": ids[:1]})
    assert len(x509.load_pem_x509_certificates(one.data)) == 1
    assert len(x509.load_pem_x509_certificates(tree.viewer.post(f"{PATH}/export").data)) == 3


def test_a_deleted_certificate_comes_back_as_it_was(tree):
    issued = tree.issue(key_type="RSA 2048", cn="moved.example")
    url = f"{PATH}/{issued['id']}"
    body = {"format": "pkcs12", "password": "007e1"}
    content = tree.admin.post(f"{url}/export", body).data
    tree.operator.post(f"{url}/revoke", {"reason": "keyCompromise"})
    tree.admin.delete(url)
    form = {"file": (io.BytesIO(content), "x.p12"), "password": "007e1", "name": "moved here"}
    answer = tree.operator.post(f"{PATH}/import", data=form)
    assert answer.status_code == 201, answer.json
    data = answer.json["data"]
    assert data["serial_number"] == issued["serial_number"]
    assert (data["descr"], data["ca_id"], data["has_private_key"]) == ("moved here", tree.ca, True)
    # Deleting and importing must not be a way around a revocation.
    assert (data["status"], data["revoke_reason"]) == ("revoked", "keyCompromise")


def test_import_of_a_foreign_certificate(tree):
    key, foreign = foreign_certificate()
    pem = foreign.public_bytes(Encoding.PEM).decode()
    answer = tree.operator.post(f"{PATH}/import", {"pem_content": pem, "name": "elsewhere"})
    assert answer.status_code == 201, answer.json
    data = answer.json["data"]
    assert (data["source"], data["descr"], data["ca_id"]) == ("import", "elsewhere", None)
    assert data["has_private_key"] is False
    again = tree.operator.post(f"{PATH}/import", {"pem_content": pem, "update_existing": False})
    assert again.status_code == 409
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    updated = tree.operator.post(f"{PATH}/import", {"pem_content": pem + sealed})
    assert updated.json["data"]["id"] == data["id"]
    assert updated.json["data"]["has_private_key"] is True
    detail = tree.viewer.get(f"{PATH}/{data['id']}").json["data"]
    assert detail["chain_status"]["status"] == "incomplete"
    assert tree.operator.post(f"{PATH}/{data['id']}/renew").status_code == 409


def test_a_key_of_an_unknown_algorithm_is_shown_and_nothing_more(tree):
    """SLH-DSA, say: kept and displayed; no key operation is offered (RFC 9909)."""
    key, foreign = foreign_certificate()
    parsed = asn1_x509.Certificate.load(foreign.public_bytes(Encoding.DER))
    present = parsed["tbs_certificate"]["subject_public_key_info"]["algorithm"].dump()
    unknown = "2.16.840.1.101.3.4.3.20"
    # As long as what it replaces, so that the lengths around it stay right.
    algorithm = bytes.fromhex("3013" + "0609608648016503040314" + "0406000000000000")
    assert len(algorithm) == len(present)
    der = parsed.dump().replace(present, algorithm)
    form = {"file": (io.BytesIO(der), "slh.der")}
    answer = tree.operator.post(f"{PATH}/import", data=form)
    assert answer.status_code == 201, answer.json
    assert answer.json["data"]["key_type"] == unknown
    detail = tree.viewer.get(f"{PATH}/{answer.json['data']['id']}")
    assert detail.status_code == 200
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    attached = tree.operator.post(f"{PATH}/{answer.json['data']['id']}/key", {"key": pem})
    assert attached.json["errors"][0]["code"] == "key-mismatch"


def test_import_finds_the_issuer_by_its_signature(tree):
    issued = tree.issue(csr=a_csr().pem())
    pem = tree.viewer.get(f"{PATH}/{issued['id']}/export").data.decode()
    _, foreign = foreign_certificate()
    wrong = foreign.public_bytes(Encoding.PEM).decode()
    answer = tree.operator.post(f"{PATH}/import", {"pem_content": wrong, "ca_id": tree.ca})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["code"] == "not-the-issuer"
    answer = tree.operator.post(f"{PATH}/import", {"pem_content": pem, "ca_id": tree.ca})
    assert answer.status_code == 201
    assert answer.json["data"]["id"] == issued["id"]


def test_import_of_an_authority_needs_its_permission(tree, installation):
    writer = installation.with_key("operator", "write:certificates")
    pem = tree.viewer.get(f"/api/v2/cas/{tree.root}/export").data.decode()
    answer = writer.post(f"{PATH}/import", {"pem_content": pem})
    assert answer.status_code == 403
    assert "write:cas" in answer.json["detail"]


def foreign_certificate(*, ca=False, days=30):
    from cryptography.hazmat.primitives import hashes

    key = a_key()
    now = datetime.datetime(2029, 12, 31, tzinfo=datetime.UTC)
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Elsewhere CA")])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elsewhere.example")])
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=days))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    return key, builder.sign(a_key(), hashes.SHA256())


# --- lists ---------------------------------------------------------------------------------------


def test_lists_filter_search_sort_and_page(tree):
    ids = [tree.issue(cn=f"host-{i}.example", validity_days=30 + i)["id"] for i in range(5)]
    tree.operator.post(f"{PATH}/{ids[0]}/revoke")
    get = tree.viewer.get
    assert get(PATH).json["meta"]["total"] == 5
    page = get(f"{PATH}?per_page=2&sort_by=valid_to&sort_order=asc").json
    assert [row["id"] for row in page["data"]] == ids[:2]
    assert page["meta"]["total_pages"] == 3
    following = get(
        f"{PATH}?per_page=2&sort_by=valid_to&sort_order=asc&cursor={page['meta']['next_cursor']}"
    ).json
    assert [row["id"] for row in following["data"]] == ids[2:4]
    assert get(f"{PATH}?status=revoked").json["meta"]["total"] == 1
    assert get(f"{PATH}?status=revoked&status=valid").json["meta"]["total"] == 5
    assert get(f"{PATH}?search=host-3").json["meta"]["total"] == 1
    assert get(f"{PATH}?search=%25").json["meta"]["total"] == 0
    assert get(f"{PATH}?ca_id={tree.root}").json["meta"]["total"] == 0
    assert get(f"{PATH}?source=api&ca_id={tree.ca}").json["meta"]["total"] == 5
    assert get(f"/api/v2/cas/{tree.ca}/certificates?status=revoked").json["meta"]["total"] == 1
    assert get("/api/v2/cas/999/certificates").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "per_page=101",
        "per_page=x",
        "sort_by=der",
        "sort_order=up",
        "status=lost",
        "cursor=AAAA",
        "nonsense=1",
        "ca_id=x",
    ],
)
def test_bad_queries(shared_tree, query):
    answer = shared_tree.viewer.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


def test_documents_have_the_declared_shape(shared_tree):
    issued = shared_tree.issue(organization="Ex, ample", email="a@example.org")
    CertificateItem.model_validate(issued, strict=True, extra="forbid")
    detail = shared_tree.viewer.get(f"{PATH}/{issued['id']}").json["data"]
    CertificateDetail.model_validate(detail, strict=True, extra="forbid")
    assert detail["organization"] == "Ex, ample"
    assert detail["chain_status"]["status"] == "complete"
    assert detail["chain_status"]["trust_anchor"] == "CN=Test Root"
    names = {extension["name"] for extension in detail["extensions"]}
    assert {"basicConstraints", "keyUsage", "extendedKeyUsage"} <= names


def test_stats_and_compliance(tree):
    tree.issue(validity_days=365)
    tree.issue(validity_days=10)
    stats = tree.viewer.get(f"{PATH}/stats").json["data"]
    assert (stats["total"], stats["valid"], stats["expiring"]) == (2, 2, 1)
    assert stats["sources"] == ["api"]
    compliance = tree.viewer.get(f"{PATH}/compliance").json["data"]
    assert compliance["total"] == 2
    assert sum(compliance["distribution"].values()) == 2


def test_known_purposes(shared_tree):
    known = shared_tree.viewer.get("/api/v2/eku/known").json["data"]
    assert {"oid": "1.3.6.1.5.5.7.3.1", "name": "serverAuth"} in known
    assert "anyExtendedKeyUsage" not in {entry["name"] for entry in known}


# --- bulk ----------------------------------------------------------------------------------------


def test_bulk_operations_report_each_object(tree):
    ids = [tree.issue(cn=f"b{i}.example")["id"] for i in range(3)]
    revoked = tree.operator.post(
        f"{PATH}/bulk/revoke", {"ids": [ids[0], 999], "reason": "superseded"}
    ).json
    assert revoked["data"]["success"] == [ids[0]]
    assert [failure["id"] for failure in revoked["data"]["failed"]] == [999]
    renewed = tree.operator.post(f"{PATH}/bulk/renew", {"ids": ids}).json["data"]
    assert renewed["success"] == ids[1:]
    assert [failure["id"] for failure in renewed["failed"]] == [ids[0]]
    new = renewed["certificates"][str(ids[1])]
    assert tree.viewer.get(f"{PATH}/{new}").json["data"]["renews"] == ids[1]
    deleted = tree.admin.post(f"{PATH}/bulk/delete", {"ids": [ids[2], ids[2], 999]}).json["data"]
    assert deleted["success"] == [ids[2]]
    for action in (
        "certificates_bulk_revoked",
        "certificates_bulk_renewed",
        "certificates_bulk_deleted",
    ):
        assert len(tree.installation.audit(action)) == 1


@pytest.mark.parametrize("ids", [[], list(range(1, 102)), ["1"], [0], [-1], "1", None])
def test_bulk_ids_are_bounded(shared_tree, ids):
    for path in ("bulk/revoke", "bulk/renew", "bulk/delete", "bulk/export"):
        answer = shared_tree.admin.post(f"{PATH}/{path}", {"ids": ids})
        assert answer.status_code == 400
