"""Certificates: the largest aggregate and the hot path of issuance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError

from ucm.api.errors import Conflict, NotFound
from ucm.api.issuance import RevocationReason
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.views import CertificateView
from ucm.store import certificate_trend, tables
from ucm.store.certificate_query import CertificateQuery, Page, page_of_ids
from ucm.store.prepared import Prepared, prepared_insert
from ucm.store.scope import Repository, conflict_of
from ucm.store.search_terms import certificate_terms

_t = tables.certificate.c
_renewed = tables.certificate.alias("renewed")

GOOD, REVOKED, ON_HOLD = 0, 1, 2
"""Values of the column ``revocation``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCertificate:
    """A row of ``core_certificate``, complete: the store computes nothing but the search terms.

    Make it before the write unit begins. ``serial`` is lower-case hex without leading zeros, names
    are in canonical form, ``subject`` and ``issuer`` RFC 4514 text, hashes lower-case hex;
    ``texts`` are further words to find it by (values of the subject).
    """

    refid: str
    description: str
    ca_id: int | None
    serial: str
    subject: str
    common_name: str | None
    issuer: str
    not_before: datetime
    not_after: datetime
    key_type: str
    signature_algorithm: str
    san_dns: tuple[str, ...] = ()
    san_ip: tuple[str, ...] = ()
    san_email: tuple[str, ...] = ()
    san_uri: tuple[str, ...] = ()
    san_upn: tuple[str, ...] = ()
    subject_key_id: str | None = None
    authority_key_id: str | None = None
    thumbprint_sha256: str
    thumbprint_sha1: str
    spki_sha256: str
    cert_type: str
    source: str
    client: str = ""
    ocsp_uri: str | None = None
    must_staple: bool = False
    template_id: int | None = None
    key_id: int | None = None
    renews: int | None = None
    is_ca: bool = False
    state: str = "issued"
    idempotency_key: str | None = None
    revoked_at: datetime | None = None
    revocation_reason: RevocationReason | None = None
    invalidity_date: datetime | None = None
    der: bytes = field(repr=False)
    texts: tuple[str, ...] = ()
    terms: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = (*self.san_dns, *self.san_ip, *self.san_email, *self.san_uri, *self.san_upn)
        texts = (self.common_name or "", self.description, *self.texts)
        object.__setattr__(self, "terms", certificate_terms(names=names, texts=texts))

    def row(self) -> dict[str, Any]:
        """The column values."""
        values = {name: getattr(self, name) for name in _PLAIN}
        reason = self.revocation_reason
        values["revocation_reason"] = None if reason is None else reason.value
        values["revocation"] = _revocation(self.revoked_at, reason)
        return values


_COMPUTED = {"revocation_reason", "texts", "terms"}
_PLAIN = tuple(name for name in NewCertificate.__slots__ if name not in _COMPUTED)
_VIEWED = frozenset(CertificateView.__slots__) - {"id", "key", "renewed_by"}


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """An entry of a CRL; deleted certificates have one, too."""

    serial: str
    revoked_at: datetime
    reason: RevocationReason
    invalidity_date: datetime | None
    not_after: datetime


@dataclass(frozen=True, slots=True)
class CertificateCounts:
    """Numbers of certificates that are no CA's; ``expiring`` ones are ``valid``, too."""

    total: int
    valid: int
    expiring: int
    expired: int
    revoked: int
    on_hold: int


class CertificateRepository(Repository):
    """Certificates. Every look-up has its index; lists carry no DER."""

    # --- writes -----------------------------------------------------------------------------------

    def add(self, new: NewCertificate) -> int:
        """Store a certificate; return its id.

        Raises ``Conflict`` when the issuer already used the serial (deleted certificates
        included), when the same certificate is stored, or when its idempotency key was used.
        """
        return self._add(new)[0]

    def added(self, new: NewCertificate, *, key: KeyRef | None) -> CertificateView:
        """As ``add``, answering what ``get`` would; ``key`` is the reference of ``new.key_id``."""
        certificate_id, values = self._add(new)
        shown = {name: values[name] for name in _VIEWED}
        shown["revocation_reason"] = new.revocation_reason
        return CertificateView(id=certificate_id, key=key, renewed_by=None, **shown)

    def _add(self, new: NewCertificate) -> tuple[int, dict[str, Any]]:
        if new.ca_id is not None and (new.state == "imported" or len(new.serial) <= 16):
            # A fresh serial has more than 64 random bits: no deleted certificate can have had it.
            new = self._reclaimed(new)
        values = new.row()
        values["created_at"] = self._scope.clock.now()
        values["created_by"] = self._scope.actor.name
        try:
            added = _INSERT.first(self._scope, values)
        except IntegrityError as error:
            raise conflict_of(error, _UNIQUE) from error
        assert added is not None  # noqa: S101 INSERT ... RETURNING
        certificate_id = int(added[0])
        self._add_terms(certificate_id, () if new.is_ca else new.terms)
        return certificate_id, values

    def revoke(
        self,
        certificate_id: int,
        *,
        reason: RevocationReason,
        at: datetime,
        invalidity_date: datetime | None = None,
    ) -> None:
        """Revoke or hold. A hold may become a revocation, which then keeps the hold's time out.

        Raises ``Conflict`` when it is revoked (or a hold is to be held), ``NotFound``.
        """
        on_hold = reason is RevocationReason.CERTIFICATE_HOLD
        allowed = (GOOD,) if on_hold else (GOOD, ON_HOLD)
        result = self._execute(
            update(tables.certificate)
            .where(_t.id == certificate_id, _t.revocation.in_(allowed))
            .values(
                revocation=ON_HOLD if on_hold else REVOKED,
                revoked_at=at,
                revocation_reason=reason.value,
                invalidity_date=invalidity_date,
            )
        )
        if result.rowcount == 0:
            self._explain(certificate_id, "The certificate is already revoked or on hold.")

    def unhold(self, certificate_id: int) -> None:
        """Lift a hold. Raises ``Conflict`` when there is none, ``NotFound``."""
        result = self._execute(
            update(tables.certificate)
            .where(_t.id == certificate_id, _t.revocation == ON_HOLD)
            .values(revocation=GOOD, revoked_at=None, revocation_reason=None, invalidity_date=None)
        )
        if result.rowcount == 0:
            self._explain(certificate_id, "The certificate is not on hold.")

    def rename(self, certificate_id: int, *, description: str) -> None:
        """Change the description and what it is found by. Raises ``NotFound``."""
        view = self.get(certificate_id)
        self._update(certificate_id, description=description)
        renamed = certificate_terms(
            names=(*view.san_dns, *view.san_ip, *view.san_email, *view.san_uri, *view.san_upn),
            texts=(view.common_name or "", description, view.subject),
        )
        terms = tables.certificate_term
        self._execute(delete(terms).where(terms.c.certificate_id == certificate_id))
        self._add_terms(certificate_id, renamed)

    def set_key(self, certificate_id: int, *, key: KeyRef | None) -> None:
        """Attach or detach the stored key. Raises ``NotFound``."""
        self._update(certificate_id, key_id=None if key is None else key.id)

    def set_state(self, certificate_id: int, *, state: str) -> None:
        """``issued``, ``issued_unclaimed`` or ``imported``. Raises ``NotFound``."""
        self._update(certificate_id, state=state)

    def set_issuer(self, certificate_id: int, *, ca_id: int) -> None:
        """Link a foreign certificate to the authority that turned out to be its issuer."""
        self._update(certificate_id, ca_id=ca_id)

    def delete(self, certificate_id: int) -> None:
        """Delete the row; its serial stays reserved and a revocation stays on the CRL.

        Raises ``NotFound``, and ``Conflict`` when an authority or a plugin still uses it.
        """
        row = self._execute(select(tables.certificate).where(_t.id == certificate_id)).one_or_none()
        if row is None:
            raise _missing(certificate_id)
        if row.ca_id is not None:
            names = ("ca_id", "serial", "thumbprint_sha256", "spki_sha256", "not_after")
            kept = {name: getattr(row, name) for name in (*names, *_REVOCATION)}
            kept |= {
                "deleted_at": self._scope.clock.now(),
                "deleted_by": self._scope.actor.name,
            }
            self._execute(insert(tables.deleted_certificate), kept)
        terms = tables.certificate_term
        self._execute(delete(terms).where(terms.c.certificate_id == certificate_id))
        self._execute(
            update(tables.certificate).where(_t.renews == certificate_id).values(renews=None)
        )
        self._guarded(
            delete(tables.certificate).where(_t.id == certificate_id),
            None,
            unique={"": "The certificate is still in use; remove what uses it first."},
        )

    # --- look-ups ---------------------------------------------------------------------------------

    def get(self, certificate_id: int, *, der: bool = True) -> CertificateView:
        """One certificate. Raises ``NotFound``."""
        row = self._execute(_SELECT_ONE if der else _SELECT_HEAD, {"id": certificate_id}).first()
        if row is None:
            raise _missing(certificate_id)
        return _view(row)

    def get_many(self, ids: Iterable[int], *, der: bool = False) -> list[CertificateView]:
        """The certificates that exist, in the order of ``ids``."""
        wanted = list(ids)
        if not wanted:
            return []
        rows = self._execute((_WITH_DER if der else _HEAD).where(_t.id.in_(wanted)))
        views = {row.id: _view(row) for row in rows}
        return [views[key] for key in wanted if key in views]

    def find(self, ca_id: int, serial: int | str) -> CertificateView | None:
        """By issuer and serial (a number or canonical hex), the only identity it has."""
        text = f"{serial:x}" if isinstance(serial, int) else serial
        return self._first(_WITH_DER.where(_t.ca_id == ca_id, _t.serial == text))

    def by_refid(self, refid: str) -> CertificateView:
        """Raises ``NotFound``."""
        view = self._first(_WITH_DER.where(_t.refid == refid))
        if view is None:
            raise NotFound(f"No certificate has the reference {refid}.")
        return view

    def by_thumbprint(self, sha256: str) -> CertificateView | None:
        """By the SHA-256 of the DER, lower-case hex."""
        return self._first(_WITH_DER.where(_t.thumbprint_sha256 == sha256))

    def by_idempotency_key(self, source: str, key: str) -> CertificateView | None:
        """What an earlier request of this origin with this key was given."""
        return self._first(_WITH_DER.where(_t.source == source, _t.idempotency_key == key))

    def ca_certificates_by_key_id(self, subject_key_id: str) -> list[CertificateView]:
        """CA certificates with this subject key identifier, newest first."""
        statement = _WITH_DER.where(_t.is_ca, _t.subject_key_id == subject_key_id)
        return [_view(row) for row in self._execute(statement.order_by(_t.id.desc()))]

    def orphans_of(self, authority_key_id: str) -> list[CertificateView]:
        """Certificates without a known issuer that name this authority key identifier."""
        statement = _WITH_DER.where(_t.ca_id.is_(None), _t.authority_key_id == authority_key_id)
        return [_view(row) for row in self._execute(statement.order_by(_t.id))]

    def compromised(self, spki_sha256: str) -> bool:
        """Whether a certificate with this public key was revoked for ``keyCompromise``."""
        return _COMPROMISED.first(self._scope, {"spki": spki_sha256}) is not None

    def key_uses(self, key_id: int) -> int:
        """How many certificates name this stored key."""
        return self._count(_t.key_id == key_id)

    def count_of_ca(self, ca_id: int) -> int:
        """How many certificates this authority issued, its own renewals and sub-CAs included."""
        return self._count(_t.ca_id == ca_id)

    def counts_by_ca(self) -> dict[int, int]:
        """Number of issued certificates per authority."""
        statement = select(_t.ca_id, func.count()).where(_t.ca_id.is_not(None))
        return dict(self._pairs(statement.group_by(_t.ca_id)))

    def counts_by_template(self) -> dict[int, int]:
        """Number of certificates per template."""
        statement = select(_t.template_id, func.count()).where(_t.template_id.is_not(None))
        return dict(self._pairs(statement.group_by(_t.template_id)))

    def count_of_template(self, template_id: int) -> int:
        """How many certificates were made by this template."""
        return self._count(_t.template_id == template_id)

    def sources(self) -> list[str]:
        """The origins that occur."""
        statement = select(_t.source).where(_t.is_ca.is_(False)).distinct()
        return sorted(self._execute(statement).scalars())

    def counts(
        self, now: datetime, *, expiring: timedelta = timedelta(days=30)
    ) -> CertificateCounts:
        """Numbers per status, CA certificates left out."""

        def number(*conditions: ColumnElement[bool], is_ca: bool = False) -> Any:
            counted = select(func.count()).select_from(tables.certificate)
            return counted.where(_t.is_ca.is_(is_ca), *conditions).scalar_subquery()

        good = _t.revocation == GOOD
        counts: Any = self._execute(
            select(
                select(func.count()).select_from(tables.certificate).scalar_subquery(),
                number(is_ca=True),
                number(_t.revocation == REVOKED),
                number(_t.revocation == ON_HOLD),
                number(good, _t.not_after < now),
                number(good, _t.not_after >= now, _t.not_after < now + expiring),
            )
        ).one()
        all_rows, authorities, revoked, on_hold, expired, ending = counts
        total = all_rows - authorities
        return CertificateCounts(
            total=total,
            valid=total - revoked - on_hold - expired,
            expiring=ending,
            expired=expired,
            revoked=revoked,
            on_hold=on_hold,
        )

    def days(self, *, now: datetime, count: int) -> Sequence[certificate_trend.Day]:
        """The last ``count`` UTC days up to today, oldest first."""
        return certificate_trend.days(self._connection, now=now, count=count)

    # --- lists ------------------------------------------------------------------------------------

    def page(
        self, query: CertificateQuery, *, now: datetime | None = None
    ) -> Page[CertificateView]:
        """One page of a list; ``now`` decides between valid, expiring and expired.

        Raises ``Invalid`` for a cursor that does not belong to the query's order.
        """
        ids = page_of_ids(self._connection, query, now=now or self._scope.clock.now())
        return Page(
            items=tuple(self.get_many(ids.items)),
            total=ids.total,
            page=ids.page,
            per_page=ids.per_page,
            total_is_exact=ids.total_is_exact,
            next_cursor=ids.next_cursor,
        )

    def stream(
        self, *, is_ca: bool = False, batch: int = 500, after: int = 0
    ) -> Iterator[CertificateView]:
        """Every certificate with its DER by rising id, a batch at a time."""
        while True:
            rows = self._execute(
                _WITH_DER.where(_t.is_ca.is_(is_ca), _t.id > after).order_by(_t.id).limit(batch)
            ).all()
            for row in rows:
                yield _view(row)
            if len(rows) < batch:
                return
            after = rows[-1].id

    def revoked_of_ca(self, ca_id: int, *, valid_at: datetime) -> list[RevokedCertificate]:
        """What belongs on the authority's CRL at that time: revoked, held, and not yet expired."""
        found = []
        for table in (tables.certificate, tables.deleted_certificate):
            c = table.c
            rows = self._execute(
                select(
                    c.serial, c.revoked_at, c.revocation_reason, c.invalidity_date, c.not_after
                ).where(c.ca_id == ca_id, c.revoked_at.is_not(None), c.not_after >= valid_at)
            )
            found += [
                RevokedCertificate(
                    row.serial,
                    row.revoked_at,
                    RevocationReason(row.revocation_reason),
                    row.invalidity_date,
                    row.not_after,
                )
                for row in rows
            ]
        return sorted(found, key=lambda entry: entry.revoked_at)

    def expiring(self, *, before: datetime, after: datetime, limit: int) -> list[CertificateView]:
        """Good certificates that expire in this time, soonest first."""
        statement = _HEAD.where(
            _t.is_ca.is_(False),
            _t.revocation == GOOD,
            _t.not_after >= after,
            _t.not_after < before,
        )
        rows = self._execute(statement.order_by(_t.not_after).limit(limit))
        return [_view(row) for row in rows]

    # --- inside -----------------------------------------------------------------------------------

    def _first(self, statement: Select[Any]) -> CertificateView | None:
        row = self._execute(statement.limit(1)).first()
        return None if row is None else _view(row)

    def _count(self, condition: ColumnElement[bool]) -> int:
        return self._number(select(func.count()).select_from(tables.certificate).where(condition))

    def _update(self, certificate_id: int, **values: Any) -> None:
        statement = update(tables.certificate).where(_t.id == certificate_id).values(**values)
        if self._execute(statement).rowcount == 0:
            raise _missing(certificate_id)

    def _add_terms(self, certificate_id: int, terms: Sequence[str]) -> None:
        if terms:
            _INSERT_TERMS.execute_many(
                self._scope,
                [{"term": term, "certificate_id": certificate_id} for term in terms],
            )

    def _reclaimed(self, new: NewCertificate) -> NewCertificate:
        """The row as it was if the very same certificate was deleted before: revoked stays revoked.

        Raises ``Conflict`` when the serial is that of another deleted certificate.
        """
        reserved = self._execute(_RESERVED, {"ca": new.ca_id, "serial": new.serial}).first()
        if reserved is None:
            return new
        if reserved.thumbprint_sha256 != new.thumbprint_sha256:
            raise Conflict(_UNIQUE["serial"])
        gone = tables.deleted_certificate
        self._execute(delete(gone).where(gone.c.ca_id == new.ca_id, gone.c.serial == new.serial))
        reason = reserved.revocation_reason
        return replace(
            new,
            revoked_at=reserved.revoked_at,
            revocation_reason=None if reason is None else RevocationReason(reason),
            invalidity_date=reserved.invalidity_date,
        )

    def _explain(self, certificate_id: int, conflict: str) -> None:
        self.get(certificate_id, der=False)
        raise Conflict(conflict)


_REVOCATION = ("revoked_at", "revocation_reason", "invalidity_date")
_UNIQUE = {
    "idempotency": "A request with this idempotency key was already answered.",
    "thumbprint": "This certificate is already stored.",
    "refid": "The reference is already used.",
    "serial": "The authority already issued a certificate with this serial number.",
}

_renewed_by = select(func.max(_renewed.c.id)).where(_renewed.c.renews == _t.id).scalar_subquery()
_SHOWN = tuple(
    column
    for column in tables.certificate.columns
    if column.name not in {"der", "revocation", "key_id"}
)
_HEAD: Select[Any] = select(
    *_SHOWN,
    _t.key_id,
    tables.key.c.purpose.label("key_purpose"),
    _renewed_by.label("renewed_by"),
).select_from(tables.certificate.outerjoin(tables.key, _t.key_id == tables.key.c.id))
_WITH_DER = _HEAD.add_columns(_t.der)
_SELECT_HEAD = _HEAD.where(_t.id == bindparam("id"))
_SELECT_ONE = _WITH_DER.where(_t.id == bindparam("id"))
_INSERT = prepared_insert(tables.certificate, returning_id=True)
_INSERT_TERMS = prepared_insert(tables.certificate_term)
_gone = tables.deleted_certificate.c
_RESERVED: Executable = select(
    _gone.thumbprint_sha256,
    _gone.revoked_at,
    _gone.revocation_reason,
    _gone.invalidity_date,
).where(_gone.ca_id == bindparam("ca"), _gone.serial == bindparam("serial"))
_KEY_COMPROMISE: ColumnElement[str] = literal_column(
    "'keyCompromise'"
)  # literal: the partial index must be provable
_COMPROMISED = Prepared(
    union_all(
        *(
            select(literal_column("1")).where(
                c.spki_sha256 == bindparam("spki"), c.revocation_reason == _KEY_COMPROMISE
            )
            for c in (_t, _gone)
        )
    )
)


def _view(row: Row[Any]) -> CertificateView:
    values = dict(row._mapping)
    key_id, purpose = values.pop("key_id"), values.pop("key_purpose")
    reason = values["revocation_reason"]
    if reason is not None:
        values["revocation_reason"] = RevocationReason(reason)
    key = None if key_id is None else KeyRef(key_id, KeyPurpose(purpose))
    return CertificateView(key=key, **values)


def _revocation(revoked_at: datetime | None, reason: RevocationReason | None) -> int:
    if revoked_at is None:
        return GOOD
    return ON_HOLD if reason is RevocationReason.CERTIFICATE_HOLD else REVOKED


def _missing(certificate_id: int) -> NotFound:
    return NotFound(f"There is no certificate with the id {certificate_id}.")
