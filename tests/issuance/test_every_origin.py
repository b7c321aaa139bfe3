"""No way to a certificate leads round the gate, also none that a plugin adds later.

Every registered protocol and every way of the core issues with a denying guard, a failing lint and
an offline authority, and is refused each time; nothing is signed.
"""

from collections.abc import Iterable

import pytest

from tests.issuance.conftest import ADMIN, a_csr, enrollee
from ucm.api import PluginContext, ProtocolInfo, hookimpl
from ucm.api.actor import Actor
from ucm.api.csr import parse_csr
from ucm.api.errors import CaOffline, Conflict, LintFailed, PluginUnavailable, PolicyDenied
from ucm.api.issuance import (
    CertificateDraft,
    Denial,
    Hold,
    IssuanceRequest,
    IssuedCertificate,
    Operation,
    Origin,
    RevocationReason,
)
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.lint import Lint, LintFinding, Severity
from ucm.api.views import CaView
from ucm.issuance.policy import OPERATOR_ORIGINS
from ucm.runtime.discovery import discover
from ucm.store import tables
from ucm.testing.builders import a_ca
from ucm.testing.hosting import a_manifest


def rehearsal(kind):
    """How the protocol plugins will ask: a request made from a CSR."""

    def rehearse(ca_id, csr):
        return IssuanceRequest(
            origin=Origin(kind, "client-1"), ca_id=ca_id, profile="server", csr=parse_csr(csr)
        )

    return rehearse


PROTOCOLS = [
    ProtocolInfo(id=kind, title=kind, standard="", rehearse=rehearsal(kind))
    for kind in (*sorted(OPERATOR_ORIGINS), "acme", "scep", "est", "cmp", "of-tomorrow")
]


def ways():
    return [pytest.param(p.rehearse, id=p.id) for p in PROTOCOLS]


def deny(place, ca):
    place.guards.answers = [Denial("no", "Not this one.")]
    return PolicyDenied


def deny_the_draft(place, ca):
    place.guards.last_words = [Denial("no", "Not this one.")]
    return PolicyDenied


def deny_the_key(place, ca):
    place.guards.key_denials = [Denial("no", "Not this key.")]
    return PolicyDenied


def fail_the_lint(place, ca):
    finding = LintFinding("house", Severity.ERROR, "no", "")
    place.lints.append(Lint("house", "", lambda certificate, draft: [finding]))
    return LintFailed


def revoke_it(place, ca):
    with place.uow.begin(ADMIN) as tx:
        tx.certificates.revoke(
            ca.certificate_id, reason=RevocationReason.SUPERSEDED, at=place.clock.now()
        )
    return PolicyDenied


def take_offline(place, ca):
    with place.uow.begin(ADMIN) as tx:
        tx.cas.set_offline(ca.id, offline=True)
    return CaOffline


def lose_the_guard(place, ca):
    place.guards.missing[Operation.ISSUE] = PluginUnavailable("the guard is not running")
    return PluginUnavailable


OBSTACLES = [
    deny,
    deny_the_draft,
    deny_the_key,
    fail_the_lint,
    take_offline,
    revoke_it,
    lose_the_guard,
]


def actor_for(request):
    return ADMIN if request.origin.kind in OPERATOR_ORIGINS else enrollee(request.origin.kind)


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("rehearse", ways())
@pytest.mark.parametrize("local", [True, False], ids=["local-key", "remote-key"])
def test_every_origin_is_refused(place, root, rehearse, obstacle, local):
    place.backend.local = local
    error = obstacle(place, root)
    request = rehearse(root.id, a_csr())
    certificates = place.count(tables.certificate)
    with place.signatures_during() as made, pytest.raises(error):
        place.pipeline.issue(request, actor=actor_for(request))
    assert made() == 0
    assert place.count(tables.certificate) == certificates
    refusal = place.audit("certificate_refused")[-1]
    assert not refusal["success"]
    assert refusal["details"]["origin"] == str(request.origin)


@pytest.mark.parametrize("new_key", [False, True], ids=["own-key", "new-key"])
@pytest.mark.parametrize(
    ("obstacle", "error"),
    [
        (lambda tx, root: tx.cas.set_offline(root.id, offline=True), CaOffline),
        (lambda tx, root: tx.cas.update(root.id, is_active=False), Conflict),
    ],
    ids=["offline", "inactive"],
)
def test_a_root_out_of_service_does_not_renew_itself(place, root, obstacle, error, new_key):
    with place.uow.begin(ADMIN) as tx:
        obstacle(tx, root)
    certificates = place.count(tables.certificate)
    with place.signatures_during() as made, pytest.raises(error):
        place.pipeline.issue(place.self_renewal(root, new_key=new_key), actor=ADMIN)
    assert made() == 0
    assert place.count(tables.certificate) == certificates
    assert place.audit("certificate_refused")[-1]["details"]["error"] == error.code


def test_a_root_in_service_renews_itself(place, root):
    assert isinstance(
        place.pipeline.issue(place.self_renewal(root), actor=ADMIN), IssuedCertificate
    )


@pytest.mark.parametrize("rehearse", ways())
def test_every_origin_passes_without_an_obstacle(place, root, rehearse):
    request = rehearse(root.id, a_csr())
    issued = place.pipeline.issue(request, actor=actor_for(request))
    assert isinstance(issued, IssuedCertificate)
    assert place.guards.asked[-4:] == [
        "before_issue",
        "amend_draft",
        "check_draft",
        "before_key_use",
    ]


# --- with the whole installation, and whatever plugins it has ------------------------------------


class Obstacles:
    """A plugin that refuses by one of its hooks, as told."""

    def __init__(self):
        self.manifest = a_manifest("obstacles", guards=frozenset({Operation.ISSUE}))
        self.denying = None
        self.failing_lint = False

    @hookimpl
    def ucm_before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> Iterable[Denial | Hold] | None:
        return [Denial("no", "Not this one.")] if self.denying == "issue" else None

    @hookimpl
    def ucm_check_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> Iterable[Denial] | None:
        return [Denial("no", "Not this draft.")] if self.denying == "draft" else None

    @hookimpl
    def ucm_before_key_use(
        self, ref: KeyRef, purpose: KeyPurpose, actor: Actor
    ) -> Iterable[Denial] | None:
        return [Denial("no", "Not this key.")] if self.denying == "key" else None

    @hookimpl
    def ucm_lints(self, ctx: PluginContext) -> Iterable[Lint] | None:
        return [Lint("house", "", self.check)]

    def check(self, certificate, draft):
        if self.failing_lint:
            yield LintFinding("house", Severity.ERROR, "no", "")


class OfTomorrow:
    """A protocol plugin that nobody thought of when this test was written."""

    def __init__(self):
        self.manifest = a_manifest("tomorrow")

    @hookimpl
    def ucm_protocols(self, ctx: PluginContext) -> Iterable[ProtocolInfo] | None:
        return [ProtocolInfo(id="tomorrow", title="T", standard="", rehearse=rehearsal("tomorrow"))]


def test_every_registered_protocol_passes_the_gate(ucm_installation):
    """Protocols are taken from the running plugins: a new one needs no change here."""
    obstacles = Obstacles()
    idle = {s.name for s in ucm_installation.build().host.states() if not s.enabled}
    others = {c.name: c.load() for c in discover() if c.name in idle and c.distribution == "ucm"}
    container = ucm_installation.start(
        plugins={"obstacles": obstacles, "tomorrow": OfTomorrow(), **others},
        environ={},
    )
    ca = a_ca().made_in(container)
    protocols = {p.id: p.rehearse for p in container.host.contributions.protocols}
    assert "tomorrow" in protocols
    ways = protocols | {kind: rehearsal(kind) for kind in OPERATOR_ORIGINS}

    def refused_everywhere(error):
        for kind, rehearse in ways.items():
            request = rehearse(ca.id, a_csr())
            with pytest.raises(error):
                container.issuance.issue(request, actor=actor_for(request))
            assert kind

    def stored():
        with container.uow.read() as reader:
            return reader.certificates.counts(container.clock.now()).total

    for hook in ("issue", "draft", "key"):
        obstacles.denying = hook
        refused_everywhere(PolicyDenied)
    obstacles.denying, obstacles.failing_lint = None, True
    refused_everywhere(LintFailed)
    obstacles.failing_lint = False
    with container.uow.begin(ADMIN) as tx:
        tx.cas.set_offline(ca.id, offline=True)
    refused_everywhere(CaOffline)
    assert stored() == 0
    with container.uow.begin(ADMIN) as tx:
        tx.cas.set_offline(ca.id, offline=False)
    for rehearse in ways.values():
        request = rehearse(ca.id, a_csr())
        assert container.issuance.issue(request, actor=actor_for(request)).claimed
    assert stored() == len(ways)
