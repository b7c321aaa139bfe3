"""The core's own reasons to refuse, before plugins are asked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cryptography import x509

from ucm.api.actor import Actor, ActorKind
from ucm.api.errors import CaOffline, Conflict, Forbidden, Invalid
from ucm.api.issuance import CertificateDraft, CertificateKind, Denial, IssuanceRequest, Profile
from ucm.api.keys import KeyPurpose, KeySpec
from ucm.api.names import general_name_text
from ucm.api.publickeys import accepted_spec
from ucm.api.views import CaView, CertificateView
from ucm.domain.nameconstraints import Violation, violations
from ucm.issuance.drafting import Applicant
from ucm.issuance.issuer import Issuer

OPERATOR_ORIGINS = frozenset({"api", "cli", "csr", "renewal"})
"""Ways in which people with an account ask. Every other origin is a protocol's."""

ISSUER_EXPIRED = "issuer-expired"
ISSUER_REVOKED = "issuer-revoked"

_BY_HAND = frozenset({"api", "cli", "csr"})

_TRUSTED_ACTORS = frozenset({ActorKind.SYSTEM, ActorKind.JOB, ActorKind.CLI})


def is_enrollee(request: IssuanceRequest, actor: Actor) -> bool:
    """Whether the request comes from a protocol's client, who chooses within narrow bounds only.

    A plugin's own certificates (responders, RAs) are asked for by jobs and the system.
    """
    if actor.kind is ActorKind.PROTOCOL:
        return True
    return request.origin.kind not in OPERATOR_ORIGINS and actor.kind not in _TRUSTED_ACTORS


def check_permission(profile: Profile, actor: Actor) -> None:
    """Raises ``Forbidden``. An authority's certificate needs a permission of its own."""
    is_ca = profile.kind is not CertificateKind.END_ENTITY
    permission = "write:cas" if is_ca else "write:certificates"
    if not actor.may(permission):
        raise Forbidden(
            f"This needs the permission {permission}.",
            hint="Ask an administrator for a role that has it.",
        )


def check_in_service(ca: CaView) -> None:
    """Offline and inactive authorities sign nothing, not even for themselves.

    Raises ``CaOffline`` or ``Conflict``.
    """
    if ca.offline:
        raise CaOffline(
            f"The authority {ca.name!r} is offline; nothing can be signed with its key.",
            hint="It is marked offline in the database and stays so; choose another authority.",
        )
    if not ca.is_active:
        raise Conflict(
            f"The authority {ca.name!r} is not active.", hint="Activate it or choose another."
        )


def check_usable(ca: CaView) -> None:
    """The gate for every signature of an authority. Raises ``CaOffline`` or ``Conflict``."""
    check_in_service(ca)
    if ca.key is None:
        raise Conflict(
            f"UCM has no private key of the authority {ca.name!r}; it was imported without one.",
            hint="Import its key or choose another authority.",
        )


def public_key_of(request: IssuanceRequest) -> tuple[bytes, KeySpec]:
    """The key to certify and its kind. Raises ``Invalid`` for weak and foreign keys."""
    if (request.csr is None) == (request.public_key is None):
        raise Invalid("Exactly one of a signing request and a public key is needed.")
    if request.csr is not None:
        return request.csr.public_key, request.csr.key_spec
    spki = request.public_key or b""
    return spki, accepted_spec(spki)


def check_kind(request: IssuanceRequest, profile: Profile) -> None:
    """Kind, issuer and parameters must fit together. Raises ``Invalid``."""
    kind = profile.kind
    if (kind is CertificateKind.ROOT_CA) != (request.ca_id is None):
        raise Invalid.field(
            "/ca_id",
            "issuer-mismatch",
            "A root is self-signed and has no issuer; every other certificate needs one.",
        )
    if kind is CertificateKind.END_ENTITY and request.ca_parameters is not None:
        raise Invalid.field(
            "/path_length",
            "ca-parameters-on-leaf",
            "Path length, constraints and policies of authorities do not go into end-entity "
            "certificates (RFC 5280 4.2.1.9).",
        )
    if request.key is not None and request.new_key is not None:
        raise Invalid("A certificate has either a stored key or a new one.")
    if request.key is not None and (request.key.purpose is KeyPurpose.CA) != (
        kind is not CertificateKind.END_ENTITY
    ):
        raise Invalid.field(
            "/key",
            "key-purpose",
            f"The key {request.key.id} is kept for the purpose {request.key.purpose.value!r}; "
            "authorities and end entities never share a key.",
            hint="Make a key of its own for the certificate.",
        )
    if kind is CertificateKind.ROOT_CA and request.key is None and request.new_key is None:
        raise Invalid("A self-signed root needs its private key.")


def denials(
    applicant: Applicant, *, compromised: bool, issuer: Issuer | None, now: datetime
) -> Iterable[Denial]:
    """Reasons that do not depend on the names."""
    profile, spec = applicant.profile, applicant.key_spec
    if profile.protocol_only and applicant.request.origin.kind in _BY_HAND:
        yield Denial(
            "profile-for-protocols",
            f"The profile {profile.name!r} serves its protocol only.",
            "Choose another profile.",
            "/profile",
        )
    if compromised:
        yield Denial(
            "key-compromised",
            "A certificate with this key was revoked because the key is compromised (BR 6.1.1.3).",
            "Make a new key.",
            "/csr",
        )
    if profile.key_types and spec not in profile.key_types:
        allowed = ", ".join(s.value for s in KeySpec if s in profile.key_types)
        yield Denial(
            "key-type-not-allowed",
            f"A key of the kind {spec.value} is not allowed by {profile.name!r}.",
            f"Use one of {allowed}.",
            "/key_type",
        )
    if issuer is not None and issuer.revoked is not None:
        yield Denial(
            ISSUER_REVOKED,
            f"The certificate of the authority {issuer.revoked!r} is revoked; nobody would trust "
            "what is issued below it (RFC 5280 6.1.3 a 3).",
            "Choose another authority, or have this one certified anew.",
            "/ca_id",
        )
    if issuer is not None and not issuer.ca.not_before <= now < issuer.ca.not_after:
        yield Denial(
            ISSUER_EXPIRED,
            f"The certificate of the authority {issuer.ca.name!r} is not valid now.",
            "Renew the authority.",
            "/ca_id",
        )


def constraint_denials(
    draft: CertificateDraft, *, issuer: Issuer | None, renewed: CertificateView | None
) -> tuple[list[Denial], list[Violation]]:
    """Names outside the constraints of the chain, and those tolerated because the certificate that
    is renewed by the same authority already had them: a constraint that came later must not strand
    it.
    """
    if issuer is None:
        return [], []
    broken = violations(issuer.constraints, subject=draft.subject, names=draft.names)
    tolerated: list[Violation] = []
    if broken and renewed is not None and renewed.ca_id == issuer.ca.id:
        before = _names_of(renewed)
        tolerated = [v for v in broken if v.name in before]
    refused = [
        Denial(
            "name-constraint",
            f"{v.name} is outside the name constraints of {v.authority} ({v.rule}).",
            "Use names within the constraints, or another authority.",
            "/san",
        )
        for v in broken
        if v not in tolerated
    ]
    return refused, tolerated


def _names_of(view: CertificateView) -> frozenset[str]:
    certificate = x509.load_der_x509_certificate(view.der)
    names = {general_name_text(x509.DirectoryName(certificate.subject))}
    for kind, values in (
        ("dns", view.san_dns),
        ("ip", view.san_ip),
        ("email", view.san_email),
        ("uri", view.san_uri),
        ("upn", view.san_upn),
    ):
        names.update(f"{kind}:{value}" for value in values)
    if view.common_name:
        names.add(f"dns:{view.common_name.lower()}")
        names.add(f"ip:{view.common_name}")
    return frozenset(names)
