"""Who acts: a user, an API key, a protocol client, a job or the system itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class ActorKind(enum.Enum):
    """Where an actor's identity comes from."""

    USER = "user"
    API_KEY = "api_key"
    PROTOCOL = "protocol"
    JOB = "job"
    CLI = "cli"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """The acting identity with its effective permissions (``action:resource``, wildcards ``*`` and
    ``action:*``).
    """

    kind: ActorKind
    name: str
    user_id: int | None = None
    role: str = ""
    permissions: frozenset[str] = field(default_factory=frozenset)
    ip_address: str | None = None
    user_agent: str | None = None

    def may(self, permission: str) -> bool:
        """Whether the actor holds the permission: exactly, by ``*``, by ``action:*`` or
        ``*:resource``.
        """
        held = self.permissions
        if permission in held or "*" in held:
            return True
        action, _, resource = permission.partition(":")
        return f"{action}:*" in held or f"*:{resource}" in held

    @classmethod
    def system(cls, name: str = "system", *, kind: ActorKind = ActorKind.SYSTEM) -> Actor:
        """The server acting by itself (start-up, jobs); may do everything."""
        return cls(kind=kind, name=name, role="admin", permissions=frozenset({"*"}))

    @classmethod
    def protocol(cls, protocol: str, client: str, *, ip_address: str | None = None) -> Actor:
        """A protocol client that its plugin authenticated; may enrol, nothing else."""
        return cls(
            kind=ActorKind.PROTOCOL,
            name=f"{protocol}:{client}",
            permissions=frozenset({"write:certificates"}),
            ip_address=ip_address,
        )
