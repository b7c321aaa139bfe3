"""Stored certificate signing requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, insert, or_, select, update

from ucm.api.errors import Conflict, NotFound
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.views import CsrView
from ucm.store import tables
from ucm.store.paging import Page
from ucm.store.scope import Repository

_t = tables.csr.c
_SHOWN = tuple(column for column in tables.csr.columns if column.name != "spki_sha256")
_SELECT: Select[Any] = select(*_SHOWN, tables.key.c.purpose.label("key_purpose")).select_from(
    tables.csr.outerjoin(tables.key, _t.key_id == tables.key.c.id)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCsr:
    """A row of ``core_csr``; names in canonical form."""

    refid: str
    description: str
    subject: str
    common_name: str | None
    der: bytes = field(repr=False)
    key_type: str
    spki_sha256: str
    san_dns: tuple[str, ...] = ()
    san_ip: tuple[str, ...] = ()
    san_email: tuple[str, ...] = ()
    san_uri: tuple[str, ...] = ()
    san_upn: tuple[str, ...] = ()
    key_id: int | None = None
    source: str


class CsrRepository(Repository):
    """Requests, waiting or signed."""

    def add(self, new: NewCsr) -> int:
        """Store a request; return its id. Raises ``Conflict``."""
        values = {name: getattr(new, name) for name in NewCsr.__slots__}
        values["created_at"] = self._scope.clock.now()
        values["created_by"] = self._scope.actor.name
        return self._insert(
            insert(tables.csr), values, unique={"refid": "The reference is already used."}
        )

    def get(self, csr_id: int) -> CsrView:
        """Raises ``NotFound``."""
        row = self._execute(_SELECT.where(_t.id == csr_id)).first()
        if row is None:
            raise NotFound(f"There is no certificate signing request with the id {csr_id}.")
        return _view(row)

    def get_many(self, ids: Iterable[int]) -> list[CsrView]:
        """The requests that exist, by id."""
        statement = _SELECT.where(_t.id.in_(list(ids))).order_by(_t.id)
        return [_view(row) for row in self._execute(statement)]

    def spki_sha256(self, csr_id: int) -> str:
        """Hash of the request's public key, lower-case hex. Raises ``NotFound``."""
        found = self._execute(select(_t.spki_sha256).where(_t.id == csr_id)).scalar_one_or_none()
        if found is None:
            raise NotFound(f"There is no certificate signing request with the id {csr_id}.")
        return str(found)

    def page(
        self, *, signed: bool | None = None, search: str = "", page: int = 1, per_page: int = 20
    ) -> Page[CsrView]:
        """Newest first; ``signed`` picks history or queue, ``search`` is for subject and text."""
        conditions: list[ColumnElement[bool]] = []
        if signed is not None:
            unsigned = _t.certificate_id.is_(None)
            conditions.append(~unsigned if signed else unsigned)
        for word in search.split():
            conditions.append(
                or_(
                    _t.subject.icontains(word, autoescape=True),
                    _t.description.icontains(word, autoescape=True),
                )
            )
        total = self._number(select(func.count()).select_from(tables.csr).where(*conditions))
        rows = self._execute(
            _SELECT.where(*conditions)
            .order_by(_t.id.desc())
            .limit(per_page)
            .offset((page - 1) * per_page)
        )
        return Page(tuple(_view(row) for row in rows), total, page, per_page)

    def mark_signed(self, csr_id: int, *, certificate_id: int) -> None:
        """Link to the certificate. Raises ``Conflict`` when it was signed meanwhile."""
        result = self._execute(
            update(tables.csr)
            .where(_t.id == csr_id, _t.certificate_id.is_(None))
            .values(certificate_id=certificate_id)
        )
        if result.rowcount == 0:
            self.get(csr_id)
            raise Conflict("The request was already signed.")

    def set_key(self, csr_id: int, *, key: KeyRef | None) -> None:
        """Attach or detach the stored key. Raises ``NotFound``."""
        self.get(csr_id)
        self._execute(
            update(tables.csr).where(_t.id == csr_id).values(key_id=None if key is None else key.id)
        )

    def delete(self, csr_id: int) -> None:
        """Raises ``NotFound``."""
        if self._execute(delete(tables.csr).where(_t.id == csr_id)).rowcount == 0:
            raise NotFound(f"There is no certificate signing request with the id {csr_id}.")


def _view(row: Row[Any]) -> CsrView:
    values = dict(row._mapping)
    key_id, purpose = values.pop("key_id"), values.pop("key_purpose")
    key = None if key_id is None else KeyRef(key_id, KeyPurpose(purpose))
    return CsrView(key=key, **values)
