"""The door to an authority's signature as a plugin has it."""

from __future__ import annotations

from ucm.api.actor import Actor
from ucm.api.issuance import IssuanceRequest, IssuanceResult, RevocationRequest
from ucm.api.services import Issuance, Keys, OnStored
from ucm.api.views import CertificateView
from ucm.store.plugin_units import of_plugin


class PluginIssuance:
    """Implements ``ucm.api.services.Issuance`` for one plugin, whose keys are ``keys``.

    A stored key is named by its number alone, so that whose it is must be asked before it is kept
    with a certificate, and with it given to whoever may export that certificate.
    """

    def __init__(self, issuance: Issuance, *, keys: Keys) -> None:
        self._issuance = issuance
        self._keys = keys

    def issue(
        self, request: IssuanceRequest, *, actor: Actor, on_stored: OnStored | None = None
    ) -> IssuanceResult:
        """As the core's; ``Forbidden`` for a ``key`` that is not the plugin's own."""
        if request.key is not None:
            self._keys.record(request.key)
        return self._issuance.issue(request, actor=actor, on_stored=of_plugin(on_stored))

    def resume(
        self,
        request_id: int,
        *,
        actor: Actor,
        approvals: tuple[int, ...] = (),
        on_stored: OnStored | None = None,
    ) -> IssuanceResult:
        """As the core's."""
        return self._issuance.resume(
            request_id, actor=actor, approvals=approvals, on_stored=of_plugin(on_stored)
        )

    def reject(self, request_id: int, *, actor: Actor, reason: str) -> None:
        """As the core's."""
        self._issuance.reject(request_id, actor=actor, reason=reason)

    def revoke(self, request: RevocationRequest, *, actor: Actor) -> CertificateView:
        """As the core's."""
        return self._issuance.revoke(request, actor=actor)

    def unhold(self, certificate_id: int, *, actor: Actor) -> CertificateView:
        """As the core's."""
        return self._issuance.unhold(certificate_id, actor=actor)
