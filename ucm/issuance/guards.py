"""What the issuance gate asks of plugins. The runtime's dispatcher implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ucm.api.actor import Actor
from ucm.api.issuance import (
    CertificateDraft,
    Denial,
    DraftPatch,
    Hold,
    IssuanceRequest,
    Operation,
    RevocationRequest,
)
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.views import CaView, CertificateView


class Guards(Protocol):
    """Every answer counts and no error is swallowed: a guard that fails stops the operation."""

    def require(self, operation: Operation) -> None:
        """Raises ``PluginUnavailable`` when a plugin that must be asked is not running."""
        ...

    def before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> Sequence[Denial | Hold]:
        """May this be issued at all?"""
        ...

    def amend_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> Sequence[DraftPatch]:
        """What plugins add to the draft."""
        ...

    def check_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> Sequence[Denial]:
        """Last word on the final draft."""
        ...

    def before_revoke(
        self, request: RevocationRequest, actor: Actor, certificate: CertificateView
    ) -> Sequence[Denial]:
        """May it be revoked?"""
        ...

    def before_key_use(self, ref: KeyRef, purpose: KeyPurpose, actor: Actor) -> Sequence[Denial]:
        """May this key sign now?"""
        ...
