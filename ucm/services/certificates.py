"""Certificates: issued, renewed, revoked, found, imported, exported, deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Forbidden, Invalid, UcmError
from ucm.api.events import CertificateDeleted
from ucm.api.issuance import (
    Held,
    IssuanceRequest,
    RevocationReason,
    RevocationRequest,
)
from ucm.api.keys import KeyPurpose
from ucm.api.services import Clock, Ids, Issuance, Target
from ucm.api.views import CertificateView
from ucm.domain.compliance import assess
from ucm.services.bulk import BulkOutcome, each
from ucm.services.cas import exported_key
from ucm.services.chains import issuers_of
from ucm.services.exports import (
    Exportable,
    ExportedFile,
    ExportRequest,
    export,
    export_many,
    pem_certificate,
)
from ucm.services.imports import public_key_of, read_private_key, spki_of
from ucm.services.intake import ImportOrder, Intake
from ucm.services.key_choice import choose_key
from ucm.services.keys import KeyService
from ucm.services.orders import (
    DEFAULT_KEY,
    CertificateOrder,
    MadeKey,
    RenewalOrder,
    csr_of_order,
    key_spec_of_order,
    make_key,
    origin_of,
    parsed_csr,
    renewal_of,
    request_of,
)
from ucm.store.certificate_query import CertificateQuery
from ucm.store.certificates import CertificateCounts
from ucm.store.paging import Page
from ucm.store.uow import Repositories, UnitOfWork

_MANY = 10_000


@dataclass(frozen=True, slots=True)
class CertificateStats:
    """Counters of end-entity certificates and the origins that occur."""

    counts: CertificateCounts
    sources: Sequence[str]


@dataclass(frozen=True, slots=True)
class ComplianceSummary:
    """Compliance of all end-entity certificates: mean score and number per grade."""

    average_score: float
    distribution: Mapping[str, int]
    total: int


class CertificateService:
    """Use cases around certificates. Implements ``ucm.api.services.Certificates``."""

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
        self._intake = Intake(uow=uow, keys=keys, clock=clock, ids=ids)

    def now(self) -> datetime:
        """The moment that statuses are computed for."""
        return self._clock.now()

    # --- reading ---------------------------------------------------------------------------------

    def get(self, certificate_id: int) -> CertificateView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.certificates.get(certificate_id)

    def find(self, ca_id: int, serial: int) -> CertificateView | None:
        """By issuer and serial, the only identity a certificate has."""
        with self._uow.read() as reader:
            return reader.certificates.find(ca_id, serial)

    def page(self, query: CertificateQuery) -> Page[CertificateView]:
        """One page of a list, without DER. Raises ``Invalid`` for a foreign cursor."""
        with self._uow.read() as reader:
            return reader.certificates.page(query, now=self._clock.now())

    def page_of_ca(self, ca_id: int, query: CertificateQuery) -> Page[CertificateView]:
        """One page of what an authority issued. Raises ``NotFound``."""
        with self._uow.read() as reader:
            reader.cas.get(ca_id)
            return reader.certificates.page(query, now=self._clock.now())

    def chain(self, certificate_id: int) -> Sequence[bytes]:
        """DER from the certificate to its root, as far as it is known. Raises ``NotFound``."""
        return self.chain_of(self.get(certificate_id))

    def chain_of(self, view: CertificateView) -> list[bytes]:
        """As ``chain``, for a view with its DER."""
        with self._uow.read() as reader:
            return [view.der, *_above(reader, view)]

    def stats(self) -> CertificateStats:
        """Counters."""
        with self._uow.read() as reader:
            counts = reader.certificates.counts(self._clock.now())
            return CertificateStats(counts, reader.certificates.sources())

    def compliance(self) -> ComplianceSummary:
        """Scores over all certificates, read in batches."""
        now, grades, points = self._clock.now(), Counter[str](), 0
        with self._uow.read() as reader:
            for view in reader.certificates.stream():
                result = assess(view, now=now)
                grades[result.grade] += 1
                points += result.score
        total = grades.total()
        distribution = {grade: grades[grade] for grade in ("A+", "A", "B", "C", "D", "F")}
        return ComplianceSummary(round(points / total, 1) if total else 0.0, distribution, total)

    # --- issuing ---------------------------------------------------------------------------------

    def issue(self, order: CertificateOrder, *, actor: Actor) -> CertificateView | Held:
        """Issue a certificate, or hold the order when a policy wants somebody's decision.

        Raises ``Invalid`` for an order that breaks a rule and what ``Issuance.issue`` raises.
        """
        csr = csr_of_order(order)
        request = request_of(order, origin=origin_of(actor), csr=csr)
        if csr is not None:
            return self._issue(request, actor=actor, key=None)
        spec = key_spec_of_order(order, template_key=self._template_key(order.template_id))
        label = order.subject.common_name or order.description
        key = make_key(self._keys, spec, label=label, backend=order.key_backend)
        return self._issue(request, actor=actor, key=key)

    def renew(self, order: RenewalOrder, *, actor: Actor) -> CertificateView | Held:
        """Issue a successor, a new certificate that names the old one.

        Raises ``Conflict`` for certificates of authorities, revoked and foreign ones, and what
        ``Issuance.issue`` raises.
        """
        old = self.get(order.certificate_id)
        _check_renewable(old)
        csr = parsed_csr(order.csr) if order.csr is not None else None
        if csr is not None and order.new_key:
            raise Invalid.field(
                "/new_key", "key-and-csr", "A CSR brings its own key; leave out new_key."
            )
        key = None
        wants_key = order.new_key if order.new_key is not None else old.key is not None
        if csr is None and wants_key:
            spec = choose_key(old.key_type, default=DEFAULT_KEY)
            key = make_key(self._keys, spec, label=old.common_name or old.description)
        request = renewal_of(old, order, csr=csr, new_key=key is not None)
        return self._issue(request, actor=actor, key=key)

    def _issue(
        self, request: IssuanceRequest, *, actor: Actor, key: MadeKey | None
    ) -> CertificateView | Held:
        if key is not None:
            request = replace(request, public_key=key.public_key, new_key=key.record)
        try:
            result = self._issuance.issue(request, actor=actor)
        except UcmError:
            if key is not None:
                self._keys.backend(key.record.backend).destroy(key.record)
            raise
        return result if isinstance(result, Held) else result.view

    def _template_key(self, template_id: int | None) -> str | None:
        if template_id is None:
            return None
        with self._uow.read() as reader:
            return reader.templates.get(template_id).key_type

    # --- revoking --------------------------------------------------------------------------------

    def revoke(
        self,
        certificate_id: int,
        *,
        reason: RevocationReason,
        actor: Actor,
        invalidity_date: str | None = None,
        comment: str = "",
    ) -> CertificateView:
        """Revoke or hold. Raises ``PolicyDenied``, ``Conflict``, ``NotFound``, ``Invalid``."""
        request = RevocationRequest(
            certificate_id=certificate_id,
            reason=reason,
            origin=origin_of(actor),
            invalidity_date=_moment(invalidity_date),
            comment=comment,
        )
        return self._issuance.revoke(request, actor=actor)

    def unhold(self, certificate_id: int, *, actor: Actor) -> CertificateView:
        """Lift a hold. Raises ``Conflict``, ``NotFound``."""
        return self._issuance.unhold(certificate_id, actor=actor)

    # --- keeping ---------------------------------------------------------------------------------

    def rename(self, certificate_id: int, *, description: str, actor: Actor) -> CertificateView:
        """Change the description. Raises ``NotFound``."""
        with self._uow.begin(actor) as tx:
            before = tx.certificates.get(certificate_id)
            tx.certificates.rename(certificate_id, description=description)
            target = Target("certificate", certificate_id, description)
            tx.audit("certificate_renamed", target=target, before=before.description)
            return tx.certificates.get(certificate_id)

    def attach_key(
        self, certificate_id: int, *, key: str, passphrase: str | None, actor: Actor
    ) -> CertificateView:
        """Keep the private key of a certificate. Raises ``Invalid`` when it is not its key,
        ``Conflict`` when there is one."""
        view = self.get(certificate_id)
        if view.is_ca:
            raise _is_authority(view)
        if view.key is not None:
            raise Conflict("The private key of this certificate is already here.")
        pkcs8 = read_private_key(key, password=passphrase)
        if public_key_of(pkcs8) != spki_of(x509.load_der_x509_certificate(view.der)):
            raise Invalid.field(
                "/key", "key-mismatch", "The private key does not belong to this certificate."
            )
        label = view.common_name or view.description
        record = self._keys.take(pkcs8, label=label)
        with self._uow.begin(actor) as tx:
            ref = self._keys.keep(record, purpose=KeyPurpose.SUBJECT, label=label, tx=tx)
            tx.certificates.set_key(certificate_id, key=ref)
            tx.audit("certificate_key_uploaded", target=_target(view))
            return tx.certificates.get(certificate_id)

    def delete(self, certificate_id: int, *, actor: Actor) -> None:
        """Delete the record and its key; the serial stays reserved, a revocation on the CRL.

        Raises ``Conflict`` for the certificate of an authority, ``NotFound``.
        """
        with self._uow.begin(actor) as tx:
            view = tx.certificates.get(certificate_id)
            if view.is_ca:
                raise _is_authority(view)
            tx.certificates.delete(certificate_id)
            if view.key is not None and not tx.certificates.key_uses(view.key.id):
                self._keys.destroy(view.key, tx=tx)
            tx.audit("cert_deleted", target=_target(view), serial=view.serial, ca_id=view.ca_id)
            tx.emit(
                CertificateDeleted(
                    certificate_id=certificate_id, ca_id=view.ca_id, serial=view.serial
                )
            )

    def import_certificate(self, order: ImportOrder, *, actor: Actor) -> CertificateView:
        """Take in a certificate made elsewhere; a CA certificate becomes an authority.

        Raises ``Invalid``, ``Conflict``, ``Forbidden`` (CA without ``write:cas``), ``TooLarge``.
        """
        return self.get(self._intake.import_certificate(order, actor=actor).certificate_id)

    # --- files -----------------------------------------------------------------------------------

    def export(self, certificate_id: int, request: ExportRequest, *, actor: Actor) -> ExportedFile:
        """The certificate as a file, audited; with its key only for holders of
        ``read:private_keys``.

        Raises ``Forbidden``, ``Invalid``, ``Conflict`` when there is no key to give out.
        """
        with self._uow.read() as reader:
            view = reader.certificates.get(certificate_id)
            chain = _above(reader, view) if request.include_chain else []
        needed = "write:cas" if view.is_ca else "read:private_keys"
        if request.needs_key and not actor.may(needed):
            raise Forbidden(
                f"Private keys need the permission {needed}.",
                hint="Export without the key, or ask an administrator.",
                extra={"missing_permissions": [needed]},
            )
        key = None
        if request.needs_key and view.key is not None:
            key = exported_key(self._keys, view.key)
        name = view.common_name or view.description
        file = export(Exportable(name=name, certificate=view.der, chain=chain, key=key), request)
        action = "certificate_key_exported" if file.secret else "certificate_exported"
        with self._uow.begin(actor) as tx:
            tx.audit(action, target=_target(view), format=request.format)
        return file

    def export_many(self, ids: Sequence[int] | None, *, format: str, actor: Actor) -> ExportedFile:
        """Several certificates (all without ``ids``) in one file. Raises ``NotFound``."""
        with self._uow.read() as reader:
            if ids is None:
                _check_size(reader.certificates.counts(self._clock.now()).total)
                ders = [view.der for view in reader.certificates.stream()]
            else:
                ders = [reader.certificates.get(key).der for key in dict.fromkeys(ids)]
        file = export_many(ders, format=format, name="certificates")
        self._note_export(actor, format=format, count=len(ders))
        return file

    def stream_pem(self, *, actor: Actor) -> Iterator[bytes]:
        """Every end-entity certificate in PEM, a batch at a time: memory stays flat."""
        self._note_export(actor, format="pem", count=None)
        return self._stream_pem()

    def _stream_pem(self) -> Iterator[bytes]:
        with self._uow.read() as reader:
            for view in reader.certificates.stream():
                yield pem_certificate(view.der)

    def _note_export(self, actor: Actor, *, format: str, count: int | None) -> None:
        with self._uow.begin(actor) as tx:
            target = Target("certificate")
            tx.audit("certificates_exported", target=target, format=format, count=count)

    # --- bulk ------------------------------------------------------------------------------------

    def bulk_revoke(
        self, ids: Sequence[int], *, reason: RevocationReason, actor: Actor
    ) -> BulkOutcome:
        """Revoke each that may be revoked."""

        def one(certificate_id: int) -> None:
            self.revoke(certificate_id, reason=reason, actor=actor)

        return self._bulk("certificates_bulk_revoked", each(ids, one), actor)

    def bulk_renew(self, ids: Sequence[int], *, actor: Actor) -> BulkOutcome:
        """Renew each that may be renewed."""

        def one(certificate_id: int) -> int:
            renewed = self.renew(RenewalOrder(certificate_id=certificate_id), actor=actor)
            if isinstance(renewed, Held):
                raise Conflict(f"The renewal waits for a decision: {renewed.reason}.")
            return renewed.id

        return self._bulk("certificates_bulk_renewed", each(ids, one), actor)

    def bulk_delete(self, ids: Sequence[int], *, actor: Actor) -> BulkOutcome:
        """Delete each that may be deleted."""
        outcome = each(ids, lambda certificate_id: self.delete(certificate_id, actor=actor))
        return self._bulk("certificates_bulk_deleted", outcome, actor)

    def _bulk(self, action: str, outcome: BulkOutcome, actor: Actor) -> BulkOutcome:
        with self._uow.begin(actor) as tx:
            tx.audit(action, target=Target("certificate"), **outcome.facts())
        return outcome


def _check_size(total: int) -> None:
    if total > _MANY:
        raise Conflict(
            f"A PKCS#7 file is made in memory, and {total} certificates are too many for that.",
            hint=f"Export as pem, which is streamed, or at most {_MANY} certificates.",
        )


def _above(reader: Repositories, view: CertificateView) -> list[bytes]:
    """DER of the issuers, nearest first."""
    return issuers_of(reader, ca_id=view.ca_id, key_id=view.authority_key_id)


def _target(view: CertificateView) -> Target:
    return Target("certificate", view.id, view.common_name or view.description)


def _is_authority(view: CertificateView) -> Conflict:
    return Conflict(
        "This is the certificate of an authority.",
        hint="Use the routes below /api/v2/cas.",
        extra={"certificate_id": view.id},
    )


def _check_renewable(old: CertificateView) -> None:
    if old.is_ca:
        raise _is_authority(old)
    if old.ca_id is None:
        raise Conflict(
            "The issuer of this certificate is not here, so that it cannot be renewed.",
            hint="Import the authority, or issue a new certificate.",
        )
    if old.revoked_at is not None:
        raise Conflict(
            "A revoked certificate is not renewed.", hint="Issue a new certificate instead."
        )


def _moment(text: str | None) -> datetime | None:
    """An ISO 8601 date or time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid.field(
            "/invalidity_date",
            "invalid-time",
            "The date is not in ISO 8601 form.",
            hint="Write it like 2026-05-01T12:00:00Z.",
        ) from None
