"""Authorities: an own certificate, a key, where its publications are, and its place in the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, func, insert, select, update

from ucm.api.errors import Conflict, NotFound
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.views import CaPublication, CaView, PublicationUrls
from ucm.store import tables
from ucm.store.certificates import REVOKED, CertificateRepository
from ucm.store.prepared import Prepared
from ucm.store.scope import Repository, Scope

_t = tables.ca.c
_own = tables.certificate.c
_PUBLICATION = tuple(CaPublication.__slots__)
_CHANGEABLE = frozenset({"name", "url_slug", "is_active", "digest", *_PUBLICATION})
_UNIQUE = {
    "url_slug": "Another authority has this url_slug.",
    "refid": "The reference is already used.",
    "certificate_id": "The certificate already belongs to an authority.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewCa:
    """A row of ``core_ca``; its certificate is already stored with ``is_ca``."""

    refid: str
    name: str
    certificate_id: int
    parent_id: int | None
    key: KeyRef | None
    digest: str = "auto"
    path_length: int | None = None
    publication: CaPublication = field(default_factory=CaPublication)
    url_slug: str | None = None
    imported_from: str | None = None


@dataclass(frozen=True, slots=True)
class CaStanding:
    """What may change from one issuance to the next."""

    version: int
    is_active: bool
    offline: bool
    key_id: int | None
    certificate_id: int
    revoked: bool

    def is_of(self, ca: CaView) -> bool:
        """Whether the view is still as the row is."""
        key_id = None if ca.key is None else ca.key.id
        return self == CaStanding(
            ca.version, ca.is_active, ca.offline, key_id, ca.certificate_id, ca.revoked
        )


class CaRepository(Repository):
    """Authorities."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._certificates = CertificateRepository(scope)

    def add(self, new: NewCa) -> int:
        """Store an authority; return its id. Raises ``Conflict``."""
        values = {
            "refid": new.refid,
            "name": new.name,
            "certificate_id": new.certificate_id,
            "parent_id": new.parent_id,
            "key_id": None if new.key is None else new.key.id,
            "digest": new.digest,
            "path_length": new.path_length,
            "url_slug": new.url_slug,
            "imported_from": new.imported_from,
            "created_at": self._scope.clock.now(),
            "created_by": self._scope.actor.name,
            **{name: getattr(new.publication, name) for name in _PUBLICATION},
        }
        return self._insert(insert(tables.ca), values, unique=_UNIQUE)

    def get(self, ca_id: int) -> CaView:
        """Raises ``NotFound``."""
        row = self._execute(_SELECT_ONE, {"id": ca_id}).first()
        if row is None:
            raise NotFound(f"There is no authority with the id {ca_id}.")
        return self._view(row)

    def standing(self, ca_id: int) -> CaStanding:
        """What tells whether a view that was read before still holds. Raises ``NotFound``."""
        row = _STANDING.first(self._scope, {"id": ca_id})
        if row is None:
            raise NotFound(f"There is no authority with the id {ca_id}.")
        version, is_active, offline, key_id, certificate_id, revocation = row
        return CaStanding(
            version, is_active, offline, key_id, certificate_id, revocation == REVOKED
        )

    def find(self, ca_id: int) -> CaView | None:
        """The authority, if it exists."""
        return self._first(_t.id == ca_id)

    def by_refid(self, refid: str) -> CaView:
        """By reference or ``url_slug``. Raises ``NotFound``."""
        found = self._first(_t.refid == refid) or self._first(_t.url_slug == refid)
        if found is None:
            raise NotFound(f"There is no authority with the reference {refid}.")
        return found

    def by_certificate(self, certificate_id: int) -> CaView | None:
        """The authority whose current certificate this is."""
        return self._first(_t.certificate_id == certificate_id)

    def all(self) -> list[CaView]:
        """Every authority by name."""
        return [self._view(row) for row in self._execute(_SELECT.order_by(_t.name, _t.id))]

    def children(self, ca_id: int) -> list[CaView]:
        """Authorities directly below."""
        statement = _SELECT.where(_t.parent_id == ca_id).order_by(_t.name, _t.id)
        return [self._view(row) for row in self._execute(statement)]

    def count(self) -> int:
        """Number of authorities."""
        return self._number(select(func.count()).select_from(tables.ca))

    def key_users(self, key_id: int) -> list[int]:
        """Ids of authorities that sign with this stored key."""
        return list(self._execute(select(_t.id).where(_t.key_id == key_id)).scalars())

    def update(self, ca_id: int, *, version: int | None = None, **changes: Any) -> CaView:
        """Change name, url_slug, is_active, digest or fields of ``CaPublication``.

        Raises ``NotFound``, and ``Conflict`` when ``version`` is given and no longer current.
        """
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
        return self._change(ca_id, version=version, values=changes)

    def set_certificate(
        self, ca_id: int, *, certificate_id: int, key: KeyRef | None, path_length: int | None
    ) -> CaView:
        """The authority goes on with another certificate (renewal)."""
        values = {
            "certificate_id": certificate_id,
            "key_id": None if key is None else key.id,
            "path_length": path_length,
        }
        return self._change(ca_id, version=None, values=values)

    def set_key(self, ca_id: int, *, key: KeyRef | None) -> CaView:
        """Attach or detach the signing key."""
        return self._change(ca_id, version=None, values={"key_id": None if key is None else key.id})

    def set_parent(self, ca_id: int, *, parent_id: int | None) -> CaView:
        """Link to the issuer that became known later."""
        return self._change(ca_id, version=None, values={"parent_id": parent_id})

    def set_offline(self, ca_id: int, *, offline: bool) -> CaView:
        """Take offline or bring back."""
        return self._change(ca_id, version=None, values={"offline": offline})

    def delete(self, ca_id: int) -> None:
        """Delete an authority with its own certificates, renewed ones included.

        Raises ``NotFound``, and ``Conflict`` while it has children, certificates or open requests.
        """
        view = self.get(ca_id)
        own = self._own_certificates(view.certificate_id)
        if self._certificates.count_of_ca(ca_id) > sum(1 for _, issuer in own if issuer == ca_id):
            raise Conflict(
                "The authority has issued certificates.",
                hint="Delete its certificates first, or deactivate the authority.",
            )
        gone, intents = tables.deleted_certificate, tables.intent
        self._execute(delete(gone).where(gone.c.ca_id == ca_id))
        self._execute(delete(intents).where(intents.c.ca_id == ca_id, intents.c.state != "signing"))
        self._execute(
            update(tables.certificate)
            .where(_own.id.in_([key for key, _ in own]), _own.ca_id == ca_id)
            .values(ca_id=None)
        )
        self._guarded(
            delete(tables.ca).where(_t.id == ca_id),
            None,
            unique={"": "The authority still has children or open requests."},
        )
        for key, _ in own:
            self._certificates.delete(key)

    def _own_certificates(self, certificate_id: int) -> list[tuple[int, int | None]]:
        """The current certificate and those it renewed, as (id, issuing authority)."""
        found: list[tuple[int, int | None]] = []
        following: int | None = certificate_id
        while following is not None:
            row = self._execute(
                select(_own.id, _own.ca_id, _own.renews).where(_own.id == following)
            ).one()
            found.append((row.id, row.ca_id))
            following = row.renews
        return found

    def _change(self, ca_id: int, *, version: int | None, values: Mapping[str, Any]) -> CaView:
        statement = update(tables.ca).where(_t.id == ca_id)
        if version is not None:
            statement = statement.where(_t.version == version)
        result = self._guarded(
            statement.values(**values, version=_t.version + 1), None, unique=_UNIQUE
        )
        view = self.get(ca_id)
        if result.rowcount == 0:
            raise Conflict(
                "The authority was changed meanwhile.", hint="Read it again and repeat the change."
            )
        return view

    def _first(self, condition: Any) -> CaView | None:
        row = self._execute(_SELECT.where(condition).limit(1)).first()
        return None if row is None else self._view(row)

    def _view(self, row: Row[Any]) -> CaView:
        values = dict(row._mapping)
        publication = CaPublication(**{name: values.pop(name) for name in _PUBLICATION})
        key_id = values.pop("key_id")
        revoked = values.pop("revocation") == REVOKED
        return CaView(
            certificate=self._scope.parsed.parse(row.der),
            key=None if key_id is None else KeyRef(key_id, KeyPurpose.CA),
            revoked=revoked,
            publication=publication,
            urls=_urls(publication, refid=row.refid),
            **values,
        )


def _urls(publication: CaPublication, *, refid: str) -> PublicationUrls:
    def filled(enabled: bool, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(url.replace("{ca_refid}", refid) for url in urls) if enabled else ()

    return PublicationUrls(
        crl_distribution_points=filled(publication.cdp_enabled, publication.cdp_urls),
        ocsp=filled(publication.ocsp_enabled, publication.ocsp_urls),
        ca_issuers=filled(publication.aia_ca_issuers_enabled, publication.aia_ca_issuers_urls),
        policy_oid=publication.cps_oid if publication.cps_enabled else None,
        cps_uri=publication.cps_uri if publication.cps_enabled else None,
    )


_SELECT: Select[Any] = select(
    *tables.ca.columns,
    _own.der,
    _own.serial,
    _own.subject,
    _own.not_before,
    _own.not_after,
    _own.revocation,
).join_from(tables.ca, tables.certificate, _t.certificate_id == _own.id)
_SELECT_ONE = _SELECT.where(_t.id == bindparam("id"))
_STANDING = Prepared(
    select(_t.version, _t.is_active, _t.offline, _t.key_id, _t.certificate_id, _own.revocation)
    .join_from(tables.ca, tables.certificate, _t.certificate_id == _own.id)
    .where(_t.id == bindparam("id"))
)
