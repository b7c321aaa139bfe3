"""What plugins decide about issuance, as clients of the API see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.fernet import Fernet

from ucm.api import Actor, PluginManifest, hookimpl
from ucm.api.actor import ActorKind
from ucm.api.errors import Conflict
from ucm.api.issuance import (
    CertificateDraft,
    Denial,
    Hold,
    IssuanceRequest,
    Operation,
    RevocationRequest,
)
from ucm.api.views import CaView, CertificateView
from ucm.services.users import AccountRequest
from ucm.testing.app import PASSWORD, ApiClient, api_client, make_app
from ucm.testing.builders import a_csr
from ucm.testing.hosting import a_manifest


class House:
    """A plugin with rules of its own: common names decide."""

    manifest: PluginManifest = a_manifest(
        "house", guards=frozenset({Operation.ISSUE, Operation.REVOKE})
    )

    undecided = True

    @hookimpl
    def ucm_before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> Iterable[Denial | Hold] | None:
        names = str(request.subject.rfc4514_string() if request.subject else "")
        if "forbidden" in names:
            return [Denial("house-rule", "This name is not for us.", "Choose another.", "/cn")]
        asks = "held" in names.lower() or request.origin.kind == "csr"
        return [Hold("two people must agree", "house")] if asks and self.undecided else None

    @hookimpl
    def ucm_check_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> Iterable[Denial] | None:
        return None

    @hookimpl
    def ucm_before_revoke(
        self, request: RevocationRequest, actor: Actor, certificate: CertificateView
    ) -> Iterable[Denial] | None:
        if certificate.common_name == "keep.example":
            return [Denial("house-rule", "This one stays.", "Ask the owner.")]
        return None


@dataclass(frozen=True)
class Premises:
    """An installation with the plugin: its container, a client and an authority."""

    plugin: House
    container: Any
    api: Any
    ca: int


@pytest.fixture
def house(ucm_installation):
    plugin = House()
    container = ucm_installation.start(plugins={"house": plugin}, strict=True)
    api = api_client(make_app(container), container)
    ca = api.post("/api/v2/cas", {"common_name": "Root", "key_type": "EC-P256"})
    assert ca.status_code == 201, ca.json
    return Premises(plugin, container, api, ca.json["data"]["id"])


def test_a_denial_names_the_rule_and_issues_nothing(house):
    api = house.api
    answer = api.post("/api/v2/certificates", {"ca_id": house.ca, "cn": "forbidden.example"})
    assert answer.status_code == 400
    assert answer.json["type"] == "urn:ucm:error:policy-denied"
    assert answer.json["errors"] == [
        {"pointer": "/cn", "code": "house-rule", "detail": "This name is not for us."}
    ]
    assert answer.json["hint"] == "Choose another."
    assert api.get("/api/v2/certificates").json["meta"]["total"] == 0
    rows = api.get("/api/v2/audit/logs?action=certificate_refused").json["data"]
    assert len(rows) == 1


def test_a_held_order_waits_and_is_issued_when_resumed(house):
    api = house.api
    answer = api.post("/api/v2/certificates", {"ca_id": house.ca, "cn": "held.example"})
    assert answer.status_code == 200, answer.json
    data = answer.json["data"]
    assert data["approval_required"] is True
    assert (data["status"], data["policy_name"]) == ("pending_approval", "two people must agree")
    assert api.get("/api/v2/certificates").json["meta"]["total"] == 0
    house.plugin.undecided = False
    house.container.issuance.resume(data["approval_id"], actor=Actor.system("test"))
    (issued,) = api.get("/api/v2/certificates").json["data"]
    assert (issued["cn"], issued["has_private_key"]) == ("held.example", True)


def test_a_held_request_is_claimed_after_the_decision(house):
    api = house.api
    made = api.post("/api/v2/csrs/upload", {"pem": a_csr("dns:a.example").pem()}).json["data"]
    path = f"/api/v2/csrs/{made['id']}"
    held = api.post(f"{path}/sign", {"ca_id": house.ca}).json["data"]
    assert held["approval_required"] is True
    assert api.get(path).json["data"]["status"] == "Pending"
    house.plugin.undecided = False
    house.container.issuance.resume(held["approval_id"], actor=Actor.system("test"))
    signed = api.post(f"{path}/sign", {"ca_id": house.ca}).json["data"]
    assert api.get("/api/v2/certificates").json["meta"]["total"] == 1
    assert api.get(path).json["data"]["certificate_id"] == signed["id"]


def test_a_held_authority_is_there_once_it_is_approved(house):
    api = house.api
    body = {
        "common_name": "Held Issuing",
        "parent_id": house.ca,
        "key_type": "EC-P256",
        "digest": "sha512",
        "named_urls": True,
        "path_length": 0,
    }
    answer = api.post("/api/v2/cas", body)
    assert (answer.status_code, answer.json["hint"][:8]) == (409, "When it "), answer.json
    assert [ca["name"] for ca in api.get("/api/v2/cas").json["data"]] == ["Root"]
    house.plugin.undecided = False
    approver = Actor.system("test")
    issued = house.container.issuance.resume(answer.json["approval_id"], actor=approver)
    assert issued.claimed
    (made,) = (c for c in house.container.cas.all() if c.name == "Held Issuing")
    assert (made.certificate_id, made.parent_id) == (issued.id, house.ca)
    assert (made.digest, made.path_length, made.publication.named_urls) == ("sha512", 0, True)
    assert made.url_slug == "held-issuing"
    leaf = api.post("/api/v2/certificates", {"ca_id": made.id, "cn": "a.example"})
    assert leaf.status_code == 201, leaf.json
    assert house.container.issuance.resume(answer.json["approval_id"], actor=approver) == issued
    assert len(house.container.cas.all()) == 2


def test_a_held_root_is_signed_by_the_key_that_waited_with_it(house):
    body = {"common_name": "Held Root", "key_type": "EC-P256"}
    answer = house.api.post("/api/v2/cas", body)
    assert answer.status_code == 409
    house.plugin.undecided = False
    house.container.issuance.resume(answer.json["approval_id"], actor=Actor.system("test"))
    (made,) = (c for c in house.container.cas.all() if c.name == "Held Root")
    assert made.is_root
    made.certificate.verify_directly_issued_by(made.certificate)
    leaf = house.api.post("/api/v2/certificates", {"ca_id": made.id, "cn": "a.example"})
    assert leaf.status_code == 201, leaf.json


@pytest.fixture
def held_ca(house):
    """An authority whose renewal is held."""
    house.plugin.undecided = False
    body = {"common_name": "Held CA", "parent_id": house.ca, "key_type": "EC-P256"}
    made = house.api.post("/api/v2/cas", body)
    assert made.status_code == 201, made.json
    house.plugin.undecided = True
    return made.json["data"]["id"]


@pytest.mark.parametrize("new_key", [False, True])
def test_a_held_renewal_takes_effect_once_it_is_approved(house, held_ca, new_key):
    before = house.container.cas.get(held_ca)
    answer = house.api.post(f"/api/v2/cas/{held_ca}/renew", {"new_key": new_key})
    assert answer.status_code == 409, answer.json
    assert house.container.cas.get(held_ca).certificate_id == before.certificate_id
    house.plugin.undecided = False
    resume = house.container.issuance.resume
    issued = resume(answer.json["approval_id"], actor=Actor.system("test"))
    after = house.container.cas.get(held_ca)
    assert after.certificate_id == issued.id
    assert (after.key != before.key) is new_key
    leaf = house.api.post("/api/v2/certificates", {"ca_id": held_ca, "cn": "a.example"})
    assert leaf.status_code == 201, leaf.json
    (row,) = house.api.get("/api/v2/audit/logs?action=ca_renewed").json["data"]
    assert row["details"]["new_key"] is new_key


def test_a_held_renewal_does_not_undo_a_later_one(house, held_ca):
    answer = house.api.post(f"/api/v2/cas/{held_ca}/renew", {})
    house.plugin.undecided = False
    assert house.api.post(f"/api/v2/cas/{held_ca}/renew", {}).status_code == 200
    current = house.container.cas.get(held_ca).certificate_id
    with pytest.raises(Conflict, match="renewed otherwise"):
        house.container.issuance.resume(answer.json["approval_id"], actor=Actor.system("test"))
    assert house.container.cas.get(held_ca).certificate_id == current


def test_revocation_can_be_refused(house):
    api = house.api
    body = {"ca_id": house.ca, "cn": "keep.example"}
    issued = api.post("/api/v2/certificates", body).json["data"]
    path = f"/api/v2/certificates/{issued['id']}"
    answer = api.post(f"{path}/revoke", {"reason": "superseded"})
    assert answer.status_code == 400
    assert api.get(path).json["data"]["revoked"] is False
    bulk = api.post("/api/v2/certificates/bulk/revoke", {"ids": [issued["id"]]}).json["data"]
    assert [failure["code"] for failure in bulk["failed"]] == ["policy-denied"]


def test_without_its_master_key_nothing_is_made_or_given_out(ucm_installation):
    made = ucm_installation
    first = made.start(key_encryption_key=Fernet.generate_key().decode())
    api = api_client(make_app(first), first)
    ca = api.post("/api/v2/cas", {"common_name": "Root", "key_type": "EC-P256"}).json["data"]["id"]
    issued = api.post("/api/v2/certificates", {"ca_id": ca, "cn": "a.example"}).json["data"]["id"]
    first.close()
    second = made.start(key_encryption_key=Fernet.generate_key().decode())
    api = api_client(make_app(second), second, role="operator")
    admin = _admin(second)
    requests = {
        "issue": (api.post, "/api/v2/certificates", {"ca_id": ca, "cn": "b.example"}),
        "sign": (api.post, "/api/v2/certificates", {"ca_id": ca, "csr": a_csr().pem()}),
        "create": (api.post, "/api/v2/cas", {"common_name": "Other"}),
        "renew": (api.post, f"/api/v2/certificates/{issued}/renew", {}),
        "export": (admin.post, f"/api/v2/certificates/{issued}/export", {"format": "key"}),
    }
    for name, (call, path, body) in requests.items():
        answer = call(path, body)
        assert answer.status_code == 503, (name, answer.json)
        assert answer.json["safe_mode"] is True, name
        assert int(answer.headers["Retry-After"]) > 0
    assert api.get("/api/v2/certificates").json["meta"]["total"] == 1
    assert api.get(f"/api/v2/certificates/{issued}/export").status_code == 200
    assert api.post(f"/api/v2/certificates/{issued}/revoke", {}).status_code == 200


def _admin(container):
    container.users.create(
        AccountRequest(username="second-admin", password=PASSWORD, role="admin"),
        actor=Actor.system("test"),
    )
    user = container.users.by_username("second-admin")
    actor = Actor(
        kind=ActorKind.USER,
        name=user.username,
        user_id=user.id,
        role="admin",
        permissions=frozenset({"*"}),
    )
    key = container.apikeys.create("test", permissions=["*"], expires_days=None, actor=actor)
    return ApiClient(make_app(container).test_client(), key.secret)
