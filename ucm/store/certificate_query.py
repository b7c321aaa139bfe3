"""Lists of certificates: filters, order, pages and cursors, all answered from indexes.

A page is found in two steps: its ids by one covering index, then its rows. Counting uses an index,
too. ``certificate_search`` says how a search joins in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from ucm.api.errors import Invalid
from ucm.api.views import CertificateStatus
from ucm.store import certificate_search, tables
from ucm.store.certificate_search import Search
from ucm.store.paging import Page, decode_cursor, encode_cursor

__all__ = ["SORT_KEYS", "CertificateQuery", "Page", "page_of_ids"]

_t = tables.certificate.c
EXPIRING = timedelta(days=30)


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
    if query.search.strip():
        return _searched(connection, query, now=now)
    conditions = [_t.is_ca.is_(query.is_ca), *_filters(query, now)]
    total = _total(connection, query, now=now)
    statement = select(_t.id, *_other_columns(query)).where(*conditions)
    index = _ORDERS[query.sort_by].index
    if len(query.ca_ids) == 1 and index == "created":
        index = "ca"
    if query.template_id is None:
        statement = _hinted(statement, index)
    return _page(connection, statement, query, total=total)


def _searched(connection: Connection, query: CertificateQuery, *, now: datetime) -> Page[int]:
    conditions = [_t.is_ca.is_(query.is_ca), *_filters(query, now)]
    if query.is_ca:  # few: their texts are searched as they are
        conditions += [_mentions(word) for word in query.search.split()]
        statement = select(_t.id, *_other_columns(query)).where(*conditions)
        return _page(connection, statement, query, total=_count(connection, statement))
    search = Search.plan(connection, query.search)
    if not search.words:
        return Page((), 0, query.page, query.per_page)
    plain = len(conditions) == 1
    if plain and query.sort_by == "created_at" and search.rarest is not None:
        ids = search.ids().subquery()
        statement = select(ids.c.id)
        return _page(
            connection, statement, query, total=_count(connection, statement), columns=(ids.c.id,)
        )
    statement = select(_t.id, *_other_columns(query)).where(*conditions, *search.conditions())
    if search.rarest is not None:
        return _page(connection, statement, query, total=_count(connection, statement))
    limit = certificate_search.COUNT_LIMIT
    counted = search.count(connection) if plain else None
    if query.template_id is None:
        statement = _hinted(statement, _ORDERS[query.sort_by].index)
    if counted is None:
        counted = _count(connection, statement, limit=limit + 1)
    return _page(
        connection,
        statement,
        query,
        total=min(counted, limit),
        exact=counted <= limit,
    )


def _mentions(word: str) -> ColumnElement[bool]:
    texts = (_t.subject, _t.issuer, _t.description, _t.serial)
    return or_(*(column.icontains(word, autoescape=True) for column in texts))


def _other_columns(query: CertificateQuery) -> tuple[ColumnElement[Any], ...]:
    return _ORDERS[query.sort_by].columns[:-1]


def _filters(query: CertificateQuery, now: datetime) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.status:
        conditions.append(or_(false(), *_statuses(query, now)))
    if query.ca_ids:
        conditions.append(_t.ca_id.in_(query.ca_ids))
    if query.sources:
        conditions.append(_t.source.in_(query.sources))
    if query.template_id is not None:
        conditions.append(_t.template_id == query.template_id)
    return conditions


def _statuses(query: CertificateQuery, now: datetime) -> list[ColumnElement[bool]]:
    """The rule of ``CertificateView.status`` as alternatives, each one range of an index."""
    wanted = frozenset(query.status)
    alternatives: list[ColumnElement[bool]] = []
    bad = [
        number
        for status, number in ((CertificateStatus.REVOKED, 1), (CertificateStatus.ON_HOLD, 2))
        if status in wanted
    ]
    if bad:
        alternatives.append(_t.revocation.in_(bad))
    bounds = (None, now, now + EXPIRING, None)
    ages = (CertificateStatus.EXPIRED, CertificateStatus.EXPIRING, CertificateStatus.VALID)
    first = 0
    while first < len(ages):
        last = first
        while last < len(ages) and ages[last] in wanted:
            last += 1
        if last > first:
            alternatives.append(_good_between(bounds[first], bounds[last]))
        first = last + 1
    return alternatives


def _good_between(lower: datetime | None, upper: datetime | None) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [_t.revocation == 0]
    if lower is not None:
        conditions.append(_t.not_after >= lower)
    if upper is not None:
        conditions.append(_t.not_after < upper)
    return and_(*conditions)


def _hinted(statement: Select[Any], index: str) -> Select[Any]:
    # SQLite's planner does not see that an index alone answers the query in the wanted order.
    hint = f"INDEXED BY ix_core_certificate_by_{index}"
    return statement.with_hint(tables.certificate, hint, "sqlite")


def _total(connection: Connection, query: CertificateQuery, *, now: datetime) -> int:
    """How many match the filters."""
    if query.status and query.template_id is None:
        # The alternatives exclude each other: their ranges are counted one by one.
        others = _filters(replace(query, status=()), now)
        return sum(
            _number(
                connection,
                _hinted(
                    select(func.count())
                    .select_from(tables.certificate)
                    .where(_t.is_ca.is_(query.is_ca), alternative, *others),
                    "status",
                ),
            )
            for alternative in _statuses(query, now)
        )
    conditions = [_t.is_ca.is_(query.is_ca), *_filters(query, now)]
    everything = select(func.count()).select_from(tables.certificate)
    if len(conditions) == 1 and not query.is_ca:
        # Counting without a condition is quickest, and CA certificates are few.
        cas = _hinted(everything.where(_t.is_ca.is_(True)), "created")
        return _number(connection, everything) - _number(connection, cas)
    statement = everything.where(*conditions)
    if query.template_id is None:
        statement = _hinted(statement, "ca" if len(query.ca_ids) == 1 else "created")
    return _number(connection, statement)


def _count(connection: Connection, statement: Select[Any], *, limit: int | None = None) -> int:
    """How many rows a statement gives, up to a limit."""
    return _number(connection, select(func.count()).select_from(statement.limit(limit).subquery()))


def _number(connection: Connection, statement: Select[Any]) -> int:
    return int(connection.execute(statement).scalar_one())


def _page(
    connection: Connection,
    statement: Select[Any],
    query: CertificateQuery,
    *,
    total: int,
    exact: bool = True,
    columns: tuple[ColumnElement[Any], ...] | None = None,
) -> Page[int]:
    """One page of a statement whose rows are the order's columns, the id among them."""
    columns = columns or _ORDERS[query.sort_by].columns
    offset = (query.page - 1) * query.per_page
    size = query.per_page + 1
    backwards = False
    if query.after is not None:
        statement = statement.where(_behind(query.after, query, columns))
        offset = 0
    elif exact and offset > total // 2:  # from the other end the way is shorter
        size = max(0, min(query.per_page, total - offset))
        backwards, offset = True, max(0, total - offset - size)
    rows: list[Any] = []
    if size and (total or not exact):
        descending = query.descending is not backwards
        ordered = statement.order_by(*(c.desc() if descending else c.asc() for c in columns))
        rows = list(connection.execute(ordered.limit(size).offset(offset)))
    more = offset > 0 if backwards else len(rows) > query.per_page
    rows = rows[::-1] if backwards else rows[: query.per_page]
    return Page(
        items=tuple(row.id for row in rows),
        total=total,
        page=query.page,
        per_page=query.per_page,
        total_is_exact=exact,
        next_cursor=_cursor_behind(rows[-1], query) if more and rows else None,
    )


def _behind(
    cursor: str, query: CertificateQuery, columns: tuple[ColumnElement[Any], ...]
) -> ColumnElement[bool]:
    kinds = _ORDERS[query.sort_by].kinds
    values = decode_cursor(cursor, order=_cursor_order(query), kinds=kinds)
    if len(columns) == 1:
        return columns[0] < values[0] if query.descending else columns[0] > values[0]
    bound = tuple_(*(literal(v, c.type) for v, c in zip(values, columns, strict=True)))
    return tuple_(*columns) < bound if query.descending else tuple_(*columns) > bound


def _cursor_order(query: CertificateQuery) -> str:
    return f"{query.sort_by}{'-' if query.descending else '+'}"


def _cursor_behind(row: Any, query: CertificateQuery) -> str:
    names = (column.name for column in _ORDERS[query.sort_by].columns)
    return encode_cursor(_cursor_order(query), tuple(getattr(row, name) for name in names))
