"""Accounts, sessions, API keys, roles, groups."""

from datetime import timedelta

import pytest

from ucm.api.errors import Conflict, NotFound
from ucm.store.users import NewUser


@pytest.fixture
def anna(uow, operator):
    with uow.begin(operator) as tx:
        return tx.users.add(
            NewUser(username="Anna", email="Anna@Example.com", role="admin", password_hash="$a$")
        )


def test_names_and_local_addresses_are_unique_in_any_case(uow, operator, anna):
    for username, email, source, word in (
        ("ANNA", "x@example.com", "local", "username"),
        ("bert", "anna@example.COM", "local", "email"),
    ):
        with pytest.raises(Conflict, match=word), uow.begin(operator) as tx:
            tx.users.add(NewUser(username=username, email=email, role="viewer", auth_source=source))
    with uow.begin(operator) as tx:
        carl = tx.users.add(
            NewUser(username="carl", email="anna@example.com", role="viewer", auth_source="ldap")
        )
        assert tx.users.by_username("aNNa").id == anna
        assert tx.users.by_username("dora") is None
        assert [view.id for view in tx.users.page(search="ANNA example").items] == [anna, carl]
        assert tx.users.page(roles=("viewer",), active=True).total == 1
    with pytest.raises(Conflict, match="username"), uow.begin(operator) as tx:
        tx.users.update(carl, username="Anna")


def test_the_password_hash_is_never_shown(uow, anna):
    with uow.read() as reader:
        view = reader.users.get(anna)
    assert view.password_hash == "$a$"
    assert "$a$" not in repr(view)


def test_failed_sign_ins_lock_and_a_good_one_forgets_them(uow, operator, anna, clock):
    until = clock.now() + timedelta(minutes=5)
    with uow.begin(operator) as tx:
        locked = [tx.users.record_failure(anna, limit=3, locked_until=until) for _ in range(3)]
        assert locked == [False, False, True]
        assert tx.users.get(anna).locked_until == until
        tx.users.record_login(anna, at=clock.now())
        view = tx.users.get(anna)
    assert (view.locked_until, view.failed_logins, view.login_count) == (None, 0, 1)
    assert view.last_login == clock.now()


def test_stale_changes_of_accounts_are_refused(uow, operator, anna):
    with uow.begin(operator) as tx:
        assert tx.users.update(anna, version=1, full_name="Anna A.").version == 2
    with pytest.raises(Conflict, match="meanwhile"), uow.begin(operator) as tx:
        tx.users.update(anna, version=1, full_name="Stale")
    with pytest.raises(TypeError, match="id"), uow.begin(operator) as tx:
        tx.users.update(anna, id=9)
    with uow.begin(operator) as tx:
        assert tx.users.active_admins() == 1
        tx.users.update(anna, active=False)
        assert (tx.users.active_admins(), tx.users.count()) == (0, 1)


def test_a_deleted_account_takes_its_sessions_keys_and_memberships(uow, operator, anna, clock):
    later = clock.now() + timedelta(hours=1)
    with uow.begin(operator) as tx:
        session = {"user_id": anna, "auth_method": "password"}
        session |= {"expires_at": later, "absolute_expires_at": later}
        tx.sessions.add(token_hash="t", **session)
        tx.api_keys.add(
            user_id=anna, name="ci", key_hash="h", key_prefix="ucm_ak_", permissions=("read:cas",)
        )
        group = tx.groups.add(name="Operators", permissions=("write:cas",))
        tx.groups.add_member(group, user_id=anna)
        assert tx.groups.permissions_of(anna) == {"write:cas"}
        assert tx.groups.get(group).member_count == 1
        assert [member.username for member in tx.groups.members(group)] == ["Anna"]
    with pytest.raises(Conflict, match="already a member"), uow.begin(operator) as tx:
        tx.groups.add_member(group, user_id=anna)
    with uow.begin(operator) as tx:
        tx.users.delete(anna)
        assert tx.sessions.by_token_hash("t") is None
        assert tx.api_keys.by_hash("h") is None
        assert tx.groups.members(group) == []
        assert tx.users.add(NewUser(username="new", email="n@x", role="viewer")) != anna


def test_sessions_move_their_idle_end_and_are_cleaned_when_over(uow, operator, anna, clock):
    hour = timedelta(hours=1)
    with uow.begin(operator) as tx:
        ids = [
            tx.sessions.add(
                token_hash=f"t{n}",
                user_id=anna,
                auth_method="password",
                expires_at=clock.now() + n * hour,
                absolute_expires_at=clock.now() + 3 * hour,
            )
            for n in (1, 2, 3)
        ]
        tx.sessions.touch(ids[0], at=clock.now(), expires_at=clock.now() + 9 * hour)
    clock.advance(timedelta(hours=2, minutes=30))
    with uow.begin(operator) as tx:
        assert tx.sessions.delete_expired(now=clock.now()) == 1
        assert [view.id for view in tx.sessions.of_user(anna)] == [ids[2], ids[0]]
        assert tx.sessions.delete_of_user(anna, keep=ids[2]) == 1
        assert "t3" not in repr(tx.sessions.by_token_hash("t3"))
    clock.advance(hour)
    with uow.begin(operator) as tx:
        assert tx.sessions.delete_expired(now=clock.now()) == 1
        assert not tx.sessions.delete(ids[0])


def test_api_keys_are_found_by_hash_and_narrowed(uow, operator, anna, clock):
    new = {"user_id": anna, "name": "ci", "key_hash": "h", "key_prefix": "p", "permissions": ()}
    with uow.begin(operator) as tx:
        key = tx.api_keys.add(**new)
        tx.api_keys.touch(key, at=clock.now(), ip_address="192.0.2.1")
        view = tx.api_keys.update(key, permissions=("read:cas",), is_active=False)
    assert (view.permissions, view.is_active, view.last_used_ip) == (
        ("read:cas",),
        False,
        "192.0.2.1",
    )
    with pytest.raises(Conflict, match="already exists"), uow.begin(operator) as tx:
        tx.api_keys.add(**new)
    with uow.begin(operator) as tx:
        tx.api_keys.delete(key)
        assert tx.api_keys.of_user(anna) == []


def test_an_assigned_role_is_not_deleted(uow, operator, anna):
    with uow.begin(operator) as tx:
        base = tx.roles.add(name="Base", permissions=("read:cas",))
        role = tx.roles.add(name="Custom", permissions=("read:csrs",), inherits_from=base)
        tx.users.update(anna, custom_role_id=role)
        assert tx.roles.user_counts() == {role: 1}
    for used in (base, role):
        with pytest.raises(Conflict, match="assigned"), uow.begin(operator) as tx:
            tx.roles.delete(used)
    with pytest.raises(Conflict, match="name"), uow.begin(operator) as tx:
        tx.roles.update(role, name="BASE")
    with uow.begin(operator) as tx:
        tx.users.update(anna, custom_role_id=None)
        tx.roles.delete(role)
        tx.roles.delete(base)
        assert tx.roles.all() == []
    with pytest.raises(NotFound), uow.begin(operator) as tx:
        tx.roles.delete(base)
