"""Certificates and authorities made elsewhere: checked, linked to what is here, stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Forbidden, Invalid
from ucm.api.events import CaCreated, CaUpdated, CertificateImported
from ucm.api.keys import KeyPurpose, KeyRecord, KeyRef
from ucm.api.names import common_names, subject_text
from ucm.api.publickeys import accepted_spec
from ucm.api.services import Clock, Ids, Target
from ucm.api.views import CaView, CertificateView
from ucm.api.x509 import fingerprint, serial_text, signature_algorithm_name
from ucm.issuance.records import names_by_kind
from ucm.services.chains import authority_key_id, subject_key_id
from ucm.services.imports import ImportedMaterial, check_authority, read_material, spki_of
from ucm.services.keys import KeyService
from ucm.store.cas import NewCa
from ucm.store.certificates import NewCertificate
from ucm.store.uow import Repositories, StoreTransaction, UnitOfWork

SOURCE = "import"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOrder:
    """A file to take in. ``ca_id`` is the issuer as the caller believes it to be."""

    content: bytes = field(repr=False)
    password: str | None = field(default=None, repr=False)
    name: str | None = None
    ca_id: int | None = None
    import_key: bool = True
    update_existing: bool = True


@dataclass(frozen=True, slots=True)
class Imported:
    """What was stored; ``authority_id`` for a CA certificate, ``created`` false for an update."""

    certificate_id: int
    authority_id: int | None
    created: bool


class Intake:
    """Imports. Nothing is believed about who issued what: links are made by signatures."""

    def __init__(self, *, uow: UnitOfWork, keys: KeyService, clock: Clock, ids: Ids) -> None:
        self._uow = uow
        self._keys = keys
        self._clock = clock
        self._ids = ids

    def import_authority(self, order: ImportOrder, *, actor: Actor) -> Imported:
        """Store an authority with its key, if the file has one.

        Raises ``Invalid`` for unreadable files and what may not be an authority (expired, not CA,
        weak signature, foreign key), ``Conflict`` when it is here and must not be updated.
        """
        material = read_material(order.content, password=order.password)
        return self._authority(material, order, actor)

    def import_certificate(self, order: ImportOrder, *, actor: Actor) -> Imported:
        """Store a certificate; a CA certificate becomes an authority, which needs ``write:cas``.

        Raises ``Invalid``, ``Forbidden``, ``Conflict``, ``NotFound`` for an unknown ``ca_id``.
        """
        material = read_material(order.content, password=order.password)
        if is_ca(material.certificate):
            if not actor.may("write:cas"):
                raise Forbidden(
                    "This is a CA certificate; to import it the permission write:cas is needed.",
                    hint="Ask an administrator for a role that has it.",
                )
            return self._authority(material, order, actor)
        return self._leaf(material, order, actor)

    # --- authorities -----------------------------------------------------------------------------

    def _authority(self, material: ImportedMaterial, order: ImportOrder, actor: Actor) -> Imported:
        certificate = material.certificate
        check_authority(certificate, now=self._clock.now(), pointer="/file")
        names = common_names(certificate.subject)
        name = order.name or (names[0] if names else subject_text(certificate.subject))[:255]
        record = self._record(material, order, label=f"ca:{name}")
        with self._uow.begin(actor) as tx:
            present = tx.certificates.by_thumbprint(_thumbprint(certificate))
            if present is not None:
                return self._update_authority(tx, present, order, record)
            twin = _same_authority(certificate, tx.cas.all())
            if twin is not None:
                return self._succeed(tx, twin, certificate, order, record)
            parent = self._issuer(tx, certificate, order)
            key = self._keep(tx, record, purpose=KeyPurpose.CA, label=f"ca:{name}")
            certificate_id = tx.certificates.add(
                self._row(
                    certificate,
                    name=name,
                    issuer=parent,
                    key=key,
                    cert_type=_ca_type(certificate),
                )
            )
            ca_id = tx.cas.add(
                NewCa(
                    refid=self._ids.new_id(),
                    name=name,
                    certificate_id=certificate_id,
                    parent_id=parent.id if parent else None,
                    key=key,
                    path_length=_path_length(certificate),
                    imported_from=SOURCE,
                )
            )
            self._adopt(tx, tx.cas.get(ca_id))
            subject = subject_text(certificate.subject)
            tx.audit(
                "ca_imported",
                target=Target("ca", ca_id, name),
                subject=subject,
                key=key is not None,
            )
            tx.emit(CaCreated(ca_id=ca_id, subject=subject, imported=True))
        return Imported(certificate_id, ca_id, created=True)

    def _update_authority(
        self,
        tx: StoreTransaction,
        present: CertificateView,
        order: ImportOrder,
        record: KeyRecord | None,
    ) -> Imported:
        """The authority is here already: its key or its name may be what the import adds."""
        ca = tx.cas.by_certificate(present.id)
        if not order.update_existing or ca is None:
            raise _already_here(present)
        changed = []
        if record is not None and ca.key is None:
            key = self._keep(tx, record, purpose=KeyPurpose.CA, label=f"ca:{ca.name}")
            tx.cas.set_key(ca.id, key=key)
            tx.certificates.set_key(present.id, key=key)
            changed.append("key")
        if order.name is not None and order.name != ca.name:
            tx.cas.update(ca.id, name=order.name)
            changed.append("name")
        tx.audit("ca_updated", target=Target("ca", ca.id, ca.name), changed=changed)
        tx.emit(CaUpdated(ca_id=ca.id, changed=tuple(changed)))
        return Imported(present.id, ca.id, created=False)

    def _succeed(
        self,
        tx: StoreTransaction,
        ca: CaView,
        certificate: x509.Certificate,
        order: ImportOrder,
        record: KeyRecord | None,
    ) -> Imported:
        """A certificate that the authority's issuer made anew for the same key: it takes over."""
        if not order.update_existing or certificate.not_valid_before_utc < ca.not_before:
            raise Conflict(
                f"The authority {ca.name!r} is here with a newer certificate for the same key."
                if order.update_existing
                else f"The authority {ca.name!r} is here with another certificate.",
                hint="Send update_existing: true to import a renewed certificate.",
            )
        issuer = tx.cas.find(ca.parent_id) if ca.parent_id is not None else None
        _check_successor(tx, ca, certificate, issuer=issuer)
        key = ca.key
        if key is None:
            key = self._keep(tx, record, purpose=KeyPurpose.CA, label=f"ca:{ca.name}")
        row = self._row(
            certificate, name=ca.name, issuer=issuer, key=key, cert_type=_ca_type(certificate)
        )
        certificate_id = tx.certificates.add(replace(row, renews=ca.certificate_id))
        tx.cas.set_certificate(
            ca.id, certificate_id=certificate_id, key=key, path_length=_path_length(certificate)
        )
        target = Target("ca", ca.id, ca.name)
        tx.audit("ca_updated", target=target, changed=["certificate"], serial=row.serial)
        tx.emit(CaUpdated(ca_id=ca.id, changed=("certificate",)))
        return Imported(certificate_id, ca.id, created=False)

    def _adopt(self, tx: StoreTransaction, ca: CaView) -> None:
        """Link certificates and authorities that came earlier than their issuer."""
        key_id = subject_key_id(ca.certificate)
        if key_id is None:
            return
        for orphan in tx.certificates.orphans_of(key_id):
            if orphan.id == ca.certificate_id:
                continue
            certificate = x509.load_der_x509_certificate(orphan.der)
            if not issued_by(certificate, ca.certificate):
                continue
            tx.certificates.set_issuer(orphan.id, ca_id=ca.id)
            child = tx.cas.by_certificate(orphan.id) if orphan.is_ca else None
            if child is not None and child.parent_id is None:
                tx.cas.set_parent(child.id, parent_id=ca.id)

    # --- end-entity certificates -----------------------------------------------------------------

    def _leaf(self, material: ImportedMaterial, order: ImportOrder, actor: Actor) -> Imported:
        certificate = material.certificate
        names = common_names(certificate.subject)
        name = order.name or (names[0] if names else "")[:255]
        record = self._record(material, order, label=f"certificate:{name}")
        with self._uow.begin(actor) as tx:
            present = tx.certificates.by_thumbprint(_thumbprint(certificate))
            if present is not None:
                return self._update_leaf(tx, present, order, record)
            issuer = self._issuer(tx, certificate, order)
            key = self._keep(tx, record, purpose=KeyPurpose.SUBJECT, label=f"certificate:{name}")
            row = self._row(certificate, name=name, issuer=issuer, key=key, cert_type=SOURCE)
            certificate_id = tx.certificates.add(row)
            tx.audit(
                "certificate_imported",
                target=Target("certificate", certificate_id, name),
                serial=row.serial,
                subject=row.subject,
                key=key is not None,
            )
            tx.emit(
                CertificateImported(
                    certificate_id=certificate_id,
                    ca_id=row.ca_id,
                    serial=row.serial,
                    subject=row.subject,
                )
            )
        return Imported(certificate_id, None, created=True)

    def _update_leaf(
        self,
        tx: StoreTransaction,
        present: CertificateView,
        order: ImportOrder,
        record: KeyRecord | None,
    ) -> Imported:
        if not order.update_existing:
            raise _already_here(present)
        changed = []
        if record is not None and present.key is None:
            label = f"certificate:{present.common_name or present.serial}"
            key = self._keep(tx, record, purpose=KeyPurpose.SUBJECT, label=label)
            tx.certificates.set_key(present.id, key=key)
            changed.append("key")
        if order.name is not None and order.name != present.description:
            tx.certificates.rename(present.id, description=order.name)
            changed.append("description")
        target = Target("certificate", present.id, present.common_name or "")
        tx.audit("certificate_updated", target=target, changed=changed)
        return Imported(present.id, None, created=False)

    # --- both ------------------------------------------------------------------------------------

    def _record(
        self, material: ImportedMaterial, order: ImportOrder, *, label: str
    ) -> KeyRecord | None:
        if material.key is None or not order.import_key:
            return None
        return self._keys.take(material.key, label=label)

    def _keep(
        self, tx: StoreTransaction, record: KeyRecord | None, *, purpose: KeyPurpose, label: str
    ) -> KeyRef | None:
        if record is None:
            return None
        return self._keys.keep(record, purpose=purpose, label=label, tx=tx)

    def _issuer(
        self, tx: Repositories, certificate: x509.Certificate, order: ImportOrder
    ) -> CaView | None:
        found = find_issuer(certificate, tx.cas.all())
        if order.ca_id is not None and (found is None or found.id != order.ca_id):
            named = tx.cas.get(order.ca_id)
            if not issued_by(certificate, named.certificate):
                raise Invalid.field(
                    "/ca_id",
                    "not-the-issuer",
                    f"The authority {named.name!r} did not sign this certificate.",
                    hint="Leave ca_id out; the issuer is found by its key identifier and name.",
                )
            return named
        return found

    def _row(
        self,
        certificate: x509.Certificate,
        *,
        name: str,
        issuer: CaView | None,
        key: KeyRef | None,
        cert_type: str,
    ) -> NewCertificate:
        der = certificate.public_bytes(Encoding.DER)
        spki = spki_of(certificate)
        names = common_names(certificate.subject)
        texts = tuple(str(attribute.value) for attribute in certificate.subject)
        san = names_by_kind(names_in(certificate))
        return NewCertificate(
            refid=self._ids.new_id(),
            description=name,
            ca_id=issuer.id if issuer else None,
            serial=serial_text(certificate.serial_number),
            subject=subject_text(certificate.subject),
            common_name=names[0] if names else None,
            issuer=subject_text(certificate.issuer),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            key_type=key_type_text(certificate, spki),
            signature_algorithm=signature_algorithm_name(certificate.signature_algorithm_oid),
            san_dns=tuple(name.lower() for name in san["dns"]),
            san_ip=san["ip"],
            san_email=san["email"],
            san_uri=san["uri"],
            san_upn=san["upn"],
            subject_key_id=subject_key_id(certificate),
            authority_key_id=authority_key_id(certificate),
            thumbprint_sha256=_thumbprint(certificate),
            thumbprint_sha1=fingerprint(der, algorithm="sha1"),
            spki_sha256=hashlib.sha256(spki).hexdigest(),
            cert_type=cert_type,
            source=SOURCE,
            key_id=key.id if key else None,
            is_ca=cert_type in ("root_ca", "intermediate_ca"),
            state="imported",
            der=der,
            texts=texts,
        )


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether basic constraints say CA:TRUE."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _ca_type(certificate: x509.Certificate) -> str:
    return "root_ca" if certificate.subject == certificate.issuer else "intermediate_ca"


def _same_authority(certificate: x509.Certificate, known: Iterable[CaView]) -> CaView | None:
    """The authority with this name and key whose certificate the same issuer made."""
    spki = spki_of(certificate)
    names = (certificate.subject.public_bytes(), certificate.issuer.public_bytes())
    for ca in known:
        there = ca.certificate
        same_names = names == (there.subject.public_bytes(), there.issuer.public_bytes())
        if same_names and spki_of(there) == spki:
            return ca
    return None


def _check_successor(
    tx: Repositories, ca: CaView, certificate: x509.Certificate, *, issuer: CaView | None
) -> None:
    """Names and a public key can be copied by anybody; only the issuer's signature tells that the
    certificate may stand for the authority. Raises ``Invalid`` (``not-the-issuer``).
    """
    if ca.is_root:
        if issued_by(certificate, certificate):
            return
        signer, hint = "its own key", "Import the certificate that the root signed itself."
    elif issuer is None:
        signer = "an authority that is here"
        hint = "Import the authority that issued it first."
    else:
        if any(issued_by(certificate, known) for known in _certificates_of(tx, issuer)):
            return
        signer = f"its issuer {issuer.name!r}"
        hint = "Import the certificate that this issuer made, or renew the authority here."
    raise Invalid.field(
        "/file",
        "not-the-issuer",
        f"The certificate has the name and the key of the authority {ca.name!r}, but it is not "
        f"signed by {signer}.",
        hint=hint,
    )


def _certificates_of(tx: Repositories, ca: CaView) -> Iterator[x509.Certificate]:
    """The authority's present certificate, then those it had before (other keys included)."""
    yield ca.certificate
    before = tx.certificates.get(ca.certificate_id, der=False).renews
    while before is not None:
        view = tx.certificates.get(before)
        yield x509.load_der_x509_certificate(view.der)
        before = view.renews


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key signed it and the names agree; an algorithm that cannot be verified
    here counts as no."""
    if certificate.issuer.public_bytes() != issuer.subject.public_bytes():
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def find_issuer(certificate: x509.Certificate, authorities: Iterable[CaView]) -> CaView | None:
    """The authority that signed it; none for a self-signed one. Key identifiers are tried first."""
    if issued_by(certificate, certificate):
        return None
    wanted = authority_key_id(certificate)
    candidates = sorted(authorities, key=lambda ca: subject_key_id(ca.certificate) != wanted)
    return next((ca for ca in candidates if issued_by(certificate, ca.certificate)), None)


def key_type_text(certificate: x509.Certificate, spki: bytes) -> str:
    """The ``KeySpec`` of an accepted key, else what can be said about it."""
    try:
        return accepted_spec(spki).value
    except Invalid:
        pass
    try:
        public_key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return certificate.public_key_algorithm_oid.dotted_string
    size = getattr(public_key, "key_size", None)
    kind = type(public_key).__name__.removesuffix("PublicKey").removeprefix("_")
    return f"{kind}-{size}" if size else kind


def names_in(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    """Subject alternative names."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.value)


def _thumbprint(certificate: x509.Certificate) -> str:
    return fingerprint(certificate.public_bytes(Encoding.DER))


def _path_length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _already_here(present: CertificateView) -> Conflict:
    return Conflict(
        f"This certificate is already here (id {present.id}).",
        hint="Send update_existing: true to add its key or change its name.",
        extra={"existing_id": present.id},
    )
