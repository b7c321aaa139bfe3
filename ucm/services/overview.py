"""Numbers for the dashboard and the scraper, and search across aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ucm.api.actor import Actor
from ucm.api.services import Clock
from ucm.api.views import CaView, CertificateView
from ucm.store.audit import AuditQuery, AuditRow
from ucm.store.certificate_query import CertificateQuery
from ucm.store.certificate_trend import Day
from ucm.store.templates import TemplateView
from ucm.store.uow import UnitOfWork
from ucm.store.users import UserView

_SOON = timedelta(days=30)
_VERY_SOON = timedelta(days=7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """Counters of the moment; certificates of authorities are not counted as certificates."""

    certificates: int
    valid: int
    expiring: int
    expiring_in_a_week: int
    expired: int
    revoked: int
    on_hold: int
    authorities: int
    active_authorities: int
    pending_requests: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchHits:
    """What matched, as far as the caller may read it."""

    certificates: Sequence[CertificateView] = ()
    cas: Sequence[CaView] = ()
    users: Sequence[UserView] = ()
    templates: Sequence[TemplateView] = ()


class OverviewService:
    """Reads across the aggregates; changes nothing."""

    def __init__(self, *, uow: UnitOfWork, clock: Clock) -> None:
        self._uow = uow
        self._clock = clock

    def numbers(self) -> Numbers:
        """Counters of the moment."""
        now = self._clock.now()
        with self._uow.read() as reader:
            counts = reader.certificates.counts(now, expiring=_SOON)
            week = reader.certificates.counts(now, expiring=_VERY_SOON)
            authorities = reader.cas.all()
            pending = reader.csrs.page(signed=False, per_page=1).total
        return Numbers(
            certificates=counts.total,
            valid=counts.valid,
            expiring=counts.expiring,
            expiring_in_a_week=week.expiring,
            expired=counts.expired,
            revoked=counts.revoked,
            on_hold=counts.on_hold,
            authorities=len(authorities),
            active_authorities=sum(1 for ca in authorities if ca.is_active and not ca.offline),
            pending_requests=pending,
        )

    def recent_authorities(self, limit: int) -> Sequence[CaView]:
        """The newest authorities."""
        with self._uow.read() as reader:
            authorities = reader.cas.all()
        return sorted(authorities, key=lambda ca: ca.created_at, reverse=True)[:limit]

    def expiring(self, limit: int) -> Sequence[CertificateView]:
        """Certificates that expire within 30 days, soonest first."""
        now = self._clock.now()
        with self._uow.read() as reader:
            return reader.certificates.expiring(before=now + _SOON, after=now, limit=limit)

    def activity(self, limit: int, *, actor: Actor) -> Sequence[AuditRow]:
        """The newest audit rows; without ``read:audit`` only the actor's own."""
        query = AuditQuery() if actor.may("read:audit") else AuditQuery(usernames=(actor.name,))
        with self._uow.read() as reader:
            return list(reader.audit_log.stream(query, limit=limit))

    def trend(self, days: int) -> Sequence[Day]:
        """Certificates of the last days, oldest first, today included."""
        with self._uow.read() as reader:
            return reader.certificates.days(now=self._clock.now(), count=days)

    def search(self, text: str, *, limit: int, actor: Actor) -> SearchHits:
        """Up to ``limit`` of each kind that the actor may read."""
        folded = text.casefold()
        with self._uow.read() as reader:
            certificates: Sequence[CertificateView] = ()
            cas: Sequence[CaView] = ()
            users: Sequence[UserView] = ()
            templates: Sequence[TemplateView] = ()
            if actor.may("read:certificates"):
                query = CertificateQuery(search=text, per_page=limit)
                certificates = reader.certificates.page(query).items
            if actor.may("read:cas"):
                cas = [
                    ca
                    for ca in reader.cas.all()
                    if folded in f"{ca.name}\n{ca.subject}\n{ca.serial}".casefold()
                ][:limit]
            if actor.may("read:users"):
                users = reader.users.page(search=text, per_page=limit).items
            if actor.may("read:templates"):
                templates = [
                    template
                    for template in reader.templates.all()
                    if folded in f"{template.name}\n{template.description}".casefold()
                ][:limit]
        return SearchHits(certificates=certificates, cas=cas, users=users, templates=templates)
