"""Certificate authorities: made, renewed, imported, published, exported, deleted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography import x509

from ucm.api.actor import Actor
from ucm.api.errors import CaOffline, Conflict, Forbidden, Invalid, UcmError, Unsupported
from ucm.api.events import CaCreated, CaDeleted, CaUpdated
from ucm.api.issuance import CAParameters, Held, IssuanceRequest, IssuedCertificate
from ucm.api.keys import KeyRef
from ucm.api.names import common_names
from ucm.api.publickeys import accepted_spec
from ucm.api.services import Clock, Ids, Issuance, Target, Transaction
from ucm.api.views import CaPublication, CaView, CertificateView
from ucm.issuance.extensions import ANY_POLICY
from ucm.services.bulk import BulkOutcome, each
from ucm.services.ca_orders import (
    CaOrder,
    CaRenewal,
    ca_request_of,
    check_place,
    key_spec_of,
    renewal_request_of,
)
from ucm.services.chains import authority_key_id, issuers_of
from ucm.services.exports import Exportable, ExportedFile, ExportRequest, export, export_many
from ucm.services.imports import spki_of
from ucm.services.intake import Imported, ImportOrder, Intake
from ucm.services.key_choice import choose_key
from ucm.services.keys import KeyService
from ucm.services.orders import DEFAULT_KEY, MadeKey, make_key, origin_of
from ucm.store.cas import NewCa
from ucm.store.uow import Repositories, StoreTransaction, UnitOfWork

UNNAMED = "authority"
_CLAIMED_HERE = frozenset({"api", "cli", "renewal"})
_PUBLISHED = ("cdp", "ocsp", "aia_ca_issuers")


@dataclass(frozen=True, slots=True)
class ListedCa:
    """An authority as lists show it: its parent, and how many certificates it has issued."""

    ca: CaView
    parent: CaView | None
    certificates: int


@dataclass(slots=True)
class CaBranch:
    """An authority and those below it."""

    listed: ListedCa
    children: list[CaBranch] = field(default_factory=list)


class AuthorityService:
    """Use cases around authorities. Implements ``ucm.api.services.CertificateAuthorities``."""

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        issuance: Issuance,
        keys: KeyService,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._uow = uow
        self._issuance = issuance
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._refids: dict[int, str] = {}
        self._intake = Intake(uow=uow, keys=keys, clock=clock, ids=ids)

    # --- reading ---------------------------------------------------------------------------------

    def get(self, ca_id: int) -> CaView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.cas.get(ca_id)

    def by_refid(self, refid: str) -> CaView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.cas.by_refid(refid)

    def all(self) -> Sequence[CaView]:
        """Every authority by name."""
        with self._uow.read() as reader:
            return reader.cas.all()

    def refids(self, ids: Iterable[int]) -> dict[int, str]:
        """References of authorities by id; they never change, so that each is read once."""
        wanted = set(ids)
        if not wanted <= self._refids.keys():
            self._refids.update((ca.id, ca.refid) for ca in self.all())
        return {key: self._refids[key] for key in wanted if key in self._refids}

    def listed(self, *, kind: str | None = None, search: str = "") -> list[ListedCa]:
        """Authorities by name. ``kind``: root, intermediate, or orphan (its issuer is not here)."""
        with self._uow.read() as reader:
            everything = reader.cas.all()
            counts = reader.certificates.counts_by_ca()
        by_id = {ca.id: ca for ca in everything}
        words = search.casefold().split()
        return [
            _listed(ca, by_id, counts)
            for ca in everything
            if (kind is None or _kind(ca) == kind or (kind == "intermediate" and not ca.is_root))
            and all(word in f"{ca.name} {ca.subject}".casefold() for word in words)
        ]

    def one(self, ca_id: int) -> ListedCa:
        """One authority as lists show it. Raises ``NotFound``."""
        with self._uow.read() as reader:
            return _one(reader, ca_id)

    def tree(self) -> list[CaBranch]:
        """Roots, and authorities whose issuer is not here, with everything below them."""
        branches = {listed.ca.id: CaBranch(listed) for listed in self.listed()}
        roots: list[CaBranch] = []
        for branch in branches.values():
            parent = branches.get(branch.listed.ca.parent_id or 0)
            (parent.children if parent else roots).append(branch)
        return roots

    def chain(self, ca_id: int) -> list[bytes]:
        """DER from the authority to its root, as far as it is known. Raises ``NotFound``."""
        with self._uow.read() as reader:
            return _chain(reader, reader.cas.get(ca_id))

    # --- making ----------------------------------------------------------------------------------

    def create(self, order: CaOrder, *, actor: Actor) -> ListedCa:
        """A new root or intermediate.

        Raises what ``Issuance.issue`` raises, and ``Unsupported`` when the key cannot be made.
        """
        check_place(order)
        spec = key_spec_of(order)
        name = order.subject.common_name or UNNAMED
        # Wishes are checked with a key that costs nothing before the real one is made.
        origin = origin_of(actor)
        ca_request_of(order, origin=origin, key=None)
        if order.parent_id is not None:
            self.get(order.parent_id)
        key = make_key(self._keys, spec, label=f"ca:{name}", backend=order.key_backend)
        request = ca_request_of(order, origin=origin, key=key)
        made: list[int] = []

        def stored(tx: Transaction, issued: IssuedCertificate) -> None:
            parameters = request.ca_parameters
            made.append(self.adopt_issued(store_of(tx), issued, name=name, parameters=parameters))

        self._issue(request, actor=actor, key=key, stored=stored)
        return self.one(made[0])

    def adopt_issued(
        self,
        tx: StoreTransaction,
        issued: IssuedCertificate,
        *,
        name: str,
        parameters: CAParameters | None = None,
    ) -> int:
        """Make an authority of a CA certificate that was just stored; returns its id."""
        certificate = tx.certificates.get(issued.id)
        parameters = parameters or CAParameters()
        named = parameters.named_urls
        ca_id = tx.cas.add(
            NewCa(
                refid=self._ids.new_id(),
                name=name,
                certificate_id=issued.id,
                parent_id=issued.ca_id,
                key=certificate.key,
                digest=parameters.digest,
                path_length=_path_length(certificate),
                publication=CaPublication(named_urls=named),
                url_slug=_free_slug(tx, name) if named else None,
            )
        )
        tx.audit(
            "ca_created",
            target=Target("ca", ca_id, name),
            parent_id=issued.ca_id,
            subject=certificate.subject,
            serial=issued.serial,
        )
        tx.emit(CaCreated(ca_id=ca_id, subject=certificate.subject))
        return ca_id

    def renew(self, order: CaRenewal, *, actor: Actor) -> ListedCa:
        """A new certificate for the authority; the old one stays and is named by the new one.

        Raises ``Conflict`` when its issuer is not here or its key is kept elsewhere, and what
        ``Issuance.issue`` raises.
        """
        ca = self.get(order.ca_id)
        if not ca.is_root and ca.parent_id is None:
            raise Conflict(
                f"The issuer of the authority {ca.name!r} is not here to sign its renewal.",
                hint="Have it renewed by its issuer and import the new certificate.",
            )
        key = None
        if order.new_key:
            spec = choose_key(_key_type(ca), default=DEFAULT_KEY)
            key = make_key(self._keys, spec, label=f"ca:{ca.name}")
        request = renewal_request_of(ca, order, key=key)

        def stored(tx: Transaction, issued: IssuedCertificate) -> None:
            _set_renewed(store_of(tx), ca, issued)

        self._issue(request, actor=actor, key=key, stored=stored)
        return self.one(ca.id)

    def adopt_resumed(
        self, tx: Transaction, issued: IssuedCertificate, request: IssuanceRequest
    ) -> None:
        """Finish the creation or renewal of an authority that waited for a decision: whoever asked
        got their answer long ago. Leaves alone what is claimed elsewhere: end-entity certificates,
        stored signing requests, and what plugins ask for.

        Raises ``Conflict`` when the authority was renewed or deleted meanwhile.
        """
        if request.ca_parameters is None or request.origin.kind not in _CLAIMED_HERE:
            return
        store = store_of(tx)
        if request.renews is None:
            names = common_names(request.subject) if request.subject is not None else ()
            name = names[0] if names else UNNAMED
            self.adopt_issued(store, issued, name=name, parameters=request.ca_parameters)
            return
        ca = store.cas.by_certificate(request.renews)
        if ca is None:
            raise Conflict(
                "The authority was renewed otherwise or deleted while its renewal waited.",
                hint="The certificate is kept as issued_unclaimed; revoke it if it is not needed.",
            )
        _set_renewed(store, ca, issued)

    def import_authority(self, order: ImportOrder, *, actor: Actor) -> ListedCa:
        """Take in an authority made elsewhere. Raises ``Invalid``, ``Conflict``, ``TooLarge``."""
        imported: Imported = self._intake.import_authority(order, actor=actor)
        if imported.authority_id is None:
            raise Conflict("The certificate is no authority here.")
        return self.one(imported.authority_id)

    def _issue(
        self, request: IssuanceRequest, *, actor: Actor, key: MadeKey | None, stored: Any
    ) -> None:
        try:
            result = self._issuance.issue(request, actor=actor, on_stored=stored)
        except UcmError:
            if key is not None:
                self._keys.backend(key.record.backend).destroy(key.record)
            raise
        if isinstance(result, Held):
            raise Conflict(
                f"The request waits for a decision: {result.reason}.",
                hint="When it is approved, GET /api/v2/cas shows what was asked for.",
                extra={"approval_id": result.request_id},
            )

    # --- changing --------------------------------------------------------------------------------

    def update(self, ca_id: int, *, changes: Mapping[str, Any], actor: Actor) -> ListedCa:
        """Change name, state, digest or where its publications are.

        Raises ``Invalid`` when URLs are enabled that are not there, ``NotFound``.
        """
        with self._uow.begin(actor) as tx:
            ca = tx.cas.get(ca_id)
            changes = {**changes, **_named(tx, ca, changes)}
            _check_publication({**asdict(ca.publication), **changes})
            changed = tuple(sorted(changes))
            if changes:
                ca = tx.cas.update(ca_id, **changes)
            tx.audit("ca_updated", target=Target("ca", ca.id, ca.name), changed=list(changed))
            tx.emit(CaUpdated(ca_id=ca.id, changed=changed))
            return _one(tx, ca_id)

    def delete(self, ca_id: int, *, actor: Actor) -> None:
        """Delete an authority with its key. Raises ``Conflict`` while it has children or
        certificates, ``NotFound``."""
        with self._uow.begin(actor) as tx:
            ca = tx.cas.get(ca_id)
            children = tx.cas.children(ca_id)
            if children:
                raise Conflict(
                    f"The authority {ca.name!r} has {len(children)} authorities below it.",
                    hint="Delete those first.",
                )
            keys = _keys_of(tx, ca)
            tx.cas.delete(ca_id)
            for key in keys:
                if not tx.certificates.key_uses(key.id):
                    self._keys.destroy(key, tx=tx)
            tx.audit("ca_deleted", target=Target("ca", ca.id, ca.name), subject=ca.subject)
            tx.emit(CaDeleted(ca_id=ca.id, subject=ca.subject))

    def bulk_delete(self, ids: Sequence[int], *, actor: Actor) -> BulkOutcome:
        """Delete each that may be deleted."""
        outcome = each(ids, lambda ca_id: self.delete(ca_id, actor=actor))
        with self._uow.begin(actor) as tx:
            tx.audit("cas_bulk_deleted", target=Target("ca"), **outcome.facts())
        return outcome

    # --- files -----------------------------------------------------------------------------------

    def export(self, ca_id: int, request: ExportRequest, *, actor: Actor) -> ExportedFile:
        """The authority as a file; with its key only for holders of ``write:cas``, and audited.

        Raises ``Forbidden``, ``CaOffline``, ``Invalid``, ``Conflict`` when the key cannot be given
        out.
        """
        with self._uow.read() as reader:
            ca = reader.cas.get(ca_id)
            chain = _chain(reader, ca)
        if request.needs_key and not actor.may("write:cas"):
            raise Forbidden(
                "The private key of an authority needs the permission write:cas.",
                hint="Export without the key.",
            )
        if request.needs_key and ca.offline:
            raise CaOffline(
                f"The authority {ca.name!r} is offline; its private key is not given out.",
                hint="Export without the key.",
            )
        key = None
        if request.needs_key and ca.key is not None:
            key = exported_key(self._keys, ca.key)
        item = Exportable(name=ca.name, certificate=ca.der, chain=chain[1:], key=key)
        file = export(item, request)
        with self._uow.begin(actor) as tx:
            target = Target("ca", ca.id, ca.name)
            tx.audit("ca_exported", target=target, format=request.format, key=file.secret)
        return file

    def export_many(self, ids: Sequence[int] | None, *, format: str, actor: Actor) -> ExportedFile:
        """Several authorities (all without ``ids``) in one file. Raises ``NotFound``."""
        with self._uow.read() as reader:
            chosen = reader.cas.all() if ids is None else [reader.cas.get(i) for i in ids]
        file = export_many([ca.der for ca in chosen], format=format, name="authorities")
        with self._uow.begin(actor) as tx:
            listed = [ca.id for ca in chosen]
            tx.audit("ca_exported", target=Target("ca"), format=format, ids=listed, key=False)
        return file


def exported_key(keys: KeyService, ref: KeyRef) -> bytes:
    """PKCS#8 of a stored key. Raises ``Conflict`` when its key store never gives keys away."""
    try:
        return keys.export_key(ref)
    except Unsupported as error:
        raise Conflict(error.detail, hint=error.hint) from None


def _chain(reader: Repositories, ca: CaView) -> list[bytes]:
    key_id = authority_key_id(ca.certificate)
    return [ca.der, *issuers_of(reader, ca_id=ca.parent_id, key_id=key_id)]


def _keys_of(reader: Repositories, ca: CaView) -> set[KeyRef]:
    """The keys of the authority's present certificate and of those it had before."""
    keys = {ca.key} if ca.key is not None else set()
    following: int | None = ca.certificate_id
    while following is not None:
        certificate = reader.certificates.get(following, der=False)
        if certificate.key is not None:
            keys.add(certificate.key)
        following = certificate.renews
    return keys


def _set_renewed(tx: StoreTransaction, ca: CaView, issued: IssuedCertificate) -> None:
    certificate = tx.certificates.get(issued.id)
    tx.cas.set_certificate(
        ca.id,
        certificate_id=issued.id,
        key=certificate.key,
        path_length=_path_length(certificate),
    )
    target = Target("ca", ca.id, ca.name)
    tx.audit("ca_renewed", target=target, serial=issued.serial, new_key=certificate.key != ca.key)
    tx.emit(CaUpdated(ca_id=ca.id, changed=("certificate",)))


def _one(reader: Repositories, ca_id: int) -> ListedCa:
    ca = reader.cas.get(ca_id)
    parent = reader.cas.find(ca.parent_id) if ca.parent_id is not None else None
    return ListedCa(ca, parent, reader.certificates.count_of_ca(ca_id))


def _listed(ca: CaView, by_id: Mapping[int, CaView], counts: Mapping[int, int]) -> ListedCa:
    parent = by_id.get(ca.parent_id) if ca.parent_id is not None else None
    return ListedCa(ca, parent, counts.get(ca.id, 0))


def _kind(ca: CaView) -> str:
    if ca.is_root:
        return "root"
    return "orphan" if ca.parent_id is None else "intermediate"


def _key_type(ca: CaView) -> str:
    return accepted_spec(spki_of(ca.certificate)).value


def _path_length(certificate: CertificateView) -> int | None:
    parsed = x509.load_der_x509_certificate(certificate.der)
    return parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _named(tx: StoreTransaction, ca: CaView, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The slug that ``named_urls`` brings. Once published it is in certificates and stays."""
    wanted = changes.get("named_urls")
    if wanted is False and ca.publication.named_urls:
        raise Invalid.field(
            "/named_urls",
            "immutable",
            "Named URLs stay: certificates that were issued point to them.",
        )
    if wanted and ca.url_slug is None:
        return {"url_slug": _free_slug(tx, ca.name)}
    return {}


def _free_slug(tx: StoreTransaction, name: str) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "ca"
    taken = {ca.url_slug for ca in tx.cas.all()}
    slug, number = base, 2
    while slug in taken:
        slug, number = f"{base}-{number}", number + 1
    return slug


def _check_publication(values: Mapping[str, Any]) -> None:
    for name in _PUBLISHED:
        if values[f"{name}_enabled"] and not values[f"{name}_urls"]:
            raise Invalid.field(
                f"/{name}_urls",
                "url-missing",
                f"{name}_enabled needs at least one URL in {name}_urls.",
                hint="URLs may hold {ca_refid}, the reference of the authority.",
            )
    if values["cps_enabled"] and not values["cps_uri"]:
        raise Invalid.field("/cps_uri", "url-missing", "cps_enabled needs cps_uri.")
    if values["cps_enabled"] and not values["cps_oid"]:
        raise Invalid.field(
            "/cps_oid",
            "policy-missing",
            "cps_enabled needs cps_oid: certificates carry the CPS with the policy that it is of "
            "(RFC 5280 4.2.1.4).",
            hint="Give the OID of the certificate policy, of an arc of your own.",
        )
    if values["cps_oid"] == ANY_POLICY:
        raise Invalid.field(
            "/cps_oid",
            "any-policy",
            "anyPolicy (2.5.29.32.0) is for certificates of authorities only; what an authority "
            "issues carries a policy of its own (RFC 5280 4.2.1.4).",
            hint="Give the OID of the certificate policy, of an arc of your own.",
        )


def store_of(tx: Transaction) -> StoreTransaction:
    """The unit with the core's repositories. Raises ``TypeError`` for a foreign one."""
    if not isinstance(tx, StoreTransaction):
        raise TypeError("authorities are stored in a unit that UnitOfWork.begin() opened")
    return tx
