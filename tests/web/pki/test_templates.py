"""``/templates`` through HTTP, and what templates do to what is issued."""

from __future__ import annotations

import io
import json

import pytest
from cryptography import x509

from ucm.testing.builders import a_csr, a_key
from ucm.web.v2.schemas import TemplateItem

PATH = "/api/v2/templates"


def create(tree, **fields):
    body = {"name": "Own", "template_type": "web_server", **fields}
    answer = tree.admin.post(PATH, body)
    assert answer.status_code == 201, answer.json
    return answer.json["data"]


def system(tree, name):
    found = tree.viewer.get(f"{PATH}?search={name}").json["data"]
    return next(row for row in found if row["is_system"])


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


# --- the set -------------------------------------------------------------------------------------


def test_system_templates_are_there_once(tree):
    tree.installation.container.templates.ensure_system_templates()
    listed = tree.viewer.get(PATH).json["data"]
    assert {row["name"]: row["validity_days"] for row in listed} == {
        "Web Server (TLS/SSL)": 397,
        "Client Certificate": 365,
        "VPN Server": 730,
        "Email (S/MIME)": 365,
        "Code Signing": 365,
        "OCSP Signing": 365,
    }
    assert all(row["is_system"] for row in listed)
    for row in listed:
        TemplateItem.model_validate(row, strict=True, extra="forbid")


def test_system_templates_stay_as_they_are(refused, shared_tree):
    template = system(shared_tree, "VPN")
    url = f"{PATH}/{template['id']}"
    send = {"audit": "template_refused"}
    assert refused("PUT", url, json={"validity_days": 1}, **send).status_code == 403
    assert refused("DELETE", url, **send).status_code == 403


def test_filters_and_paging(shared_tree):
    get = shared_tree.viewer.get
    assert [t["template_type"] for t in get(f"{PATH}?type=email").json["data"]] == ["email"]
    two = get(f"{PATH}?type=email&type=code_signing").json["data"]
    assert {t["template_type"] for t in two} == {"email", "code_signing"}
    page = get(f"{PATH}?per_page=2&page=2").json
    assert (len(page["data"]), page["meta"]["total"]) == (2, 6)
    assert get(f"{PATH}?active=false").json["data"] == []
    assert get(f"{PATH}/999").status_code == 404


# --- changing ------------------------------------------------------------------------------------


def test_create_change_copy_delete(tree):
    made = create(tree, description="for the web", validity_days=90)
    assert made["extensions_template"]["extended_key_usage"] == ["serverAuth"]
    taken = tree.admin.post(PATH, {"name": "OWN", "template_type": "email"})
    assert taken.status_code == 409
    changed = tree.admin.put(
        f"{PATH}/{made['id']}", {"validity_days": 30, "is_active": False}
    ).json["data"]
    assert (changed["validity_days"], changed["is_active"]) == (30, False)
    assert changed["description"] == "for the web"
    copy = tree.admin.post(f"{PATH}/{made['id']}/duplicate")
    assert copy.status_code == 201, copy.json
    assert copy.json["data"]["name"] == "Own (copy)"
    third = tree.admin.post(f"{PATH}/{made['id']}/duplicate").json["data"]
    assert third["name"] == "Own (copy 2)"
    of_system = tree.admin.post(
        f"{PATH}/{system(tree, 'VPN')['id']}/duplicate", {"name": "My VPN"}
    ).json["data"]
    assert of_system["is_system"] is False
    assert tree.admin.delete(f"{PATH}/{made['id']}").status_code == 204
    bulk = tree.admin.post(
        f"{PATH}/bulk/delete", {"ids": [third["id"], system(tree, "VPN")["id"]]}
    ).json["data"]
    assert bulk["success"] == [third["id"]]
    assert bulk["failed"][0]["code"] == "forbidden"
    for action in ("template_create", "template_update", "template_delete"):
        assert len(tree.installation.audit(action)) >= 1
    assert tree.operator.post(PATH, {"name": "x", "template_type": "custom"}).status_code == 403


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "A"}, "/template_type"),
        ({"template_type": "custom"}, "/name"),
        ({"name": "A", "template_type": "nonsense"}, "/template_type"),
        ({"name": "", "template_type": "custom"}, "/name"),
        ({"name": "A", "template_type": "custom", "validity_days": 3651}, "/validity_days"),
        ({"name": "A", "template_type": "custom", "validity_days": "1"}, "/validity_days"),
        ({"name": "A", "template_type": "custom", "key_type": "DSA"}, "/key_type"),
        ({"name": "A", "template_type": "custom", "digest": "sha1"}, "/digest"),
        ({"name": "A", "template_type": "custom", "dn_template": {"X": "y"}}, "/dn_template/X"),
        (
            {"name": "A", "template_type": "custom", "pinned_subject_fields": {"C": "USA"}},
            "/pinned_subject_fields/C",
        ),
        (
            {
                "name": "A",
                "template_type": "custom",
                "extensions_template": {"key_usage": ["keyCertSign"]},
            },
            "/extensions_template/key_usage",
        ),
        (
            {
                "name": "A",
                "template_type": "custom",
                "extensions_template": {"key_usage": ["nonsense"]},
            },
            "/extensions_template/key_usage",
        ),
        (
            {
                "name": "A",
                "template_type": "custom",
                "extensions_template": {"extended_key_usage": []},
            },
            "/extensions_template/extended_key_usage",
        ),
        (
            {
                "name": "A",
                "template_type": "custom",
                "extensions_template": {"extended_key_usage": ["anyExtendedKeyUsage"]},
            },
            "/extensions_template/extended_key_usage",
        ),
        (
            {
                "name": "A",
                "template_type": "custom",
                "extensions_template": {"basic_constraints": {"ca": True}},
            },
            "/extensions_template/basic_constraints/ca",
        ),
        (
            {
                "name": "A",
                "template_type": "custom",
                "extensions_template": {"basic_constraints": {"ca": 0}},
            },
            "/extensions_template/basic_constraints/ca",
        ),
        (
            {
                "name": "A",
                "template_type": "custom",
                "extensions_template": {"san_types": ["other"]},
            },
            "/extensions_template/san_types/0",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_templates(refused, pointers, body, pointer):
    answer = refused("POST", PATH, audit="template_refused", json=body)
    assert answer.status_code == 400
    assert any(found.startswith(pointer) for found in pointers(answer)), pointers(answer)


# --- governing -----------------------------------------------------------------------------------


def test_a_template_governs_usages_purposes_validity_subject_and_key(tree):
    template = create(
        tree,
        name="Strict",
        template_type="custom",
        key_type="EC-P384",
        validity_days=30,
        digest="sha384",
        dn_template={"OU": "Default Unit"},
        pinned_subject_fields={"O": "Pinned Org"},
        extensions_template={
            "key_usage": ["digitalSignature", "keyAgreement"],
            "extended_key_usage": ["clientAuth", "1.3.6.1.5.5.8.2.2"],
            "san_types": ["dns"],
        },
    )
    issued = tree.issue(template_id=template["id"], organization="Asked Org")
    assert issued["key_type"] == "EC-P384"
    assert (issued["organization"], issued["organizational_unit"]) == ("Pinned Org", "Default Unit")
    assert (issued["template_id"], issued["template_name"]) == (template["id"], "Strict")
    certificate = tree.der(issued["id"])
    usage = extension(certificate, x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_agreement) == (True, True)
    assert usage.key_encipherment is False
    purposes = extension(certificate, x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in purposes] == ["1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.8.2.2"]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
    assert tree.viewer.get(f"{PATH}/{template['id']}").json["data"]["usage_count"] == 1
    listed = tree.viewer.get(f"/api/v2/certificates?template_id={template['id']}").json
    assert [row["id"] for row in listed["data"]] == [issued["id"]]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"validity_days": 31}, "validity-too-long"),
        ({"san": ["ip:192.0.2.1"]}, "name-form-not-allowed"),
        ({"key_type": "RSA 2048"}, "key-type-not-allowed"),
    ],
)
def test_what_a_template_does_not_allow_is_refused(tree, fields, code):
    template = create(
        tree,
        key_type="EC-P384",
        validity_days=30,
        extensions_template={"san_types": ["dns"]},
    )
    before = tree.stored()["certificate"]
    body = {"ca_id": tree.ca, "cn": "a.example", "template_id": template["id"], **fields}
    answer = tree.operator.post("/api/v2/certificates", body)
    assert answer.status_code == 400, answer.json
    assert code in [field["code"] for field in answer.json["errors"]]
    assert tree.stored()["certificate"] == before


def test_a_template_governs_requests_too(tree):
    template = create(tree, key_type="EC-P384")
    weak = a_csr().with_key(a_key()).pem()
    body = {"ca_id": tree.ca, "csr": weak, "template_id": template["id"]}
    answer = tree.operator.post("/api/v2/certificates", body)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["code"] == "key-type-not-allowed"


def test_inactive_unknown_and_used_templates(tree):
    template = create(tree)
    issued = tree.issue(template_id=template["id"], key_type="RSA 2048")
    assert tree.admin.delete(f"{PATH}/{template['id']}").status_code == 409
    tree.admin.put(f"{PATH}/{template['id']}", {"is_active": False})
    body = {"ca_id": tree.ca, "cn": "a.example", "template_id": template["id"]}
    assert tree.operator.post("/api/v2/certificates", body).status_code == 409
    body["template_id"] = 999
    assert tree.operator.post("/api/v2/certificates", body).status_code == 404
    renew = f"/api/v2/certificates/{issued['id']}/renew"
    assert tree.operator.post(renew).status_code == 409
    tree.admin.put(f"{PATH}/{template['id']}", {"is_active": True})
    renewed = tree.operator.post(renew)
    assert renewed.json["data"]["template_id"] == template["id"]


def test_changes_of_a_template_take_effect_at_once(tree):
    template = create(tree, validity_days=30, key_type="EC-P256")
    tree.issue(template_id=template["id"])
    tree.admin.put(f"{PATH}/{template['id']}", {"validity_days": 7})
    issued = tree.der(tree.issue(template_id=template["id"])["id"])
    assert (issued.not_valid_after_utc - issued.not_valid_before_utc).days == 7


# --- sharing -------------------------------------------------------------------------------------


def test_export_and_import(tree, installation):
    made = create(tree, pinned_subject_fields={"O": "Example"}, allowed_ad_group="PKI Users")
    one = tree.viewer.get(f"{PATH}/{made['id']}/export")
    assert one.headers["Content-Disposition"] == 'attachment; filename="Own.json"'
    everything = json.loads(tree.viewer.get(f"{PATH}/export").data)
    assert [entry["name"] for entry in everything] == ["Own"]
    skipped = tree.admin.post(f"{PATH}/import", {"json_content": one.data.decode()})
    assert skipped.json["data"] == {"imported": [], "updated": [], "skipped": ["Own"]}
    tree.admin.delete(f"{PATH}/{made['id']}")
    form = {"file": (io.BytesIO(one.data), "own.json")}
    imported = tree.admin.post(f"{PATH}/import", data=form)
    assert imported.json["data"]["imported"] == ["Own"]
    (again,) = tree.viewer.get(f"{PATH}?search=Own").json["data"]
    same = {name: value for name, value in made.items() if not name.endswith(("_at", "id"))}
    assert {name: again[name] for name in same} == same
    changed = json.dumps([{**json.loads(one.data), "validity_days": 5}])
    updated = tree.admin.post(f"{PATH}/import", {"json_content": changed, "update_existing": True})
    assert updated.json["data"]["updated"] == ["Own"]
    assert tree.viewer.get(f"{PATH}?search=Own").json["data"][0]["validity_days"] == 5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '{"name": "A"}',
        '[{"name": "A", "template_type": "custom", "validity_days": 0}]',
        json.dumps([{"name": "A", "template_type": "custom"}] * 501),
    ],
    ids=lambda content: content[:40],
)
def test_bad_import_files(refused, content):
    answer = refused(
        "POST", f"{PATH}/import", audit="template_refused", json={"json_content": content}
    )
    assert answer.status_code == 400
