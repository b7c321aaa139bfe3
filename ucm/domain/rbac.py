"""Roles and permissions: ``action:resource``, four fixed roles, and how permissions combine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from ucm.api.contributions import Permission

ADMIN = "admin"
OPERATOR = "operator"
AUDITOR = "auditor"
VIEWER = "viewer"

ACTIONS = ("read", "write", "delete", "admin")

# R, W and D of the permission matrix; admin holds everything and needs no column.
_MATRIX: Mapping[str, tuple[str, str, str]] = {
    # resource:            operator, auditor, viewer
    "certificates": ("RW", "R", "R"),
    "user_certificates": ("RWD", "R", "R"),
    "cas": ("RW", "R", "R"),
    "csrs": ("RWD", "R", "R"),
    "templates": ("R", "R", "R"),
    "truststore": ("RW", "R", "R"),
    "crl": ("RW", "R", ""),
    "acme": ("RWD", "R", ""),
    "scep": ("R", "R", ""),
    "est": ("R", "R", ""),
    "xcep": ("R", "R", ""),
    "wstep": ("R", "R", ""),
    "kerberos": ("R", "R", ""),
    "ad_connector": ("R", "R", ""),
    "hsm": ("R", "R", ""),
    "ssh": ("RWD", "R", "R"),
    "policies": ("R", "R", ""),
    "approvals": ("RW", "R", ""),
    "key_recovery": ("RW", "", ""),
    "audit": ("R", "R", ""),
    "settings": ("RW", "", ""),
    "groups": ("RW", "R", ""),
}
ADMIN_ONLY_RESOURCES = ("users", "system", "sso", "private_keys")
RESOURCES = (*_MATRIX, *ADMIN_ONLY_RESOURCES)

_LETTERS = {"R": "read", "W": "write", "D": "delete"}


def _column(index: int) -> frozenset[str]:
    return frozenset(
        f"{_LETTERS[letter]}:{resource}"
        for resource, cells in _MATRIX.items()
        for letter in cells[index]
    )


SYSTEM_ROLES: Mapping[str, frozenset[str]] = {
    ADMIN: frozenset({"*"}),
    OPERATOR: _column(0),
    AUDITOR: _column(1),
    VIEWER: _column(2),
}
ROLE_TITLES: Mapping[str, str] = {
    ADMIN: "Everything, users and system settings included",
    OPERATOR: "Issues, revokes and renews, may export the keys of authorities; no users, no system,"
    " no keys of certificates",
    AUDITOR: "Reads everything that is not a secret, the audit log included",
    VIEWER: "Reads certificates, authorities, requests and templates",
}


class Roles:
    """The four roles with the permissions of the core and of the plugins that run."""

    def __init__(self, contributed: Iterable[Permission] = ()) -> None:
        held = {role: set(permissions) for role, permissions in SYSTEM_ROLES.items()}
        self._titles: dict[str, str] = {}
        for permission in contributed:
            self._titles[permission.name] = permission.title
            for role in permission.roles:
                if role in held:
                    held[role].add(permission.name)
        self._held = {role: frozenset(permissions) for role, permissions in held.items()}

    def permissions(self, role: str) -> frozenset[str]:
        """What the role holds; an unknown role holds nothing."""
        return self._held.get(role, frozenset())

    def names(self) -> tuple[str, ...]:
        """The role names, most powerful first."""
        return tuple(self._held)

    def known_permissions(self) -> tuple[str, ...]:
        """Every concrete permission that may be granted to a key, in stable order."""
        core = {f"{action}:{resource}" for action in ACTIONS for resource in RESOURCES}
        return tuple(sorted(core | set(self._titles)))

    def unknown(self, permissions: Iterable[str]) -> list[str]:
        """Those that name no permission of the core or of a running plugin, wildcards aside."""
        known = set(self.known_permissions())
        actions = {name.partition(":")[0] for name in known}
        resources = {name.partition(":")[2] for name in known}
        return [name for name in permissions if not _is_known(name, known, actions, resources)]


def _is_known(name: str, known: set[str], actions: set[str], resources: set[str]) -> bool:
    if name == "*" or name in known:
        return True
    action, colon, resource = name.partition(":")
    if not colon:
        return False
    return (action == "*" and resource in resources) or (resource == "*" and action in actions)


def intersection(left: Iterable[str], right: Iterable[str]) -> frozenset[str]:
    """The permissions that both sides grant, wildcards narrowed to what the other side holds.

    An API key's effective permissions are its scopes intersected with its owner's permissions at
    the time of use, so that a demoted owner's keys lose their rights with him.
    """
    return _intersection(frozenset(left), frozenset(right))


@lru_cache(maxsize=1024)  # asked at every request of a key, with the same few answers
def _intersection(left: frozenset[str], right: frozenset[str]) -> frozenset[str]:
    pairs = [_split(name) for name in right]
    common = (_meet(_split(name), other) for name in left for other in pairs)
    return frozenset(_join(pair) for pair in common if pair is not None)


def covers(held: Iterable[str], wanted: str) -> bool:
    """Whether ``held`` grants all of ``wanted``, which may itself contain wildcards."""
    target = _split(wanted)
    return any(_meet(_split(name), target) == target for name in held)


def _split(permission: str) -> tuple[str, str]:
    if permission == "*":
        return ("*", "*")
    action, _, resource = permission.partition(":")
    return (action, resource)


def _join(pair: tuple[str, str]) -> str:
    return "*" if pair == ("*", "*") else f"{pair[0]}:{pair[1]}"


def _meet(left: tuple[str, str], right: tuple[str, str]) -> tuple[str, str] | None:
    action = _narrower(left[0], right[0])
    resource = _narrower(left[1], right[1])
    return None if action is None or resource is None else (action, resource)


def _narrower(left: str, right: str) -> str | None:
    if left == right or right == "*":
        return left
    return right if left == "*" else None
