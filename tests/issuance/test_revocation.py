"""Revocation goes through a gate of its own."""

from datetime import timedelta

import pytest

from tests.issuance.conftest import ADMIN, NOW, a_csr, codes, enrollee
from ucm.api.actor import Actor, ActorKind
from ucm.api.errors import Conflict, Forbidden, Invalid, NotFound, PluginUnavailable, PolicyDenied
from ucm.api.events import CertificateRevoked, CertificateUnheld
from ucm.api.issuance import Denial, Operation, Origin, RevocationReason, RevocationRequest
from ucm.api.views import CertificateStatus


@pytest.fixture
def issued(place, root):
    return place.pipeline.issue(place.request(root, a_csr()), actor=ADMIN)


def revoke(place, issued, reason=RevocationReason.SUPERSEDED, *, actor=ADMIN, **more):
    request = RevocationRequest(
        certificate_id=getattr(issued, "id", issued), reason=reason, origin=Origin("api"), **more
    )
    return place.pipeline.revoke(request, actor=actor)


@pytest.mark.parametrize("reason", list(RevocationReason))
def test_every_reason_is_recorded_with_audit_and_event(place, issued, reason):
    place.published.clear()
    view = revoke(place, issued, reason, invalidity_date=NOW - timedelta(days=1), comment="lost")
    on_hold = reason is RevocationReason.CERTIFICATE_HOLD
    status = CertificateStatus.ON_HOLD if on_hold else CertificateStatus.REVOKED
    assert view.status(NOW) is status
    assert view.revocation_reason is reason
    assert view.revoked_at == NOW
    assert view.invalidity_date == NOW - timedelta(days=1)
    row = place.audit("cert_revoked")[-1]
    assert row["success"]
    assert row["details"]["reason"] == reason.value
    assert row["details"]["comment"] == "lost"
    assert [type(e) for e in place.published] == [CertificateRevoked]


def test_a_revoked_certificate_stays_revoked(place, issued):
    revoke(place, issued)
    for reason in (RevocationReason.KEY_COMPROMISE, RevocationReason.CERTIFICATE_HOLD):
        with pytest.raises(Conflict):
            revoke(place, issued, reason)
    with pytest.raises(Conflict, match="not on hold"):
        place.pipeline.unhold(issued.id, actor=ADMIN)


def test_a_hold_is_lifted_or_becomes_final(place, root, issued):
    revoke(place, issued, RevocationReason.CERTIFICATE_HOLD)
    place.published.clear()
    assert place.pipeline.unhold(issued.id, actor=ADMIN).status(NOW) is CertificateStatus.VALID
    assert [type(e) for e in place.published] == [CertificateUnheld]
    assert place.audit("certificate_unheld")
    revoke(place, issued, RevocationReason.CERTIFICATE_HOLD)
    assert revoke(place, issued).status(NOW) is CertificateStatus.REVOKED


def test_a_guard_may_refuse(place, issued):
    place.guards.revocation_denials = [Denial("no", "Still needed.", "Ask its owner.")]
    with pytest.raises(PolicyDenied) as error:
        revoke(place, issued)
    assert codes(error) == {"no"}
    row = place.audit("cert_revoked")[-1]
    assert not row["success"]
    assert row["details"]["denials"] == ["no"]
    with place.uow.read() as reader:
        assert reader.certificates.get(issued.id).revoked_at is None


def test_a_missing_guard_stops_revocation(place, issued):
    place.guards.missing[Operation.REVOKE] = PluginUnavailable("not running")
    with pytest.raises(PluginUnavailable):
        revoke(place, issued)


def test_the_invalidity_date_is_not_in_the_future(place, issued):
    for date in (NOW + timedelta(minutes=6), NOW.replace(tzinfo=None)):
        with pytest.raises(Invalid) as error:
            revoke(place, issued, invalidity_date=date)
        assert error.value.fields[0].pointer == "/invalidity_date"
    assert revoke(place, issued, invalidity_date=NOW + timedelta(minutes=4))


def test_permissions(place, root, issued):
    viewer = Actor(kind=ActorKind.USER, name="v", permissions=frozenset({"read:certificates"}))
    operator = Actor(kind=ActorKind.USER, name="o", permissions=frozenset({"write:certificates"}))
    with pytest.raises(Forbidden):
        revoke(place, issued, actor=viewer)
    with pytest.raises(Forbidden, match="write:cas"):
        revoke(place, root.certificate_id, actor=operator)
    with pytest.raises(Forbidden):
        place.pipeline.unhold(issued.id, actor=viewer)
    assert revoke(place, issued, actor=enrollee("acme"))
    with pytest.raises(NotFound):
        revoke(place, 4711)


# --- authorities ---------------------------------------------------------------------------------


def test_a_revoked_authority_stops_with_the_very_next_request(place, root, issuing):
    place.issue(issuing)
    revoke(place, issuing.certificate_id, reason=RevocationReason.CESSATION_OF_OPERATION)
    with place.signatures_during() as made, pytest.raises(PolicyDenied) as error:
        place.issue(issuing)
    assert made() == 0
    assert codes(error) == {"issuer-revoked"}
    place.issue(root)


def test_nothing_is_issued_below_a_revoked_authority(place, root):
    middle = place.a_ca("Middle", parent=root)
    below = place.a_ca("Below", parent=middle)
    place.issue(below)
    revoke(place, middle.certificate_id, reason=RevocationReason.CESSATION_OF_OPERATION)
    place.clock.advance(timedelta(seconds=11))
    with pytest.raises(PolicyDenied, match="Middle") as error:
        place.issue(below)
    assert codes(error) == {"issuer-revoked"}


def test_a_held_authority_is_not_a_revoked_one(place, root, issuing):
    revoke(place, issuing.certificate_id, reason=RevocationReason.CERTIFICATE_HOLD)
    place.issue(issuing)


def test_a_revoked_root_does_not_renew_itself(place, root):
    revoke(place, root.certificate_id, reason=RevocationReason.SUPERSEDED)
    with place.signatures_during() as made, pytest.raises(PolicyDenied) as error:
        place.pipeline.issue(place.self_renewal(root), actor=ADMIN)
    assert made() == 0
    assert codes(error) == {"issuer-revoked"}
