"""Lists of certificates: filters, search, order, pages and cursors, all answered from indexes.

A page is found in two steps: its ids by one covering index, then its rows. Counting uses the same
index. A search term that matches few certificates is resolved first; one that matches many is
tested while the order's index is walked, because the page then fills at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from ucm.api.errors import Invalid
from ucm.api.views import CertificateStatus
from ucm.store import tables
from ucm.store.paging import Page, decode_cursor, encode_cursor
from ucm.store.search_terms import query_terms

__all__ = ["SORT_KEYS", "CertificateQuery", "Page", "page_of_ids"]

_t = tables.certificate.c
_terms = tables.certificate_term.c
_END = "\U0010ffff"
EXPIRING = timedelta(days=30)
COUNT_LIMIT = 10_000
"""A search counts no further than this: a search page behind it helps nobody."""

FEW = 2_000
"""Matches of a search that are still resolved first and sorted."""


@dataclass(frozen=True, slots=True)
class _Order:
    index: str
    columns: tuple[ColumnElement[Any], ...]
    kinds: tuple[type, ...]


_ORDERS = {
    "created_at": _Order("created", (_t.id,), (int,)),
    "valid_to": _Order("not_after", (_t.not_after, _t.id), (datetime, int)),
    "valid_from": _Order("not_before", (_t.not_before, _t.id), (datetime, int)),
    "subject": _Order("subject", (_t.subject, _t.id), (str, int)),
    "issuer": _Order("issuer", (_t.issuer, _t.id), (str, int)),
    "descr": _Order("description", (_t.description, _t.id), (str, int)),
    "key_algo": _Order("key_type", (_t.key_type, _t.id), (str, int)),
    "serial_number": _Order("serial", (_t.serial, _t.id), (str, int)),
    "status": _Order("status", (_t.revocation, _t.not_after, _t.id), (int, datetime, int)),
    "revoked": _Order("status", (_t.revocation, _t.not_after, _t.id), (int, datetime, int)),
}

SORT_KEYS = tuple(_ORDERS)
"""Values of ``CertificateQuery.sort_by``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateQuery:
    """What a list shows. Values within one filter are alternatives, the filters all apply.

    ``search``: every word must begin one of the certificate's terms (see ``search_terms``).
    ``after`` is the cursor of an earlier page and then replaces ``page``.
    """

    status: tuple[CertificateStatus, ...] = ()
    ca_ids: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    template_id: int | None = None
    search: str = ""
    is_ca: bool = False
    sort_by: str = "created_at"
    descending: bool = True
    page: int = 1
    per_page: int = 20
    after: str | None = None

    def __post_init__(self) -> None:
        if self.sort_by not in _ORDERS:
            raise Invalid.field(
                "/sort_by",
                "choice",
                f"sort_by must be one of {', '.join(SORT_KEYS)}.",
            )
        if self.page < 1 or not 1 <= self.per_page <= 1000:
            raise Invalid.field("/page", "range", "page counts from 1, per_page goes to 1000.")


def page_of_ids(connection: Connection, query: CertificateQuery, *, now: datetime) -> Page[int]:
    """The ids on one page of the list, and how many there are in all."""
    order = _ORDERS[query.sort_by]
    conditions = _filters(query, now)
    search = _Search.plan(connection, query.search)
    conditions += search.conditions
    free = search.resolved or query.template_id is not None  # then an index of its own is better
    total, exact = _total(
        connection,
        conditions,
        index=None if free else ("status" if query.status else "created"),
        limit=COUNT_LIMIT if search.walked else None,
    )
    statement = select(_t.id, *order.columns[:-1]).where(*conditions)
    if not free:
        statement = _hinted(statement, order.index)
    rows, more = _rows(connection, statement, query, total=total if exact else None)
    return Page(
        items=tuple(row.id for row in rows),
        total=total,
        page=query.page,
        per_page=query.per_page,
        total_is_exact=exact,
        next_cursor=_cursor_behind(rows[-1], query) if more and rows else None,
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """How the search's terms are applied: ``resolved`` first, or tested on the ``walked`` index."""

    conditions: tuple[ColumnElement[bool], ...] = ()
    resolved: bool = False
    walked: bool = False

    @classmethod
    def plan(cls, connection: Connection, text: str) -> _Search:
        terms = query_terms(text)
        if not terms:
            return cls((false(),) if text.strip() else ())
        few = [term for term in terms if _matches_few(connection, term)]
        conditions = [_t.id.in_(_with_term(term)) for term in few]
        tested = [_has_term(term) for term in terms if term not in few]
        return cls((*conditions, *tested), resolved=bool(few), walked=not few)


def _filters(query: CertificateQuery, now: datetime) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [_t.is_ca.is_(query.is_ca)]
    if query.status:
        conditions.append(or_(*(_status(status, now) for status in query.status)))
    if query.ca_ids:
        conditions.append(_t.ca_id.in_(query.ca_ids))
    if query.sources:
        conditions.append(_t.source.in_(query.sources))
    if query.template_id is not None:
        conditions.append(_t.template_id == query.template_id)
    return conditions


def _status(status: CertificateStatus, now: datetime) -> ColumnElement[bool]:
    """The same rule as ``CertificateView.status``."""
    good = _t.revocation == 0
    match status:
        case CertificateStatus.REVOKED:
            return _t.revocation == 1
        case CertificateStatus.ON_HOLD:
            return _t.revocation == 2
        case CertificateStatus.EXPIRED:
            return and_(good, _t.not_after < now)
        case CertificateStatus.EXPIRING:
            return and_(good, _t.not_after >= now, _t.not_after < now + EXPIRING)
        case CertificateStatus.VALID:
            return and_(good, _t.not_after >= now + EXPIRING)


def _range(term: str) -> ColumnElement[bool]:
    return and_(_terms.term >= term, _terms.term < term + _END)


def _matches_few(connection: Connection, term: str) -> bool:
    some = select(_terms.certificate_id).where(_range(term)).limit(FEW + 1).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one() <= FEW


def _with_term(term: str) -> Select[Any]:
    return select(_terms.certificate_id).where(_range(term))


def _has_term(term: str) -> ColumnElement[bool]:
    return exists().where(_terms.certificate_id == _t.id, _range(term))


def _hinted(statement: Select[Any], index: str) -> Select[Any]:
    # SQLite's planner does not see that an index alone answers the query in the wanted order.
    hint = f"INDEXED BY ix_core_certificate_by_{index}"
    return statement.with_hint(tables.certificate, hint, "sqlite")


def _total(
    connection: Connection,
    conditions: list[ColumnElement[bool]],
    *,
    index: str | None,
    limit: int | None,
) -> tuple[int, bool]:
    """How many match, and whether all were counted."""
    if limit is None:
        statement = select(func.count()).select_from(tables.certificate).where(*conditions)
        if index is not None:
            statement = _hinted(statement, index)
        return connection.execute(statement).scalar_one(), True
    some = select(_t.id).where(*conditions).limit(limit + 1)
    if index is not None:
        some = _hinted(some, index)
    counted = select(func.count()).select_from(some.subquery())
    total = connection.execute(counted).scalar_one()
    return min(total, limit), total <= limit


def _rows(
    connection: Connection, statement: Select[Any], query: CertificateQuery, *, total: int | None
) -> tuple[list[Any], bool]:
    """The page's rows in order, and whether more follow."""
    offset = (query.page - 1) * query.per_page
    size = query.per_page + 1
    backwards = False
    if query.after is not None:
        statement = statement.where(_behind(query.after, query))
        offset = 0
    elif total is not None and offset > total // 2:  # from the other end the way is shorter
        size = max(0, min(query.per_page, total - offset))
        backwards, offset = True, max(0, total - offset - size)
    descending = query.descending is not backwards
    columns = _ORDERS[query.sort_by].columns
    statement = statement.order_by(*(c.desc() if descending else c.asc() for c in columns))
    rows = list(connection.execute(statement.limit(size).offset(offset)))
    if backwards:
        return rows[::-1], offset > 0
    return rows[: query.per_page], len(rows) > query.per_page


def _behind(cursor: str, query: CertificateQuery) -> ColumnElement[bool]:
    order = _ORDERS[query.sort_by]
    values = decode_cursor(cursor, order=_cursor_order(query), kinds=order.kinds)
    bound = tuple_(*(literal(v, c.type) for v, c in zip(values, order.columns, strict=True)))
    columns = tuple_(*order.columns)
    return columns < bound if query.descending else columns > bound


def _cursor_order(query: CertificateQuery) -> str:
    return f"{query.sort_by}{'-' if query.descending else '+'}"


def _cursor_behind(row: Any, query: CertificateQuery) -> str:
    names = (column.name for column in _ORDERS[query.sort_by].columns)
    return encode_cursor(_cursor_order(query), tuple(getattr(row, name) for name in names))
