"""Guard hooks: every answer counts, every error stops the operation, none is swallowed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from ucm.api import hookimpl
from ucm.api.actor import Actor
from ucm.api.errors import Conflict, PluginUnavailable
from ucm.api.issuance import (
    CertificateDraft,
    Denial,
    DraftPatch,
    Hold,
    IssuanceRequest,
    Origin,
    RevocationReason,
    RevocationRequest,
)
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.views import CaView, CertificateView
from ucm.testing.hosting import a_manifest, a_running_host, state_of

REQUEST = IssuanceRequest(origin=Origin("api"), ca_id=1, profile="server", public_key=b"spki")
ACTOR = Actor.system()
REVOCATION = RevocationRequest(
    certificate_id=1, reason=RevocationReason.SUPERSEDED, origin=Origin("api")
)
REF = KeyRef(1, KeyPurpose.CA)


class Guard:
    """Answers every guard hook with what the test gives it, or raises it."""

    def __init__(self, name: str, answer: object) -> None:
        self.manifest = a_manifest(name)
        self._answer = answer
        self.seen: list[tuple[object, ...]] = []

    def _reply(self, *seen: object):
        self.seen.append(seen)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    @hookimpl
    def ucm_before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> Iterable[Denial | Hold] | None:
        return self._reply(request, actor, ca)

    @hookimpl
    def ucm_amend_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> DraftPatch | None:
        return self._reply(draft, request, ca)

    @hookimpl
    def ucm_check_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> Iterable[Denial] | None:
        return self._reply(draft, request, ca)

    @hookimpl
    def ucm_before_revoke(
        self, request: RevocationRequest, actor: Actor, certificate: CertificateView
    ) -> Iterable[Denial] | None:
        return self._reply(request, actor, certificate)

    @hookimpl
    def ucm_before_key_use(
        self, ref: KeyRef, purpose: KeyPurpose, actor: Actor
    ) -> Iterable[Denial] | None:
        return self._reply(ref, purpose, actor)


DENIAL = Denial("no-friday", "Nothing is issued on a Friday.", hint="Come back on Monday.")
OTHER = Denial("too-short", "The name is too short.")
ASK = {
    "ucm_before_issue": lambda d: d.before_issue(REQUEST, ACTOR, None),
    "ucm_check_draft": lambda d: d.check_draft("draft", REQUEST, None),
    "ucm_before_revoke": lambda d: d.before_revoke(REVOCATION, ACTOR, "certificate"),
    "ucm_before_key_use": lambda d: d.before_key_use(REF, KeyPurpose.CA, ACTOR),
}
ARGUMENTS = {
    "ucm_before_issue": (REQUEST, ACTOR, None),
    "ucm_check_draft": ("draft", REQUEST, None),
    "ucm_before_revoke": (REVOCATION, ACTOR, "certificate"),
    "ucm_before_key_use": (REF, KeyPurpose.CA, ACTOR),
}


@pytest.mark.parametrize("hook", sorted(ASK))
class TestDenying:
    """ucm_before_issue, ucm_check_draft, ucm_before_revoke, ucm_before_key_use."""

    def test_all_denials_of_all_plugins_come_back_in_start_order(self, hook):
        host = a_running_host(
            Guard("one", [DENIAL]), Guard("two", None), Guard("three", [OTHER, DENIAL])
        )
        assert ASK[hook](host.dispatcher) == (DENIAL, OTHER, DENIAL)

    def test_the_plugin_sees_what_the_pipeline_passes(self, hook):
        guard = Guard("one", None)
        ASK[hook](a_running_host(guard).dispatcher)
        assert guard.seen == [ARGUMENTS[hook]]

    def test_an_unexpected_error_stops_the_operation_and_hides_its_text(self, hook):
        host = a_running_host(Guard("one", RuntimeError("password 1234")), Guard("two", None))
        with pytest.raises(PluginUnavailable) as caught:
            ASK[hook](host.dispatcher)
        assert "'one'" in caught.value.detail
        assert "1234" not in caught.value.detail
        assert state_of(host, "one").state == "degraded"

    def test_an_error_of_the_domain_rises_as_it_is(self, hook):
        host = a_running_host(Guard("one", Conflict("Busy.")))
        with pytest.raises(Conflict, match="Busy"):
            ASK[hook](host.dispatcher)

    def test_an_answer_of_the_wrong_type_stops_the_operation(self, hook):
        host = a_running_host(Guard("one", ["denied"]))
        with pytest.raises(PluginUnavailable):
            ASK[hook](host.dispatcher)

    def test_a_generator_that_breaks_half_way_stops_the_operation(self, hook):
        def half():
            yield DENIAL
            raise RuntimeError

        host = a_running_host(Guard("one", half()))
        with pytest.raises(PluginUnavailable):
            ASK[hook](host.dispatcher)


class TestUcmBeforeIssue:
    def test_ucm_before_issue_may_hold(self):
        hold = Hold("two people must agree", policy="four-eyes")
        host = a_running_host(Guard("one", [hold]))
        assert host.dispatcher.before_issue(REQUEST, ACTOR, None) == (hold,)


class TestUcmCheckDraft:
    def test_ucm_check_draft_cannot_hold(self):
        host = a_running_host(Guard("one", [Hold("later")]))
        with pytest.raises(PluginUnavailable):
            host.dispatcher.check_draft("draft", REQUEST, None)


class TestUcmBeforeRevoke:
    def test_ucm_before_revoke_cannot_hold(self):
        host = a_running_host(Guard("one", [Hold("later")]))
        with pytest.raises(PluginUnavailable):
            host.dispatcher.before_revoke(REVOCATION, ACTOR, "certificate")


class TestUcmBeforeKeyUse:
    def test_ucm_before_key_use_cannot_hold(self):
        host = a_running_host(Guard("one", [Hold("later")]))
        with pytest.raises(PluginUnavailable):
            host.dispatcher.before_key_use(REF, KeyPurpose.CA, ACTOR)


class TestUcmAmendDraft:
    def test_ucm_amend_draft(self):
        patch = DraftPatch(not_after=datetime(2030, 1, 1, tzinfo=UTC))
        guard = Guard("one", patch)
        host = a_running_host(guard, Guard("two", None))
        assert host.dispatcher.amend_draft("draft", REQUEST, None) == (patch,)
        assert guard.seen == [("draft", REQUEST, None)]

    def test_a_denial_is_no_patch(self):
        host = a_running_host(Guard("one", DENIAL))
        with pytest.raises(PluginUnavailable):
            host.dispatcher.amend_draft("draft", REQUEST, None)


def test_tryfirst_and_trylast_order_the_answers():
    class First(Guard):
        @hookimpl(tryfirst=True)
        def ucm_before_issue(self, actor: Actor) -> Iterable[Denial | Hold] | None:
            return [OTHER]

    class Last(Guard):
        @hookimpl(trylast=True)
        def ucm_before_issue(self, actor: Actor) -> Iterable[Denial | Hold] | None:
            return [DENIAL]

    host = a_running_host(Last("last", None), First("first", None))
    assert host.dispatcher.before_issue(REQUEST, ACTOR, None) == (OTHER, DENIAL)


def test_a_stopped_plugin_is_not_asked():
    guard = Guard("one", [DENIAL])
    host = a_running_host(guard)
    host.stop()
    assert host.dispatcher.before_issue(REQUEST, ACTOR, None) == ()
    assert guard.seen == []
