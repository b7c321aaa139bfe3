"""What plugins decide about issuance, as clients of the API see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.fernet import Fernet

from ucm.api import Actor, PluginManifest, hookimpl
from ucm.api.actor import ActorKind
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
        asks = "held" in names or request.origin.kind == "csr"
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
