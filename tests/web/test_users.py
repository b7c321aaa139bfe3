"""Accounts: who may make and change them, and that an administrator always remains."""

import threading

import pytest

from ucm.api.actor import Actor, ActorKind
from ucm.api.errors import Conflict, Forbidden, Invalid
from ucm.services.users import AccountRequest

PASSWORD = "Str0ng-enough"
USERS = "/api/v2/users"


def new(**fields):
    return {"username": "ada", "email": "ada@example.org", "password": PASSWORD, **fields}


def id_of(installation, username):
    return installation.container.users.by_username(username).id


def test_an_account_is_created_listed_changed_and_deleted(installation, admin):
    answer = admin.post(USERS, new(role="operator", full_name="Ada L."))
    assert answer.status_code == 201
    created = answer.json["data"]
    assert answer.headers["Location"] == f"{USERS}/{created['id']}"
    assert (created["role"], created["active"], created["full_name"]) == (
        "operator",
        True,
        "Ada L.",
    )
    assert "hash" not in answer.get_data(as_text=True)
    assert installation.api().sign_in("ada").status_code == 200
    path = f"{USERS}/{created['id']}"
    assert admin.get(path).json["data"]["email"] == "ada@example.org"
    changed = admin.put(path, {"full_name": "Ada Lovelace", "role": "auditor"})
    assert changed.json["data"]["role"] == "auditor"
    assert admin.delete(path).status_code == 204
    assert admin.get(path).status_code == 404
    assert installation.api().sign_in("ada").status_code == 401
    actions = [row.action for row in installation.audit() if row.resource_name == "ada"]
    assert {"user_create", "user_update", "role_change", "user_delete"} <= set(actions)


def test_every_change_is_an_event_in_the_same_unit(installation, admin):
    admin.post(USERS, new())
    with installation.container.uow.read() as reader:
        events = [row for row in reader.outbox.pending(limit=100) if row.name == "user.changed"]
    assert events[-1].payload["username"] == "ada"
    assert events[-1].payload["change"] == "created"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"username": ""}, "/username"),
        ({"username": "two words"}, "/username"),
        ({"username": "-dash"}, "/username"),
        ({"username": "x" * 81}, "/username"),
        ({"username": 7}, "/username"),
        ({"email": "nowhere"}, "/email"),
        ({"password": "short"}, "/password"),
        ({"password": "Ada-passw0rd"}, "/password"),
        ({"role": "root"}, "/role"),
        ({"active": "yes"}, "/active"),
        ({"full_name": "line\nbreak"}, "/full_name"),
        ({"is_root": True}, "/is_root"),
        ({"username": None}, "/username"),
    ],
)
def test_bad_fields_are_named_and_nothing_is_stored(installation, admin, fields, pointer):
    answer = admin.post(USERS, new(**fields))
    assert answer.status_code == 400
    assert pointer in {field["pointer"] for field in answer.json["errors"]}
    assert PASSWORD not in answer.get_data(as_text=True)
    assert admin.get(USERS).json["meta"]["total"] == 4


def test_a_missing_body_and_missing_fields(admin):
    assert admin.post(USERS).status_code == 400
    answer = admin.post(USERS, {})
    assert {field["pointer"] for field in answer.json["errors"]} == {"/username", "/password"}
    wrong_kind = admin.post(USERS, data="username=a", content_type="text/plain")
    assert wrong_kind.status_code == 415
    assert wrong_kind.json["type"] == "urn:ucm:error:unsupported-media-type"


@pytest.mark.parametrize(
    "fields", [{"username": "OPERATOR", "email": ""}, {"email": "Operator@Example.org"}]
)
def test_names_and_addresses_are_unique_in_any_case(admin, fields):
    answer = admin.post(USERS, new(**fields))
    assert answer.status_code == 409


def test_lists_are_filtered_and_paged(admin):
    assert admin.get(f"{USERS}?role=viewer&role=auditor").json["meta"]["total"] == 2
    assert admin.get(f"{USERS}?active=false").json["data"] == []
    assert [u["username"] for u in admin.get(f"{USERS}?search=oper").json["data"]] == ["operator"]
    page = admin.get(f"{USERS}?per_page=3&page=2").json
    assert len(page["data"]) == 1
    assert page["meta"] | {"total": 4, "page": 2, "per_page": 3, "total_pages": 2} == page["meta"]
    for query in ("per_page=0", "per_page=101", "page=0", "page=x", "rolle=admin", "role=root"):
        answer = admin.get(f"{USERS}?{query}")
        assert answer.status_code == 400, query
        assert answer.json["errors"][0]["parameter"].startswith(query.partition("=")[0])


def test_the_last_active_administrator_stays(installation, admin):
    mine = f"{USERS}/{id_of(installation, 'admin')}"
    for change in ({"role": "viewer"}, {"active": False}):
        answer = admin.put(mine, change)
        assert answer.status_code == 409
        assert "last active administrator" in answer.json["detail"]
    assert admin.delete(mine).status_code == 403
    second = admin.post(USERS, new(role="admin")).json["data"]["id"]
    assert admin.put(mine, {"role": "viewer"}).status_code == 409, "not the own account"
    assert admin.put(f"{USERS}/{second}", {"active": False}).status_code == 200
    assert admin.put(mine, {"active": False}).status_code == 409


def test_two_administrators_cannot_remove_each_other(installation, admin):
    second = admin.post(USERS, new(role="admin")).json["data"]["id"]
    other = installation.signed_in("ada")
    assert other.delete(f"{USERS}/{id_of(installation, 'admin')}").status_code == 204
    assert admin.delete(f"{USERS}/{second}").status_code == 401


def test_changing_the_own_password_here_needs_the_current_one(installation, admin):
    mine = f"{USERS}/{id_of(installation, 'admin')}"
    body = {"password": "An0ther-secret"}
    assert admin.put(mine, body).status_code == 400
    wrong = {**body, "current_password": "Wr0ng-password"}
    assert admin.put(mine, wrong).status_code == 401
    assert installation.api().sign_in("admin", "An0ther-secret").status_code == 401
    assert admin.put(mine, {**body, "current_password": PASSWORD}).status_code == 200
    assert installation.api().sign_in("admin", "An0ther-secret").status_code == 200
    assert admin.post(f"{mine}/reset-password", {"new_password": PASSWORD}).status_code in (
        400,
        401,
    )


def test_a_reset_password_ends_the_accounts_sessions(installation, admin):
    session = installation.signed_in("viewer")
    path = f"{USERS}/{id_of(installation, 'viewer')}/reset-password"
    assert admin.post(path, {"new_password": "weak"}).status_code == 400
    assert session.get("/api/v2/account/profile").status_code == 200
    assert admin.post(path, {"new_password": "Reset-passw0rd"}).status_code == 200
    assert session.get("/api/v2/account/profile").status_code == 401


def test_a_key_limited_to_users_cannot_make_or_take_over_administrators(installation, admin):
    assert admin.post(USERS, new(username="root", email="", role="admin")).status_code == 201
    key = installation.with_key("admin", "write:users", "read:users", "delete:users")
    assert key.post(USERS, new(role="viewer")).status_code == 201
    assert key.post(USERS, new(username="eve", email="", role="admin")).status_code == 403
    admin_path = f"{USERS}/{id_of(installation, 'root')}"
    assert key.delete(admin_path).status_code == 403
    assert key.put(admin_path, {"password": "Stolen-passw0rd"}).status_code == 403
    viewer_path = f"{USERS}/{id_of(installation, 'viewer')}"
    assert key.put(viewer_path, {"role": "admin"}).status_code == 403


def test_an_update_without_anything_is_refused(installation, admin):
    path = f"{USERS}/{id_of(installation, 'viewer')}"
    assert admin.put(path, {}).status_code == 400
    assert admin.put(path, {"email": None}).status_code == 400


def test_toggle(installation, admin):
    path = f"{USERS}/{id_of(installation, 'viewer')}"
    assert admin.patch(f"{path}/toggle").json["data"]["active"] is False
    assert admin.patch(f"{path}/toggle").json["data"]["active"] is True


def test_the_password_policy_is_public(installation):
    policy = installation.api().get(f"{USERS}/password-policy").json["data"]
    assert (policy["min_length"], policy["max_length"]) == (8, 128)
    assert len(policy["rules"]) == 6


def test_settings_tighten_the_policy(installation, admin):
    admin.patch("/api/v2/settings/general", {"min_password_length": 20})
    assert admin.post(USERS, new()).status_code == 400


def test_the_first_administrator(empty_installation):
    users = empty_installation.container.users
    with pytest.raises(Invalid):
        users.first_admin("weak")
    made = users.first_admin(None)
    assert made is not None
    assert len(made) >= 20
    assert users.first_admin(None) is None
    data = empty_installation.api().sign_in("admin", made).json["data"]
    assert data["force_password_change"] is True
    assert data["role"] == "admin"


def test_a_given_first_password_need_not_be_changed(empty_installation):
    assert empty_installation.container.users.first_admin("Giv3n-secret") is None
    data = empty_installation.api().sign_in("admin", "Giv3n-secret").json["data"]
    assert data["force_password_change"] is False


def test_services_refuse_without_http(installation):
    users = installation.container.users
    nobody = Actor(kind=ActorKind.SYSTEM, name="x")
    with pytest.raises(Forbidden):
        users.create(AccountRequest(username="eve", password=PASSWORD, role="admin"), actor=nobody)
    with pytest.raises(Conflict):
        users.create(AccountRequest(username="Viewer", password=PASSWORD), actor=nobody)


def test_two_administrators_who_demote_each_other_at_once_leave_one(installation, admin):
    second = admin.post(USERS, new(role="admin")).json["data"]["id"]
    users = installation.container.users
    first = id_of(installation, "admin")
    start = threading.Barrier(2)
    outcomes = []

    def demote(actor_id, target_id):
        actor = Actor(kind=ActorKind.USER, name="x", user_id=actor_id, permissions=frozenset({"*"}))
        start.wait()
        try:
            users.update(target_id, changes={"role": "viewer"}, actor=actor)
            outcomes.append("demoted")
        except Conflict:
            outcomes.append("refused")

    threads = [
        threading.Thread(target=demote, args=pair) for pair in ((first, second), (second, first))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["demoted", "refused"]
    with installation.container.uow.read() as reader:
        assert reader.users.page(roles=("admin",), active=True).total == 1
