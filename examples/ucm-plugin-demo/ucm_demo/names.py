"""The list of denied names: rules as pure functions, and its use cases."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from ucm.api import Actor, PluginContext, Target
from ucm.api.errors import Conflict, NotFound
from ucm.api.names import canonical_dns
from ucm_demo.events import NameDenied
from ucm_demo.models import DeniedName


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One denied domain, as it leaves the database."""

    id: int
    domain: str
    reason: str
    created_by: str
    expires_at: datetime | None


def covers(domain: str, *, name: str) -> bool:
    """Whether a denied domain covers a DNS name: itself, what is below it, and wildcards for it."""
    host = name.lower().removeprefix("*.")
    return host == domain or host.endswith(f".{domain}")


class DeniedNames:
    """The list. Every change is audited and told to other plugins, in one transaction."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def all(self) -> list[Entry]:
        """Every entry, by domain."""
        with self._ctx.uow.read() as reader:
            rows = reader.session.scalars(select(DeniedName).order_by(DeniedName.domain))
            return [_entry(row) for row in rows]

    def count(self) -> int:
        """How many entries there are."""
        with self._ctx.uow.read() as reader:
            return reader.session.scalar(select(func.count(DeniedName.id))) or 0

    def matching(self, names: Iterable[str]) -> Sequence[tuple[str, Entry]]:
        """Names that an entry covers which has not expired, each with that entry."""
        wanted = list(names)
        if not wanted:
            return ()
        now = self._ctx.clock.now()
        current = [e for e in self.all() if e.expires_at is None or e.expires_at > now]
        return [(n, e) for n in wanted for e in current if covers(e.domain, name=n)]

    def add(self, domain: str, *, reason: str, expires_at: datetime | None, actor: Actor) -> Entry:
        """Deny a domain. Raises ``Invalid`` for no domain, ``Conflict`` for a denied one."""
        row = DeniedName(
            domain=canonical_dns(domain, pointer="/domain"),
            reason=reason,
            created_by=actor.name,
            created_at=self._ctx.clock.now(),
            expires_at=expires_at,
        )
        try:
            with self._ctx.uow.begin(actor) as tx:
                tx.session.add(row)
                tx.session.flush()
                entry = _entry(row)
                tx.audit("demo_name_denied", target=Target("denied_name", entry.id, entry.domain))
                tx.emit(NameDenied(domain=entry.domain, reason=reason))
        except IntegrityError:
            raise Conflict(
                f"{row.domain} is denied already.", hint="Remove the old entry first."
            ) from None
        return entry

    def remove(self, entry_id: int, *, actor: Actor) -> None:
        """Allow a domain again. Raises ``NotFound``."""
        with self._ctx.uow.begin(actor) as tx:
            row = tx.session.get(DeniedName, entry_id)
            if row is None:
                raise NotFound(f"There is no denied name with the id {entry_id}.")
            tx.session.delete(row)
            tx.audit("demo_name_allowed", target=Target("denied_name", entry_id, row.domain))

    def remove_expired(self, *, older_than: timedelta, actor: Actor) -> int:
        """Remove entries that expired longer ago than that; return how many."""
        before = self._ctx.clock.now() - older_than
        with self._ctx.uow.begin(actor) as tx:
            expired = delete(DeniedName).where(DeniedName.expires_at < before)
            removed = tx.session.execute(expired.returning(DeniedName.id)).all()
            if removed:
                tx.audit("demo_names_expired", target=Target("denied_name"), count=len(removed))
        return len(removed)


def _entry(row: DeniedName) -> Entry:
    return Entry(
        id=row.id,
        domain=row.domain,
        reason=row.reason,
        created_by=row.created_by,
        expires_at=row.expires_at,
    )
