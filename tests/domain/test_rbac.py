"""The four roles, wildcards, and what a key may do at most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.api.actor import Actor, ActorKind
from ucm.api.contributions import Permission
from ucm.domain.rbac import (
    ADMIN,
    ADMIN_ONLY_RESOURCES,
    AUDITOR,
    OPERATOR,
    RESOURCES,
    ROLE_TITLES,
    VIEWER,
    Roles,
    covers,
    intersection,
)

# Written out on purpose: the table of the documentation, not derived from the code.
MATRIX = """
resource           operator auditor viewer
certificates       RW       R       R
user_certificates  RWD      R       R
cas                RW       R       R
csrs               RWD      R       R
templates          R        R       R
truststore         RW       R       R
crl                RW       R       -
acme               RWD      R       -
scep               R        R       -
est                R        R       -
xcep               R        R       -
wstep              R        R       -
kerberos           R        R       -
ad_connector       R        R       -
hsm                R        R       -
ssh                RWD      R       R
policies           R        R       -
approvals          RW       R       -
key_recovery       RW       -       -
audit              R        R       -
settings           RW       -       -
groups             RW       R       -
users              -        -       -
system             -        -       -
sso                -        -       -
private_keys       -        -       -
"""
ACTIONS = {"R": "read", "W": "write", "D": "delete", "A": "admin"}
ROWS = [line.split() for line in MATRIX.strip().splitlines()[1:]]


@pytest.mark.parametrize(("resource", "operator", "auditor", "viewer"), ROWS)
def test_roles_hold_exactly_the_matrix(resource, operator, auditor, viewer):
    roles = Roles()
    for role, cell in ((OPERATOR, operator), (AUDITOR, auditor), (VIEWER, viewer)):
        actor = Actor(kind=ActorKind.USER, name="x", permissions=roles.permissions(role))
        for letter, action in ACTIONS.items():
            assert actor.may(f"{action}:{resource}") == (letter in cell), (role, action)


def test_matrix_names_every_resource():
    assert {row[0] for row in ROWS} == set(RESOURCES)


def test_admin_may_everything_and_an_unknown_role_nothing():
    roles = Roles()
    admin = Actor(kind=ActorKind.USER, name="x", permissions=roles.permissions(ADMIN))
    assert all(admin.may(f"admin:{resource}") for resource in RESOURCES)
    assert roles.permissions("root") == frozenset()


def test_nobody_but_admin_holds_anything_on_admin_only_resources():
    roles = Roles()
    for role in (OPERATOR, AUDITOR, VIEWER):
        held = {name.partition(":")[2] for name in roles.permissions(role)}
        assert held.isdisjoint(ADMIN_ONLY_RESOURCES)


def test_a_plugins_permission_goes_to_the_roles_it_names():
    roles = Roles([Permission("read:acme_demo", "Read", frozenset({VIEWER, "nobody"}))])
    assert "read:acme_demo" in roles.permissions(VIEWER)
    assert "read:acme_demo" not in roles.permissions(AUDITOR)
    assert "nobody" not in roles.names()
    assert roles.unknown(["read:acme_demo", "read:acme_demon", "*:acme_demo", "read", "*:*"]) == [
        "read:acme_demon",
        "read",
        "*:*",
    ]


@pytest.mark.parametrize(
    ("scopes", "owner", "effective"),
    [
        (["*"], ["read:cas"], {"read:cas"}),
        (["read:*"], ["*:cas", "write:csrs"], {"read:cas"}),
        (["read:cas", "write:cas"], ["read:*"], {"read:cas"}),
        (["*:cas"], ["read:*"], {"read:cas"}),
        (["*"], ["*"], {"*"}),
        (["admin:users"], ["read:users"], set()),
        ([], ["*"], set()),
    ],
)
def test_scopes_are_narrowed_to_the_owner(scopes, owner, effective):
    assert intersection(scopes, owner) == effective


names = st.one_of(
    st.just("*"),
    st.builds(
        "{}:{}".format,
        st.sampled_from(["*", "read", "write", "delete"]),
        st.sampled_from(["*", "cas", "csrs", "users"]),
    ).filter(lambda name: name != "*:*"),  # written as *
)
CONCRETE = [f"{a}:{r}" for a in ("read", "write", "delete") for r in ("cas", "csrs", "users")]


def _actor(permissions):
    return Actor(kind=ActorKind.API_KEY, name="x", permissions=frozenset(permissions))


@given(st.lists(names, max_size=4), st.lists(names, max_size=4))
def test_an_intersection_grants_exactly_what_both_grant(left, right):
    both = _actor(intersection(left, right))
    for name in CONCRETE:
        expected = _actor(left).may(name) and _actor(right).may(name)
        assert both.may(name) == expected, name


@given(st.lists(names, max_size=4), names)
def test_covering_a_permission_grants_all_of_it(held, wanted):
    if covers(held, wanted):
        for name in CONCRETE:
            assert _actor(held).may(name) or not _actor([wanted]).may(name)


def test_the_sentence_about_operators_says_what_they_may_export():
    # write:cas lets them export the keys of authorities, read:private_keys all other ones.
    held = Roles().permissions(OPERATOR)
    assert "write:cas" in held
    assert "read:private_keys" not in held
    assert "may export the keys of authorities" in ROLE_TITLES[OPERATOR]
    assert "no keys of certificates" in ROLE_TITLES[OPERATOR]
