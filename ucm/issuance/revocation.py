"""Revocation, holds, and lifting them (RFC 5280 5.3.1)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ucm.api.actor import Actor
from ucm.api.errors import Forbidden, Invalid, PolicyDenied
from ucm.api.events import CertificateRevoked, CertificateUnheld
from ucm.api.issuance import Operation, RevocationRequest
from ucm.api.services import Clock, Target
from ucm.api.views import CertificateView
from ucm.issuance.guards import Guards
from ucm.store.uow import UnitOfWork

_CLOCK_SKEW = timedelta(minutes=5)


def revoke(
    request: RevocationRequest, *, actor: Actor, uow: UnitOfWork, guards: Guards, clock: Clock
) -> CertificateView:
    """Revoke or hold one certificate, by the door of the pipeline."""
    guards.require(Operation.REVOKE)
    now = clock.now().replace(microsecond=0)
    with uow.read() as reader:
        certificate = reader.certificates.get(request.certificate_id)
    _check_permission(certificate, actor)
    invalidity = request.invalidity_date
    if invalidity is not None:
        if invalidity.tzinfo is None:
            raise Invalid.field(
                "/invalidity_date", "naive-time", "The date needs a time zone; write it in UTC."
            )
        if invalidity > now + _CLOCK_SKEW:
            raise Invalid.field(
                "/invalidity_date",
                "invalidity-in-future",
                "The invalidity date says since when the key is suspect; it cannot be in the "
                "future (RFC 5280 5.3.2).",
            )
        invalidity = invalidity.replace(microsecond=0)
    denials = guards.before_revoke(request, actor, certificate)
    if denials:
        with uow.begin(actor) as tx:
            tx.audit(
                "cert_revoked",
                target=_target(certificate),
                success=False,
                reason=request.reason.value,
                origin=str(request.origin),
                denials=[denial.code for denial in denials],
            )
        refusal = PolicyDenied(denials)
        refusal.audited = True
        raise refusal
    with uow.begin(actor) as tx:
        tx.certificates.revoke(
            certificate.id, reason=request.reason, at=now, invalidity_date=invalidity
        )
        facts: dict[str, Any] = {"comment": request.comment} if request.comment else {}
        tx.audit(
            "cert_revoked",
            target=_target(certificate),
            reason=request.reason.value,
            serial=certificate.serial,
            ca_id=certificate.ca_id,
            origin=str(request.origin),
            **facts,
        )
        tx.emit(
            CertificateRevoked(
                certificate_id=certificate.id,
                ca_id=certificate.ca_id,
                serial=certificate.serial,
                reason=request.reason.value,
                revoked_at=now,
            )
        )
        return tx.certificates.get(certificate.id)


def unhold(certificate_id: int, *, actor: Actor, uow: UnitOfWork) -> CertificateView:
    """Lift a hold."""
    with uow.read() as reader:
        certificate = reader.certificates.get(certificate_id)
    _check_permission(certificate, actor)
    with uow.begin(actor) as tx:
        tx.certificates.unhold(certificate_id)
        tx.audit(
            "certificate_unheld",
            target=_target(certificate),
            serial=certificate.serial,
            ca_id=certificate.ca_id,
        )
        tx.emit(
            CertificateUnheld(
                certificate_id=certificate.id,
                ca_id=certificate.ca_id,
                serial=certificate.serial,
            )
        )
        return tx.certificates.get(certificate_id)


def _check_permission(certificate: CertificateView, actor: Actor) -> None:
    permission = "write:cas" if certificate.is_ca else "write:certificates"
    if not actor.may(permission):
        raise Forbidden(f"Revoking this certificate needs the permission {permission}.")


def _target(certificate: CertificateView) -> Target:
    return Target("certificate", certificate.id, certificate.common_name or certificate.description)
