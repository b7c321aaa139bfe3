"""Requests that a policy holds until somebody decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from ucm.api.errors import Conflict, NotFound
from ucm.store import tables
from ucm.store.paging import Page
from ucm.store.scope import Repository

_t = tables.held_request.c
PENDING, ISSUED, REJECTED, FAILED = "pending", "issued", "rejected", "failed"
"""Values of ``HeldRequestRow.state``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewHeldRequest:
    """A request as JSON, with what a list shows of it. ``operation`` is ``issue`` or ``revoke``."""

    refid: str
    operation: str
    origin: str
    client: str = ""
    idempotency_key: str | None = None
    payload: Mapping[str, Any]
    subject: str = ""
    reason: str
    policy: str = ""
    ca_id: int | None = None
    certificate_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldRequestRow:
    """A held request; ``approvals`` are ids that plugins gave."""

    id: int
    refid: str
    operation: str
    origin: str
    client: str
    idempotency_key: str | None
    payload: Mapping[str, Any]
    subject: str
    reason: str
    policy: str
    state: str
    approvals: tuple[int, ...]
    ca_id: int | None
    certificate_id: int | None
    requested_by: str
    requested_by_id: int | None
    created_at: datetime
    resolved_at: datetime | None


class HeldRequestRepository(Repository):
    """Held requests."""

    def add(self, new: NewHeldRequest) -> int:
        """Hold a request; return its id. Raises ``Conflict`` for an idempotency key in use."""
        values = {name: getattr(new, name) for name in NewHeldRequest.__slots__}
        values |= {
            "payload": dict(new.payload),
            "approvals": [],
            "state": PENDING,
            "requested_by": self._scope.actor.name,
            "requested_by_id": self._scope.actor.user_id,
            "created_at": self._scope.clock.now(),
        }
        unique = {
            "idempotency_key": "A request with this idempotency key is already held.",
            "refid": "The reference is already used.",
        }
        return self._insert(insert(tables.held_request), values, unique=unique)

    def get(self, request_id: int) -> HeldRequestRow:
        """Raises ``NotFound``."""
        row = self._execute(select(tables.held_request).where(_t.id == request_id)).first()
        if row is None:
            raise NotFound(f"There is no held request with the id {request_id}.")
        return _view(row)

    def by_idempotency_key(self, origin: str, key: str) -> HeldRequestRow | None:
        """What an earlier request of this origin with this key waits as."""
        statement = select(tables.held_request).where(
            _t.origin == origin, _t.idempotency_key == key
        )
        row = self._execute(statement).first()
        return None if row is None else _view(row)

    def page(
        self, *, state: str | None = None, page: int = 1, per_page: int = 20
    ) -> Page[HeldRequestRow]:
        """Newest first."""
        conditions = [] if state is None else [_t.state == state]
        total = self._number(
            select(func.count()).select_from(tables.held_request).where(*conditions)
        )
        rows = self._execute(
            select(tables.held_request)
            .where(*conditions)
            .order_by(_t.id.desc())
            .limit(per_page)
            .offset((page - 1) * per_page)
        )
        return Page(tuple(_view(row) for row in rows), total, page, per_page)

    def approve(self, request_id: int, *, approval: int) -> HeldRequestRow:
        """Attach an approval. Raises ``Conflict`` when it was decided, ``NotFound``."""
        held = self.get(request_id)
        approvals = [*held.approvals, approval]
        self._change(request_id, approvals=approvals)
        return self.get(request_id)

    def hold_again(self, request_id: int, *, reason: str, policy: str = "") -> None:
        """Another policy holds it still. Raises ``Conflict`` when it was decided, ``NotFound``."""
        self._change(request_id, reason=reason, policy=policy)

    def resolve(
        self, request_id: int, *, state: str, certificate_id: int | None = None, reason: str = ""
    ) -> None:
        """Decide it. Raises ``Conflict`` when somebody decided meanwhile, ``NotFound``."""
        values: dict[str, Any] = {"state": state, "resolved_at": self._scope.clock.now()}
        if certificate_id is not None:
            values["certificate_id"] = certificate_id
        if reason:
            values["reason"] = reason
        self._change(request_id, **values)

    def _change(self, request_id: int, **values: Any) -> None:
        result = self._execute(
            update(tables.held_request)
            .where(_t.id == request_id, _t.state == PENDING)
            .values(**values)
        )
        if result.rowcount == 0:
            raise Conflict(f"The request is already {self.get(request_id).state}.")


def _view(row: Row[Any]) -> HeldRequestRow:
    values = dict(row._mapping)
    values["approvals"] = tuple(values["approvals"])
    return HeldRequestRow(**values)
