"""What people order, turned into issuance requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ucm.api.actor import Actor, ActorKind
from ucm.api.csr import CertificateRequest, parse_csr
from ucm.api.errors import FieldError, Invalid, KeyUnavailable, TooLarge
from ucm.api.issuance import CertificateKind, IssuanceRequest, Origin, Profile
from ucm.api.keys import KeyRecord, KeyRef, KeySpec
from ucm.api.names import build_subject, parse_general_name
from ucm.api.views import CertificateView
from ucm.api.x509 import ANY_EKU, EKU_NAMES, eku_oid, key_usage_names
from ucm.domain.validity import MAX_CA_VALIDITY
from ucm.services.imports import spki_of
from ucm.services.key_choice import choose_key
from ucm.services.keys import KeyService

DEFAULT_CERT_TYPE = "server"
DEFAULT_KEY = KeySpec.EC_P256
MAX_LEAF_DAYS = 3650
MAX_CSR = 64 * 1024


def origin_of(actor: Actor) -> Origin:
    """By which way an operator asks: on the command line, or over the API."""
    return Origin("cli" if actor.kind is ActorKind.CLI else "api", actor.name)


def purposes() -> dict[str, str]:
    """The extended key usages that may be asked for: OID to name."""
    return {oid: name for oid, name in EKU_NAMES.items() if oid != ANY_EKU}


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectOrder:
    """Subject attributes by the names of the API; ``None`` is left out."""

    common_name: str | None = None
    organization: str | None = None
    organizational_unit: str | None = None
    country: str | None = None
    state: str | None = None
    locality: str | None = None

    def name(self) -> x509.Name | None:
        """The name, ``None`` when nothing is given. Raises ``Invalid`` at the field's pointer."""
        pairs = [
            (short, value)
            for short, value in (
                ("C", self.country),
                ("ST", self.state),
                ("L", self.locality),
                ("O", self.organization),
                ("OU", self.organizational_unit),
                ("CN", self.common_name),
            )
            if value is not None
        ]
        return build_subject(pairs) if pairs else None


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateOrder:
    """An end-entity certificate. With ``csr`` (PEM or DER) the key fields must be left out.

    ``names`` are typed texts (``dns:www.example.com``), ``names_by_kind`` plain ones by kind.
    """

    ca_id: int
    csr: bytes | None = field(default=None, repr=False)
    subject: SubjectOrder = field(default_factory=SubjectOrder)
    email: str | None = None
    names: tuple[str, ...] = ()
    names_by_kind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    key_type: str | None = None
    key_size: int | str | None = None
    curve: str | None = None
    key_backend: str | None = None
    template_id: int | None = None
    cert_type: str | None = None
    validity_days: int | None = None
    extra_ekus: tuple[str, ...] = ()
    must_staple: bool = False
    description: str = ""
    comment: str = ""
    idempotency_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RenewalOrder:
    """A successor of a certificate.

    ``new_key``: ``True`` makes one, ``False`` certifies the same key again, ``None`` makes one when
    the present key is kept here. ``csr`` brings the requester's own new key instead.
    """

    certificate_id: int
    validity_days: int | None = None
    csr: bytes | None = field(default=None, repr=False)
    new_key: bool | None = None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key made for an order, not stored yet."""

    record: KeyRecord
    public_key: bytes = field(repr=False)


def make_key(keys: KeyService, spec: KeySpec, *, label: str, backend: str | None = None) -> MadeKey:
    """Make a key outside of any unit. Raises ``Unsupported``, ``KeyUnavailable``, ``SafeMode``, and
    ``Invalid`` for a ``backend`` that no running plugin offers.
    """
    if backend is not None:
        try:
            keys.backend(backend)
        except KeyUnavailable as absent:
            # The caller chose the name: trying again later does not make it right.
            raise Invalid.field(
                "/key_backend",
                "unknown-backend",
                absent.detail,
                hint="GET /api/v2/plugins lists the plugins; leave the field out for the default.",
            ) from None
    record = keys.make(spec, label=label, backend=backend)
    with keys.open_record(record) as opened:
        spki = opened.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return MadeKey(record, spki)


def names_of(order: CertificateOrder) -> tuple[x509.GeneralName, ...] | None:
    """Every ordered name once, in canonical form; ``None`` when no name was ordered.

    Raises ``Invalid`` (``invalid-san``) at the field's pointer.
    """
    names = [parse_general_name(t, pointer=f"/san/{i}") for i, t in enumerate(order.names)]
    for kind, texts in order.names_by_kind.items():
        names += [
            parse_general_name(f"{kind}:{text}", pointer=f"/san_{kind}/{index}")
            for index, text in enumerate(texts)
        ]
    if order.email is not None:
        names.append(parse_general_name(f"email:{order.email}", pointer="/email"))
    return tuple(dict.fromkeys(names)) or None


def ekus_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Dotted OIDs of extra purposes, given by name or OID. Raises ``Invalid``."""
    oids = [eku_oid(text, pointer=f"/extra_ekus/{index}") for index, text in enumerate(texts)]
    if ANY_EKU in oids:
        raise Invalid.field(
            f"/extra_ekus/{oids.index(ANY_EKU)}",
            "unrestricted",
            "anyExtendedKeyUsage would let the certificate be used for everything.",
            hint="Name the purposes; GET /api/v2/eku/known lists them.",
        )
    return tuple(dict.fromkeys(oids))


def profile_of(template_id: int | None, cert_type: str | None) -> str | int:
    """The template, else the built-in profile of the type."""
    return template_id if template_id is not None else (cert_type or DEFAULT_CERT_TYPE)


def days(number: int | None, *, pointer: str = "/validity_days") -> timedelta | None:
    """A validity. Raises ``Invalid`` at ``pointer`` for a number that no calendar holds; which
    validity is allowed is decided with the profile.
    """
    if number is None:
        return None
    try:
        return timedelta(days=number)
    except OverflowError:
        raise Invalid.field(
            pointer,
            "validity-too-long",
            f"{number} days is no validity.",
            hint=f"End-entity certificates have 1 to {MAX_LEAF_DAYS} days, those of authorities up "
            f"to {MAX_CA_VALIDITY.days}.",
        ) from None


def csr_of_order(order: CertificateOrder) -> CertificateRequest | None:
    """The order's request, parsed and its possession proved.

    Raises ``Invalid`` when it is not acceptable, or comes together with wishes for a key.
    """
    if order.csr is None:
        return None
    for pointer, value in (
        ("/key_type", order.key_type),
        ("/key_size", order.key_size),
        ("/curve", order.curve),
        ("/key_backend", order.key_backend),
    ):
        if value is not None:
            raise Invalid.field(
                pointer,
                "key-and-csr",
                "A CSR brings its own public key; the server makes none then.",
                hint="Leave out either csr or the key fields.",
            )
    return parsed_csr(order.csr)


def parsed_csr(data: bytes) -> CertificateRequest:
    """A request of at most 64 KiB. Raises ``TooLarge`` or ``Invalid`` at ``/csr``."""
    if len(data) > MAX_CSR:
        raise TooLarge(
            f"A CSR has at most {MAX_CSR // 1024} KiB; this one has {len(data)} bytes.",
            fields=[FieldError("/csr", "too-large", "The CSR is too large.")],
        )
    return parse_csr(data)


def key_spec_of_order(order: CertificateOrder, *, template_key: str | None) -> KeySpec:
    """The key to make: as ordered, else as the template says, else EC-P256. Raises ``Invalid``."""
    default = KeySpec(template_key) if template_key else DEFAULT_KEY
    return choose_key(order.key_type, size=order.key_size, curve=order.curve, default=default)


def request_of(
    order: CertificateOrder,
    *,
    origin: Origin,
    csr: CertificateRequest | None,
) -> IssuanceRequest:
    """The issuance request of an order, still without a key to be made. Raises ``Invalid``."""
    subject, names = order.subject.name(), names_of(order)
    if csr is None and subject is None and names is None:
        raise Invalid.field(
            "/cn", "no-name", "The certificate needs a common name (cn) or a name in san."
        )
    return IssuanceRequest(
        origin=origin,
        ca_id=order.ca_id,
        profile=profile_of(order.template_id, order.cert_type),
        csr=csr,
        subject=subject,
        names=names,
        validity=days(order.validity_days),
        extra_ekus=ekus_of(order.extra_ekus),
        must_staple=order.must_staple,
        description=order.description,
        comment=order.comment,
        idempotency_key=order.idempotency_key,
    )


def renewal_of(
    old: CertificateView,
    order: RenewalOrder,
    *,
    csr: CertificateRequest | None,
    new_key: bool,
) -> IssuanceRequest:
    """The request for a successor with the old one's subject, names, usages and duration, within
    what its template allows now.
    """
    certificate = x509.load_der_x509_certificate(old.der)
    same_key = csr is None and not new_key
    stored: KeyRef | None = old.key if same_key else None
    duration = old.not_after - old.not_before
    return IssuanceRequest(
        origin=Origin("renewal"),
        ca_id=old.ca_id,
        profile=_as_issued(old, certificate, duration),
        csr=csr,
        public_key=spki_of(certificate) if same_key else None,
        key=stored,
        subject=certificate.subject,
        names=_names_in(certificate),
        validity=days(order.validity_days),
        must_staple=old.must_staple,
        renews=old.id,
        description=old.description,
    )


def _as_issued(old: CertificateView, certificate: x509.Certificate, duration: timedelta) -> Profile:
    """A profile that says what the old certificate says, so that nothing is gained or lost;
    what its template says about keys, lifetime, digest and subject goes before.
    """
    usages: frozenset[str] = frozenset()
    purposes: tuple[str, ...] = ()
    critical = no_check = False
    for extension in certificate.extensions:
        match extension.value:
            case x509.KeyUsage():
                usages = frozenset(key_usage_names(extension.value))
            case x509.ExtendedKeyUsage():
                purposes = tuple(oid.dotted_string for oid in extension.value)
                critical = extension.critical
            case x509.OCSPNoCheck():
                no_check = True
            case _:
                pass
    return Profile(
        name=old.cert_type,
        kind=CertificateKind.END_ENTITY,
        template_id=old.template_id,
        key_usage=usages,
        extended_key_usage=purposes,
        extended_key_usage_critical=critical,
        san_types=frozenset({"dns", "ip", "email", "uri", "upn", "dirname", "rid", "other"}),
        default_validity=min(duration, timedelta(days=MAX_LEAF_DAYS)),
        ocsp_no_check=no_check,
    )


def _names_in(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.value)
