"""Certificate signing requests: made, uploaded, signed, kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ucm.api.actor import Actor
from ucm.api.csr import CertificateRequest, parse_csr
from ucm.api.errors import Conflict, FieldError, Invalid, TooLarge
from ucm.api.events import CsrSubmitted
from ucm.api.issuance import Held, IssuanceRequest, IssuedCertificate, Origin
from ucm.api.keys import KeyPurpose, KeySpec, SigningKey
from ucm.api.names import common_names, parse_general_name, subject_text
from ucm.api.private_keys import as_private_key, hash_of, scheme_for
from ucm.api.services import Clock, Ids, Issuance, Target, Transaction
from ucm.api.views import CertificateView, CsrView
from ucm.issuance.records import names_by_kind
from ucm.services.bulk import BulkOutcome, each
from ucm.services.cas import AuthorityService, store_of
from ucm.services.exports import ExportedFile, file_stem
from ucm.services.imports import public_key_of, read_private_key
from ucm.services.key_choice import choose_key
from ucm.services.keys import KeyService
from ucm.services.orders import MAX_CSR, SubjectOrder, days, ekus_of, profile_of
from ucm.store.csrs import NewCsr
from ucm.store.paging import Page
from ucm.store.uow import StoreTransaction, UnitOfWork

INTERMEDIATE = "intermediate_ca"


@dataclass(frozen=True, kw_only=True, slots=True)
class CsrOrder:
    """A request whose key is made and kept here."""

    subject: SubjectOrder
    names: tuple[str, ...] = ()
    key_type: str = "RSA-2048"
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CsrSignature:
    """How to sign a stored request; ``cert_type`` ``intermediate_ca`` makes an authority."""

    ca_id: int
    validity_days: int | None = None
    cert_type: str | None = None
    template_id: int | None = None
    extra_ekus: tuple[str, ...] = field(default=())


class CsrService:
    """Use cases around signing requests."""

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        issuance: Issuance,
        keys: KeyService,
        cas: AuthorityService,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._uow = uow
        self._issuance = issuance
        self._keys = keys
        self._cas = cas
        self._clock = clock
        self._ids = ids

    # --- reading ---------------------------------------------------------------------------------

    def get(self, csr_id: int) -> CsrView:
        """Raises ``NotFound``."""
        with self._uow.read() as reader:
            return reader.csrs.get(csr_id)

    def page(self, *, signed: bool, search: str, page: int, per_page: int) -> Page[CsrView]:
        """Newest first; either the signed or the waiting ones."""
        with self._uow.read() as reader:
            return reader.csrs.page(signed=signed, search=search, page=page, per_page=per_page)

    def issuers(self, views: Sequence[CsrView]) -> Mapping[int, str]:
        """The issuer's name by request id, of those that were signed."""
        wanted = {view.certificate_id: view.id for view in views if view.certificate_id}
        if not wanted:
            return {}
        with self._uow.read() as reader:
            found = reader.certificates.get_many(wanted)
        return {wanted[certificate.id]: certificate.issuer for certificate in found}

    def export(self, csr_id: int, *, actor: Actor) -> ExportedFile:
        """The request in PEM, audited."""
        view = self.get(csr_id)
        content = x509.load_der_x509_csr(view.der).public_bytes(Encoding.PEM)
        with self._uow.begin(actor) as tx:
            tx.audit("csr_exported", target=_target(view))
        stem = file_stem(view.common_name or view.description or "request")
        return ExportedFile(f"{stem}.csr", "application/x-pem-file", content)

    # --- making and taking in --------------------------------------------------------------------

    def create(self, order: CsrOrder, *, actor: Actor) -> CsrView:
        """Make a key and a request for it. Raises ``Invalid``, ``Unsupported``, ``SafeMode``."""
        spec = choose_key(order.key_type, default=KeySpec.RSA_2048)
        names = tuple(
            dict.fromkeys(
                parse_general_name(text, pointer=f"/sans/{index}")
                for index, text in enumerate(order.names)
            )
        )
        subject = order.subject.name() or x509.Name([])
        label = order.subject.common_name or order.description
        record = self._keys.make(spec, label=label)
        with self._keys.open_record(record) as key:
            der = build_csr(key, spec=spec, subject=subject, names=names)
        request = parse_csr(der)
        with self._uow.begin(actor) as tx:
            ref = self._keys.keep(record, purpose=KeyPurpose.SUBJECT, label=label, tx=tx)
            new = self._row(request, description=order.description, source="web", key_id=ref.id)
            return self._add(tx, new, action="csr_create")

    def take(
        self, data: bytes, *, name: str | None, actor: Actor, pointer: str, imported: bool = False
    ) -> CsrView:
        """Store a request made elsewhere, PEM or DER.

        Raises ``TooLarge`` above 64 KiB, ``Invalid`` at ``pointer`` for what is malformed, does not
        prove possession of its key, or has a key that is not accepted.
        """
        if len(data) > MAX_CSR:
            raise TooLarge(
                f"A CSR has at most {MAX_CSR // 1024} KiB; this one has {len(data)} bytes.",
                fields=[FieldError(pointer, "too-large", "The CSR is too large.")],
            )
        request = parse_csr(data, pointer=pointer)
        source, action = ("import", "csr_imported") if imported else ("upload", "csr_uploaded")
        with self._uow.begin(actor) as tx:
            new = self._row(request, description=name or "", source=source, key_id=None)
            return self._add(tx, new, action=action)

    def attach_key(self, csr_id: int, *, key: str, passphrase: str | None, actor: Actor) -> CsrView:
        """Keep the private key of a request. Raises ``Invalid`` when it is not its key,
        ``Conflict`` when there is one or the request was signed."""
        view = self.get(csr_id)
        if view.key is not None:
            raise Conflict("The private key of this request is already here.")
        if view.certificate_id is not None:
            raise Conflict(
                "The request was signed; attach the key to its certificate.",
                hint=f"POST /api/v2/certificates/{view.certificate_id}/key",
            )
        pkcs8 = read_private_key(key, password=passphrase)
        if public_key_of(pkcs8) != parse_csr(view.der).public_key:
            raise Invalid.field(
                "/key", "key-mismatch", "The private key does not belong to this request."
            )
        label = view.common_name or view.description
        record = self._keys.take(pkcs8, label=label)
        with self._uow.begin(actor) as tx:
            ref = self._keys.keep(record, purpose=KeyPurpose.SUBJECT, label=label, tx=tx)
            tx.csrs.set_key(csr_id, key=ref)
            tx.audit("csr_key_uploaded", target=_target(view))
            return tx.csrs.get(csr_id)

    def _row(
        self, request: CertificateRequest, *, description: str, source: str, key_id: int | None
    ) -> NewCsr:
        common = common_names(request.subject)
        names = names_by_kind(request.names)
        return NewCsr(
            refid=self._ids.new_id(),
            description=description or (common[0] if common else "")[:255],
            subject=subject_text(request.subject),
            common_name=common[0] if common else None,
            der=request.der,
            key_type=request.key_spec.value,
            spki_sha256=hashlib.sha256(request.public_key).hexdigest(),
            san_dns=names["dns"],
            san_ip=names["ip"],
            san_email=names["email"],
            san_uri=names["uri"],
            san_upn=names["upn"],
            key_id=key_id,
            source=source,
        )

    def _add(self, tx: StoreTransaction, new: NewCsr, *, action: str) -> CsrView:
        view = tx.csrs.get(tx.csrs.add(new))
        tx.audit(action, target=_target(view), subject=view.subject, key_type=view.key_type)
        tx.emit(CsrSubmitted(csr_id=view.id, subject=view.subject))
        return view

    # --- signing ---------------------------------------------------------------------------------

    def sign(self, csr_id: int, how: CsrSignature, *, actor: Actor) -> CertificateView | Held:
        """Sign a stored request; its certificate, or the authority's for ``intermediate_ca``.

        Raises ``Conflict`` when it was signed already and what ``Issuance.issue`` raises.
        """
        view = self.get(csr_id)
        if view.certificate_id is not None:
            raise Conflict(
                "The request was already signed.",
                hint="Renew its certificate instead.",
                extra={"certificate_id": view.certificate_id},
            )
        makes_ca = how.cert_type == INTERMEDIATE
        if makes_ca and (how.template_id is not None or how.extra_ekus):
            raise Invalid.field(
                "/template_id" if how.template_id is not None else "/extra_ekus",
                "not-for-authorities",
                "Templates and extra purposes are for end-entity certificates.",
            )
        request = self._request(view, how, makes_ca=makes_ca)

        def stored(tx: Transaction, issued: IssuedCertificate) -> None:
            store = store_of(tx)
            if makes_ca:
                self._promote(store, view, issued)
            store.csrs.mark_signed(csr_id, certificate_id=issued.id)
            store.audit(
                "csr_signed",
                target=_target(view),
                certificate_id=issued.id,
                ca_id=how.ca_id,
                serial=issued.serial,
            )

        result = self._issuance.issue(request, actor=actor, on_stored=stored)
        if isinstance(result, Held):
            return result
        # A request that was held and decided elsewhere, or signed by two people at once, has its
        # certificate already: it is claimed here.
        if self.get(csr_id).certificate_id is None:
            with self._uow.begin(actor) as tx:
                stored(tx, result)
        with self._uow.read() as reader:
            return reader.certificates.get(result.id)

    def _request(self, view: CsrView, how: CsrSignature, *, makes_ca: bool) -> IssuanceRequest:
        profile = "intermediate-ca" if makes_ca else profile_of(how.template_id, how.cert_type)
        return IssuanceRequest(
            origin=Origin("csr"),
            ca_id=how.ca_id,
            profile=profile,
            csr=parse_csr(view.der),
            names=() if makes_ca else None,
            validity=days(how.validity_days) or None,
            extra_ekus=ekus_of(how.extra_ekus),
            key=None if makes_ca else view.key,
            description=view.description,
            idempotency_key=f"csr-{view.refid}",
        )

    def _promote(self, tx: StoreTransaction, view: CsrView, issued: IssuedCertificate) -> None:
        """The key of the request becomes an authority's: plugins can no longer open it."""
        if view.key is not None:
            record = tx.keys.record(view.key)
            name = view.common_name or view.description
            ref = tx.keys.add(record, purpose=KeyPurpose.CA, label=f"ca:{name}")
            tx.certificates.set_key(issued.id, key=ref)
            tx.csrs.set_key(view.id, key=ref)
            tx.keys.delete(view.key)
        self._cas.adopt_issued(tx, issued, name=view.common_name or view.description)

    def bulk_sign(self, ids: Sequence[int], how: CsrSignature, *, actor: Actor) -> BulkOutcome:
        """Sign each that may be signed."""

        def one(csr_id: int) -> int:
            signed = self.sign(csr_id, how, actor=actor)
            if isinstance(signed, Held):
                raise Conflict(f"The request waits for a decision: {signed.reason}.")
            return signed.id

        outcome = each(ids, one)
        with self._uow.begin(actor) as tx:
            tx.audit("csrs_bulk_signed", target=Target("csr"), **outcome.facts())
        return outcome

    # --- deleting --------------------------------------------------------------------------------

    def delete(self, csr_id: int, *, actor: Actor) -> None:
        """Delete a request, and its key unless a certificate uses it. Raises ``NotFound``."""
        with self._uow.begin(actor) as tx:
            view = tx.csrs.get(csr_id)
            tx.csrs.delete(csr_id)
            unused = view.key is not None and view.certificate_id is None
            if unused and view.key is not None and not tx.certificates.key_uses(view.key.id):
                self._keys.destroy(view.key, tx=tx)
            tx.audit("csr_delete", target=_target(view), subject=view.subject)

    def bulk_delete(self, ids: Sequence[int], *, actor: Actor) -> BulkOutcome:
        """Delete each that may be deleted."""
        outcome = each(ids, lambda csr_id: self.delete(csr_id, actor=actor))
        with self._uow.begin(actor) as tx:
            tx.audit("csrs_bulk_deleted", target=Target("csr"), **outcome.facts())
        return outcome


def build_csr(
    key: SigningKey,
    *,
    spec: KeySpec,
    subject: x509.Name,
    names: tuple[x509.GeneralName, ...],
) -> bytes:
    """A PKCS#10 request (RFC 2986), DER, signed by its own key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names), critical=not subject.rdns
        )
    signed = builder.sign(as_private_key(key), hash_of(scheme_for(spec)))
    return signed.public_bytes(Encoding.DER)


def _target(view: CsrView) -> Target:
    return Target("csr", view.id, view.common_name or view.description)
