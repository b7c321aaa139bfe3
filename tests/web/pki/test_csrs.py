"""``/csrs`` through HTTP."""

from __future__ import annotations

import io

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ucm.testing.builders import a_csr, a_key
from ucm.web.v2.schemas import CertificateItem, CsrDetail, CsrItem

PATH = "/api/v2/csrs"


def upload(tree, pem=None, **fields):
    answer = tree.operator.post(f"{PATH}/upload", {"pem": pem or a_csr().pem(), **fields})
    assert answer.status_code == 201, answer.json
    return answer.json["data"]


def sign(tree, csr_id, **body):
    return tree.operator.post(f"{PATH}/{csr_id}/sign", {"ca_id": tree.ca, **body})


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


# --- taking in -----------------------------------------------------------------------------------


def test_upload_keeps_what_the_request_says(shared_tree):
    data = upload(shared_tree, a_csr("dns:a.example", "ip:192.0.2.7").pem(), name="the gateway")
    assert (data["status"], data["descr"], data["cn"]) == ("Pending", "the gateway", "a.example")
    assert (data["san_dns"], data["san_ip"]) == (["a.example"], ["192.0.2.7"])
    assert data["has_private_key"] is False
    assert x509.load_pem_x509_csr(data["csr_pem"].encode())
    exported = shared_tree.viewer.get(f"{PATH}/{data['id']}/export")
    assert exported.data.decode() == data["csr_pem"]
    assert exported.headers["Content-Disposition"] == 'attachment; filename="a.example.csr"'


def test_import_of_a_der_file(shared_tree):
    form = {"file": (io.BytesIO(a_csr().der()), "request.der"), "name": "from a router"}
    answer = shared_tree.operator.post(f"{PATH}/import", data=form)
    assert answer.status_code == 201, answer.json
    assert answer.json["data"]["source"] == "import"
    assert shared_tree.installation.audit("csr_imported")


def test_a_request_with_a_key_made_here(tree):
    body = {
        "cn": "made.example",
        "organization": "Example",
        "department": "IT",
        "country": "CH",
        "key_type": "EC-P384",
        "sans": ["dns:made.example", "ip:192.0.2.9"],
    }
    answer = tree.operator.post(PATH, body)
    assert answer.status_code == 201, answer.json
    data = answer.json["data"]
    assert (data["key_type"], data["has_private_key"]) == ("EC-P384", True)
    assert data["organizational_unit"] == "IT"
    request = x509.load_pem_x509_csr(data["csr_pem"].encode())
    assert request.is_signature_valid
    signed = sign(tree, data["id"]).json["data"]
    assert signed["has_private_key"] is True
    key = tree.admin.post(f"/api/v2/certificates/{signed['id']}/export", {"format": "key"})
    assert load_pem_private_key(key.data, None).public_key() == request.public_key()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/pem"),
        ({"pem": ""}, "/pem"),
        ({"pem": 1}, "/pem"),
        ({"pem": "nonsense"}, "/pem"),
        ({"pem": "x", "extra": 1}, "/extra"),
        ({"pem": "x", "name": "a\nb"}, "/name"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_uploads(refused, shared_tree, pointers, body, pointer):
    answer = refused(
        "POST", f"{PATH}/upload", client=shared_tree.operator, audit="csr_refused", json=body
    )
    assert answer.status_code == 400
    assert pointer in pointers(answer)


def test_a_bad_signature_is_named(refused, shared_tree, pointers):
    der = a_csr().der()
    broken = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1])).public_bytes(Encoding.PEM)
    answer = refused(
        "POST",
        f"{PATH}/upload",
        client=shared_tree.operator,
        audit="csr_refused",
        json={"pem": broken.decode()},
    )
    assert pointers(answer) == ["/pem"]
    assert "possession" in answer.json["detail"]


def test_oversize_is_413(refused, shared_tree):
    answer = refused(
        "POST",
        f"{PATH}/upload",
        client=shared_tree.operator,
        audit="csr_refused",
        json={"pem": a_csr().pem() + "#" * 65_536},
    )
    assert answer.status_code == 413


def test_attach_key(tree):
    key = a_key()
    data = upload(tree, a_csr().with_key(key).pem())
    url = f"{PATH}/{data['id']}/key"
    wrong = a_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert tree.operator.post(url, {"key": wrong}).json["errors"][0]["code"] == "key-mismatch"
    right = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    answer = tree.operator.post(url, {"key": right.decode()})
    assert answer.json["data"]["has_private_key"] is True
    assert tree.operator.post(url, {"key": right.decode()}).status_code == 409


# --- signing -------------------------------------------------------------------------------------


def test_signing_moves_it_to_the_history(tree):
    data = upload(tree)
    answer = sign(tree, data["id"], validity_days=30, cert_type="combined")
    assert answer.status_code == 200, answer.json
    signed = answer.json["data"]
    CertificateItem.model_validate(signed, strict=True, extra="forbid")
    assert (signed["cert_type"], signed["source"]) == ("combined", "csr")
    assert tree.viewer.get(PATH).json["meta"]["total"] == 0
    (row,) = tree.viewer.get(f"{PATH}/history").json["data"]
    assert (row["status"], row["certificate_id"]) == ("Signed", signed["id"])
    assert row["signed_by"] == "CN=Test Issuing"
    assert sign(tree, data["id"]).status_code == 409
    assert tree.stored()["certificate"] == 3
    (noted,) = tree.installation.audit("csr_signed")
    assert noted.details["certificate_id"] == signed["id"]


def test_validity_is_cut_to_the_issuer(shared_tree):
    signed = sign(shared_tree, upload(shared_tree)["id"], validity_days=3650).json["data"]
    ca = shared_tree.viewer.get(f"/api/v2/cas/{shared_tree.ca}").json["data"]
    assert signed["valid_to"] == ca["valid_to"]


def test_operators_may_keep_special_purposes(shared_tree):
    body = {"extra_ekus": ["OCSPSigning"]}
    answer = sign(shared_tree, upload(shared_tree)["id"], cert_type="client", **body)
    assert answer.status_code == 200, answer.json
    purposes = extension(shared_tree.der(answer.json["data"]["id"]), x509.ExtendedKeyUsage)
    assert {oid.dotted_string for oid in purposes} >= {"1.3.6.1.5.5.7.3.9"}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"validity_days": 0}, "/validity_days"),
        ({"validity_days": 3651}, "/validity_days"),
        ({"cert_type": "root"}, "/cert_type"),
        ({"extra_ekus": ["any"]}, "/extra_ekus/0"),
        ({"cert_type": "intermediate_ca", "template_id": 1}, "/template_id"),
        ({"cert_type": "intermediate_ca", "extra_ekus": ["serverAuth"]}, "/extra_ekus"),
        ({"nonsense": 1}, "/nonsense"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_signing(refused, shared_tree, pointers, body, pointer):
    csr = upload(shared_tree)
    answer = refused(
        "POST",
        f"{PATH}/{csr['id']}/sign",
        client=shared_tree.operator,
        audit="csr_refused",
        json={"ca_id": shared_tree.ca, **body},
    )
    assert answer.status_code == 400
    assert pointer in pointers(answer)
    assert shared_tree.viewer.get(f"{PATH}/{csr['id']}").json["data"]["status"] == "Pending"


def test_an_intermediate_from_a_request(tree):
    """A key made here moves from the request to the authority, which can then issue."""
    made = tree.operator.post(PATH, {"cn": "Sub CA", "key_type": "EC-P256"}).json["data"]
    csrs_only = tree.installation.with_key("operator", "write:csrs", "write:certificates")
    body = {"ca_id": tree.root, "cert_type": "intermediate_ca", "validity_days": 900}
    denied = csrs_only.post(f"{PATH}/{made['id']}/sign", body)
    assert denied.status_code == 403
    assert denied.json["missing_permissions"] == ["write:cas"]
    below = tree.operator.post(f"{PATH}/{made['id']}/sign", {**body, "ca_id": tree.ca})
    assert below.json["errors"][0]["code"] == "path-length-exhausted"
    answer = tree.operator.post(f"{PATH}/{made['id']}/sign", body)
    assert answer.status_code == 200, answer.json
    certificate = tree.der(answer.json["data"]["id"])
    assert extension(certificate, x509.BasicConstraints).ca is True
    assert extension(certificate, x509.KeyUsage).key_cert_sign is True
    (authority,) = tree.viewer.get("/api/v2/cas?search=Sub").json["data"]
    assert (authority["parent_id"], authority["has_private_key"]) == (tree.root, True)
    body = {"ca_id": authority["id"], "cn": "below.example"}
    issued = tree.operator.post("/api/v2/certificates", body)
    assert issued.status_code == 201, issued.json
    tree.der(issued.json["data"]["id"]).verify_directly_issued_by(certificate)


def test_an_intermediate_whose_key_is_elsewhere_issues_nothing(tree):
    csr = upload(tree, a_csr().with_names().with_common_name("Their CA").pem())
    body = {"ca_id": tree.root, "cert_type": "intermediate_ca"}
    assert tree.operator.post(f"{PATH}/{csr['id']}/sign", body).status_code == 200
    (authority,) = tree.viewer.get("/api/v2/cas?search=Their").json["data"]
    assert authority["has_private_key"] is False
    body = {"ca_id": authority["id"], "cn": "below.example"}
    assert tree.operator.post("/api/v2/certificates", body).status_code == 409


# --- lists, deleting, bulk -----------------------------------------------------------------------


def test_lists_search_and_shapes(tree):
    first = upload(tree, a_csr("dns:alpha.example").pem())
    upload(tree, a_csr("dns:beta.example").pem(), name="Second")
    page = tree.viewer.get(f"{PATH}?per_page=1").json
    assert (len(page["data"]), page["meta"]["total"]) == (1, 2)
    found = tree.viewer.get(f"{PATH}?search=alpha").json["data"]
    assert [row["id"] for row in found] == [first["id"]]
    CsrItem.model_validate(found[0], strict=True, extra="forbid")
    detail = tree.viewer.get(f"{PATH}/{first['id']}").json["data"]
    CsrDetail.model_validate(detail, strict=True, extra="forbid")
    assert tree.viewer.get(f"{PATH}?search=%25").json["meta"]["total"] == 0
    assert tree.viewer.get(f"{PATH}/999").status_code == 404


def test_delete_takes_an_unused_key_along(tree):
    before = tree.stored()
    made = tree.operator.post(PATH, {"cn": "gone.example", "key_type": "ed25519"}).json["data"]
    assert tree.operator.delete(f"{PATH}/{made['id']}").status_code == 204
    after = tree.stored()
    assert (after["csr"], after["key"]) == (before["csr"], before["key"])
    used = tree.operator.post(PATH, {"cn": "used.example", "key_type": "ed25519"}).json["data"]
    signed = sign(tree, used["id"]).json["data"]
    assert tree.operator.delete(f"{PATH}/{used['id']}").status_code == 204
    again = tree.viewer.get(f"/api/v2/certificates/{signed['id']}").json["data"]
    assert again["has_private_key"] is True


def test_bulk_signing_and_deleting(tree):
    ids = [upload(tree, a_csr(f"dns:h{i}.example").pem())["id"] for i in range(3)]
    sign(tree, ids[0])
    answer = tree.operator.post(f"{PATH}/bulk/sign", {"ids": [*ids, 999], "ca_id": tree.ca})
    data = answer.json["data"]
    assert data["success"] == ids[1:]
    assert [(f["id"], f["code"]) for f in data["failed"]] == [
        (ids[0], "conflict"),
        (999, "not-found"),
    ]
    assert set(data["certificates"]) == {str(ids[1]), str(ids[2])}
    gone = tree.operator.post(f"{PATH}/bulk/delete", {"ids": ids}).json["data"]
    assert gone == {"success": ids, "failed": []}
    assert tree.operator.post(f"{PATH}/bulk/delete", {"ids": [1] * 101}).status_code == 400
