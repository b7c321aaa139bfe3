"""Certificate templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from ucm.api.errors import Conflict, NotFound
from ucm.store import tables
from ucm.store.scope import Repository

_t = tables.template.c
_p = tables.ca_template_pin.c
_UNIQUE = {"name_key": "Another template has this name."}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTemplate:
    """What a template says (catalogue: certificate templates)."""

    name: str
    template_type: str
    key_type: str
    description: str = ""
    validity_days: int = 397
    digest: str = "sha256"
    dn_template: Mapping[str, Any] = field(default_factory=dict)
    extensions_template: Mapping[str, Any] = field(default_factory=dict)
    pinned_subject_fields: Mapping[str, Any] = field(default_factory=dict)
    is_system: bool = False
    is_active: bool = True
    ad_derived_subject: bool = False
    autoenroll_enabled: bool = False
    allowed_ad_group: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateView:
    """A stored template; ``version`` grows with every change."""

    id: int
    name: str
    description: str
    template_type: str
    key_type: str
    validity_days: int
    digest: str
    dn_template: Mapping[str, Any]
    extensions_template: Mapping[str, Any]
    pinned_subject_fields: Mapping[str, Any]
    is_system: bool
    is_active: bool
    ad_derived_subject: bool
    autoenroll_enabled: bool
    allowed_ad_group: str | None
    created_at: datetime
    created_by: str
    updated_at: datetime | None
    updated_by: str | None
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplatePin:
    """That an authority's operators want to see a template first."""

    template_id: int
    created_at: datetime
    created_by: str


class TemplateRepository(Repository):
    """Templates, system ones included."""

    def add(self, new: NewTemplate) -> int:
        """Store a template; return its id. Raises ``Conflict`` for a name in use."""
        values = {name: _plain(getattr(new, name)) for name in NewTemplate.__slots__}
        values["name_key"] = new.name.casefold()
        values["created_at"] = self._scope.clock.now()
        values["created_by"] = self._scope.actor.name
        return self._insert(insert(tables.template), values, unique=_UNIQUE)

    def get(self, template_id: int) -> TemplateView:
        """Raises ``NotFound``."""
        row = self._execute(select(tables.template).where(_t.id == template_id)).first()
        if row is None:
            raise NotFound(f"There is no template with the id {template_id}.")
        return _view(row)

    def by_name(self, name: str) -> TemplateView | None:
        """By name in any case."""
        statement = select(tables.template).where(_t.name_key == name.casefold())
        row = self._execute(statement).first()
        return None if row is None else _view(row)

    def all(self, *, active: bool | None = None) -> list[TemplateView]:
        """Templates by name."""
        statement = select(tables.template).order_by(_t.name_key)
        if active is not None:
            statement = statement.where(_t.is_active.is_(active))
        return [_view(row) for row in self._execute(statement)]

    def update(
        self, template_id: int, *, version: int | None = None, **changes: Any
    ) -> TemplateView:
        """Change fields of ``NewTemplate``.

        Raises ``NotFound``, and ``Conflict`` for a name in use or a ``version`` no longer current.
        """
        unknown = changes.keys() - set(NewTemplate.__slots__)
        if unknown:
            raise TypeError(f"not fields of a template: {', '.join(sorted(unknown))}")
        values = {name: _plain(value) for name, value in changes.items()}
        if "name" in values:
            values["name_key"] = values["name"].casefold()
        statement = update(tables.template).where(_t.id == template_id)
        if version is not None:
            statement = statement.where(_t.version == version)
        values |= {"updated_at": self._scope.clock.now(), "updated_by": self._scope.actor.name}
        result = self._guarded(
            statement.values(**values, version=_t.version + 1), None, unique=_UNIQUE
        )
        view = self.get(template_id)
        if result.rowcount == 0:
            raise Conflict(
                "The template was changed meanwhile.", hint="Read it again and repeat the change."
            )
        return view

    def delete(self, template_id: int) -> None:
        """Raises ``NotFound``, and ``Conflict`` while something uses it."""
        result = self._guarded(
            delete(tables.template).where(_t.id == template_id),
            None,
            unique={"": "The template is in use; its certificates name it."},
        )
        if result.rowcount == 0:
            raise NotFound(f"There is no template with the id {template_id}.")

    # --- pins: they go with the authority and with the template -----------------------------

    def pins_of(self, ca_id: int) -> dict[int, TemplatePin]:
        """The authority's pins by the template's id."""
        statement = select(_p.template_id, _p.created_at, _p.created_by).where(_p.ca_id == ca_id)
        return {row.template_id: TemplatePin(**row._mapping) for row in self._execute(statement)}

    def pin(self, ca_id: int, template_id: int) -> TemplatePin:
        """Pin a template that exists to an authority that exists. Raises ``Conflict``."""
        pin = TemplatePin(
            template_id=template_id,
            created_at=self._scope.clock.now(),
            created_by=self._scope.actor.name,
        )
        self._guarded(
            insert(tables.ca_template_pin),
            {
                "ca_id": ca_id,
                "template_id": template_id,
                "created_at": pin.created_at,
                "created_by": pin.created_by,
            },
            unique={
                name: "The template is pinned to this authority already."
                for name in ("core_ca_template_pin.ca_id", "pk_core_ca_template_pin")
            },
        )
        return pin

    def unpin(self, ca_id: int, template_id: int) -> bool:
        """Remove a pin; False when there is none."""
        statement = delete(tables.ca_template_pin).where(
            _p.ca_id == ca_id, _p.template_id == template_id
        )
        return self._execute(statement).rowcount > 0


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _view(row: Row[Any]) -> TemplateView:
    values = dict(row._mapping)
    del values["name_key"]
    return TemplateView(**values)
