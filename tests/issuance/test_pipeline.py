"""The order of steps, and what is left behind when one of them fails."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from tests.issuance.conftest import (
    ADMIN,
    a_csr,
    a_key,
    codes,
    enrollee,
    extension,
)
from ucm.api.actor import Actor, ActorKind
from ucm.api.errors import (
    Conflict,
    Forbidden,
    Invalid,
    KeyUnavailable,
    LintFailed,
    NotFound,
    PluginUnavailable,
    PolicyDenied,
)
from ucm.api.events import CertificateIssued
from ucm.api.issuance import (
    CAParameters,
    Denial,
    DraftPatch,
    ExtensionKind,
    Hold,
    IssuedCertificate,
    Operation,
    Profile,
    ProfileTemplate,
)
from ucm.api.keys import KeySpec
from ucm.api.lint import Lint, LintFinding, Severity
from ucm.api.names import parse_general_names
from ucm.issuance.lint import SigningTicket
from ucm.issuance.recovery import PATIENCE, settle_unfinished
from ucm.issuance.signer import CAKey
from ucm.store import tables
from ucm.store.intents import ORPHANED
from ucm.store.templates import NewTemplate

OID = x509.ObjectIdentifier("1.3.6.1.4.1.99999.7")
DENIAL = Denial("no", "Not on a Sunday.", "Come back on Monday.")


def marker(critical=False):
    return x509.Extension(OID, critical, x509.UnrecognizedExtension(OID, b"\x05\x00"))


def nothing_signed_or_stored(place, act):
    """The block leaves no certificate, event or signature, and one refusal in the audit log."""
    kept = [tables.certificate, tables.outbox, tables.intent, tables.certificate_term]
    before = [place.count(table) for table in kept]
    refusals = len(place.audit("certificate_refused"))
    with place.signatures_during() as made:
        act()
        assert made() == 0
    assert [place.count(table) for table in kept] == before
    assert len(place.audit("certificate_refused")) == refusals + 1


def test_state_audit_and_event_are_kept_together(place, root):
    place.published.clear()
    issued = place.pipeline.issue(place.request(root, description="web"), actor=ADMIN)
    row = place.audit("certificate_created")[-1]
    assert row["resource_id"] == str(issued.id)
    assert row["resource_name"] == "www.example.com"
    assert row["username"] == "alice"
    assert row["success"]
    assert row["details"]["serial"] == issued.serial
    assert row["details"]["origin"] == "api"
    assert [type(event) for event in place.published] == [CertificateIssued]
    assert place.published[0].certificate_id == issued.id
    with place.uow.read() as reader:
        view = reader.certificates.get(issued.id)
    assert (view.description, view.cert_type, view.source) == ("web", "server", "api")
    assert view.san_dns == ("www.example.com",)
    assert view.key_type == "EC-P256"
    assert view.signature_algorithm == "ecdsa-with-SHA256"


def test_every_denial_is_told_at_once(place, root):
    place.guards.answers = [DENIAL, Denial("other", "No.", "Never.", "/san/0")]
    request = place.request(root, a_csr(san=("dns:a.example.com", "upn:a@b")), origin="scep")

    def act():
        with pytest.raises(PolicyDenied) as error:
            place.pipeline.issue(request, actor=enrollee())
        assert codes(error) == {"no", "other", "name-form-not-allowed"} | (
            {"common-name-not-covered"} & codes(error)
        )
        assert "Come back on Monday." in error.value.hint

    nothing_signed_or_stored(place, act)
    row = place.audit("certificate_refused")[-1]
    assert not row["success"]
    assert "no" in row["details"]["codes"]


def test_the_last_word_on_the_draft_counts(place, root):
    place.guards.last_words = [DENIAL]

    def act():
        with pytest.raises(PolicyDenied):
            place.pipeline.issue(place.request(root), actor=ADMIN)

    nothing_signed_or_stored(place, act)


def test_the_guard_of_key_use_counts(place, root):
    place.guards.key_denials = [DENIAL]

    def act():
        with pytest.raises(PolicyDenied):
            place.pipeline.issue(place.request(root), actor=ADMIN)

    nothing_signed_or_stored(place, act)


@pytest.mark.parametrize("operation", [Operation.ISSUE, Operation.KEY_USE])
def test_a_missing_guard_stops_issuance(place, root, operation):
    place.guards.missing[operation] = PluginUnavailable("approvals is not running")

    def act():
        with pytest.raises(PluginUnavailable):
            place.pipeline.issue(place.request(root), actor=ADMIN)

    nothing_signed_or_stored(place, act)


def test_an_error_of_a_lint_stops_issuance_and_is_explained(place, root):
    finding = LintFinding("house-rule", Severity.ERROR, "must not start with w", "house 1")
    place.lints.append(Lint("house-rule", "house 1", lambda certificate, draft: [finding]))

    def act():
        with pytest.raises(LintFailed, match="house-rule: must not start") as error:
            place.pipeline.issue(place.request(root), actor=ADMIN)
        assert error.value.extra["findings"][0]["ref"] == "house 1"

    nothing_signed_or_stored(place, act)


def test_notices_of_lints_are_recorded_with_the_certificate(place, root):
    notice = LintFinding("n", Severity.NOTICE, "hm", "")
    place.lints.append(Lint("n", "", lambda certificate, draft: [notice]))
    place.pipeline.issue(place.request(root), actor=ADMIN)
    assert place.audit("certificate_created")[-1]["details"]["lint"] == ["notice n"]


def test_lints_see_the_very_bytes_that_get_signed(place, root):
    seen = []
    place.lints.append(Lint("spy", "", lambda certificate, draft: seen.append(certificate) or []))
    leaf = place.issue(root)
    assert seen[0].tbs_certificate_bytes == leaf.tbs_certificate_bytes
    assert seen[0].signature != leaf.signature


# --- who may -------------------------------------------------------------------------------------


def test_permission_is_checked(place, root):
    viewer = Actor(kind=ActorKind.USER, name="v", permissions=frozenset({"read:certificates"}))

    def act():
        with pytest.raises(Forbidden, match="write:certificates"):
            place.pipeline.issue(place.request(root), actor=viewer)

    nothing_signed_or_stored(place, act)


def test_unknown_authorities_and_profiles_are_not_found(place, root):
    with pytest.raises(NotFound):
        place.pipeline.issue(replace(place.request(root), ca_id=999), actor=ADMIN)
    with pytest.raises(NotFound) as error:
        place.issue(root, profile="nonsense")
    assert "Built in are" in error.value.hint
    with pytest.raises(NotFound):
        place.issue(root, profile=4711)


def test_an_inactive_authority_and_one_without_key_sign_nothing(place, root):
    with place.uow.begin(ADMIN) as tx:
        tx.cas.update(root.id, is_active=False)
    with pytest.raises(Conflict, match="not active"):
        place.issue(root)
    with place.uow.begin(ADMIN) as tx:
        tx.cas.update(root.id, is_active=True)
        tx.cas.set_key(root.id, key=None)
    with pytest.raises(Conflict, match="private key"):
        place.issue(root)


def test_an_expired_authority_issues_nothing(place):
    short = place.a_ca("Short", days=1)
    place.clock.advance(timedelta(days=2))
    with pytest.raises(PolicyDenied) as error:
        place.issue(short)
    assert "issuer-expired" in codes(error)


def test_key_and_request_together_are_ambiguous(place, root):
    _, spki = place.new_key()
    with pytest.raises(Invalid):
        place.issue(root, a_csr(), public_key=spki)


# --- templates -----------------------------------------------------------------------------------


def a_template(place, **fields):
    values = {"name": "Web", "template_type": "web_server", "key_type": "EC-P256"} | fields
    with place.uow.begin(ADMIN) as tx:
        return tx.templates.add(NewTemplate(**values))


def test_a_template_governs_what_is_issued(place, root):
    template = a_template(
        place,
        validity_days=30,
        digest="sha384",
        extensions_template={
            "key_usage": ["digitalSignature", "key_agreement"],
            "extended_key_usage": ["clientAuth", "1.3.6.1.5.5.7.3.4"],
            "san_types": ["dns"],
        },
        pinned_subject_fields={"O": "Pinned"},
        dn_template={"OU": "Default", "CN": "{hostname}"},
    )
    leaf = place.issue(root, a_csr("O=Mine,CN=a.example.com", san=()), profile=template)
    assert leaf.subject.rfc4514_string() == "CN=a.example.com,OU=Default,O=Pinned"
    assert leaf.signature_hash_algorithm.name == "sha384"
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc) == timedelta(days=30)
    usage = extension(leaf, x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.key_agreement
    with pytest.raises(Invalid):
        place.issue(root, profile=template, validity=timedelta(days=31))
    with pytest.raises(PolicyDenied) as error:
        place.issue(root, a_csr(san=("ip:192.0.2.1",)), profile=template)
    assert "name-form-not-allowed" in codes(error)
    with place.uow.read() as reader:
        assert reader.certificates.find(root.id, leaf.serial_number).template_id == template


def test_a_template_demands_at_least_the_strength_of_its_key(place, root):
    template = a_template(place, key_type="EC-P384", extensions_template={})
    for kind, passes in (("EC-P384", True), ("EC-P256", False), ("RSA-2048", False)):
        csr = a_csr(key=a_key(kind))
        if passes:
            assert place.issue(root, csr, profile=template)
        else:
            with pytest.raises(PolicyDenied) as error:
                place.issue(root, csr, profile=template)
            assert codes(error) == {"key-type-not-allowed"}


def test_a_changed_template_counts_at_once_and_an_inactive_one_not_at_all(place, root):
    template = a_template(place, extensions_template={"extended_key_usage": ["clientAuth"]})
    assert place.issue(root, profile=template)
    with place.uow.begin(ADMIN) as tx:
        tx.templates.update(template, validity_days=3)
    leaf = place.issue(root, profile="web")
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc) == timedelta(days=3)
    with place.uow.begin(ADMIN) as tx:
        tx.templates.update(template, is_active=False)
    with pytest.raises(Conflict, match="not active"):
        place.issue(root, profile=template)


def test_a_template_never_makes_an_authority(place, root):
    template = a_template(place, extensions_template={"key_usage": ["keyCertSign", "cRLSign"]})
    usage = extension(place.issue(root, profile=template), x509.KeyUsage).value
    assert not usage.key_cert_sign
    assert not usage.crl_sign


def test_plugins_bring_profiles(place, root):
    profile = Profile(name="scep-ra", extended_key_usage=("1.3.6.1.5.5.7.3.2",))
    place.contributed.append(ProfileTemplate(profile=profile, title="SCEP RA"))
    assert place.issue(root, profile="scep-ra")


def test_a_protocols_profile_is_not_for_issuing_by_hand(place, root):
    profile = Profile(name="acme", extended_key_usage=("1.3.6.1.5.5.7.3.1",), protocol_only=True)
    for origin in ("api", "cli", "csr"):
        with pytest.raises(PolicyDenied) as error:
            place.issue(root, profile=profile, origin=origin)
        assert codes(error) == {"profile-for-protocols"}
    for origin in ("acme", "renewal"):
        assert place.issue(root, profile=profile, origin=origin, actor=ADMIN)


# --- plugins and drafts --------------------------------------------------------------------------


def test_a_plugin_adds_registered_extensions_only(place, root):
    place.guards.patches = [DraftPatch(extensions=(marker(),))]
    with pytest.raises(PolicyDenied) as error:
        place.issue(root)
    assert codes(error) == {"extension-refused"}
    place.extensions.append(ExtensionKind(OID.dotted_string, "Marker"))
    leaf = place.issue(root)
    assert leaf.extensions.get_extension_for_oid(OID).value.value == b"\x05\x00"
    place.guards.patches = [DraftPatch(extensions=(marker(critical=True),))]
    with pytest.raises(PolicyDenied):
        place.issue(root)
    place.guards.patches = [DraftPatch(extensions=(marker(), marker()))]
    with pytest.raises(PolicyDenied):
        place.issue(root)


def test_a_plugin_cannot_register_an_extension_of_the_core(place, root):
    oid = x509.BasicConstraints.oid
    place.extensions.append(ExtensionKind(oid.dotted_string, "mine", critical=True))
    smuggled = x509.Extension(oid, True, x509.BasicConstraints(True, None))
    place.guards.patches = [DraftPatch(extensions=(smuggled,))]
    with pytest.raises(PolicyDenied):
        place.issue(root)


def test_a_plugin_shortens_the_validity_only(place, root):
    end = place.clock.now() + timedelta(days=3)
    place.guards.patches = [DraftPatch(not_after=end)]
    assert place.issue(root).not_valid_after_utc == end
    for wrong in (place.clock.now() + timedelta(days=9999), place.clock.now()):
        place.guards.patches = [DraftPatch(not_after=wrong)]
        with pytest.raises(PolicyDenied):
            place.issue(root)


def test_origins_ask_for_registered_extensions_only(place, root):
    with pytest.raises(Invalid):
        place.issue(root, requested_extensions=(marker(),))
    place.extensions.append(ExtensionKind(OID.dotted_string, "Marker"))
    assert place.issue(root, requested_extensions=(marker(),)).extensions.get_extension_for_oid(OID)


# --- idempotency, claims, keys -------------------------------------------------------------------


def test_the_same_request_gets_the_same_certificate(place, root):
    csr = a_csr()
    request = place.request(root, csr, origin="acme", idempotency_key="order-1")
    first = place.pipeline.issue(request, actor=enrollee("acme"))
    assert place.pipeline.issue(request, actor=enrollee("acme")) == first
    other = place.request(root, a_csr(), origin="acme", idempotency_key="order-1")
    with pytest.raises(Conflict, match="another request"):
        place.pipeline.issue(other, actor=enrollee("acme"))
    elsewhere = place.request(root, csr, origin="est", idempotency_key="order-1")
    assert place.pipeline.issue(elsewhere, actor=enrollee("est")) != first


def test_two_at_once_get_one_certificate(place, root):
    request = place.request(root, origin="acme", idempotency_key="order-2")
    together = threading.Barrier(4)
    results = []

    def run():
        together.wait()
        results.append(place.pipeline.issue(request, actor=enrollee("acme")))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.id for result in results}) == 1
    assert len(results) == 4
    assert len(place.audit("certificate_created")) == 2  # the root and this one


def test_the_claimant_works_in_the_same_unit(place, root):
    def claim(tx, issued):
        assert isinstance(issued, IssuedCertificate)
        tx.certificates.rename(issued.id, description="claimed")

    issued = place.pipeline.issue(place.request(root), actor=ADMIN, on_stored=claim)
    with place.uow.read() as reader:
        assert reader.certificates.get(issued.id).description == "claimed"


def test_a_certificate_is_never_lost_to_its_claimant(place, root):
    place.published.clear()

    def claim(tx, issued):
        tx.certificates.rename(issued.id, description="half done")
        raise ZeroDivisionError("a bug of a plugin")

    with pytest.raises(ZeroDivisionError):
        place.pipeline.issue(
            place.request(root, description="x", idempotency_key="k"), actor=ADMIN, on_stored=claim
        )
    assert len(place.published) == 1
    again = place.pipeline.issue(
        place.request(root, place.request(root).csr, public_key=None, idempotency_key="other"),
        actor=ADMIN,
    )
    assert again.claimed
    with place.uow.read() as reader:
        view = reader.certificates.by_idempotency_key("api", "k")
    assert view.state == "issued_unclaimed"
    assert view.description == "x"


def test_a_new_key_is_stored_with_its_certificate_or_not_at_all(place, root):
    record, spki = place.new_key()
    names = tuple(parse_general_names(["dns:a.example.com"]))
    issued = place.pipeline.issue(
        place.request(root, public_key=spki, new_key=record, names=names), actor=ADMIN
    )
    with place.uow.read() as reader:
        view = reader.certificates.get(issued.id)
        assert reader.keys.record(view.key) == record
    keys = place.count(tables.key)
    place.guards.answers = [DENIAL]
    with pytest.raises(PolicyDenied):
        place.issue(root, public_key=spki, new_key=record, names=names)
    assert place.count(tables.key) == keys


# --- the door ------------------------------------------------------------------------------------


def test_tickets_are_made_by_the_linter_and_used_once(place, root):
    import copy

    with pytest.raises(TypeError):
        SigningTicket(object(), draft=None, lint_certificate=None, findings=())
    taken = []
    real = place.pipeline.signer.sign

    class Spy:
        def __getattr__(self, name):
            return getattr(place.pipeline.signer, name)

        def sign(self, ticket, *, key, actor):
            taken.append((ticket, key))
            return real(ticket, key=key, actor=actor)

    spied = replace(place.pipeline, signer=Spy())
    spied.issue(place.request(root), actor=ADMIN)
    ticket, key = taken[0]
    assert isinstance(key, CAKey)
    with pytest.raises(RuntimeError, match="already used"):
        real(ticket, key=key, actor=ADMIN)
    with pytest.raises(TypeError):
        copy.copy(ticket)


# --- keys elsewhere: the long way ----------------------------------------------------------------


def test_a_remote_key_signs_between_two_units(place, root):
    place.backend.local = False
    seen = []

    class Watching:
        def __getattr__(self, name):
            return getattr(place.backend.inner, name)

    with place.uow.read() as reader:
        assert not reader.intents.unfinished(before=place.clock.now() + PATIENCE)
    original = place.backend.open

    def open_and_look(record):
        with place.uow.read() as reader:
            seen.extend(reader.intents.unfinished(before=place.clock.now() + PATIENCE))
        return original(record)

    place.backend.open = open_and_look
    issued = place.pipeline.issue(place.request(root), actor=ADMIN)
    assert [intent.serial for intent in seen] == [issued.serial]
    assert seen[0].tbs == x509.load_der_x509_certificate(issued.der).tbs_certificate_bytes
    with place.uow.read() as reader:
        intent = reader.intents.get(seen[0].id)
    assert (intent.state, intent.certificate_id) == ("done", issued.id)


def test_a_remote_key_that_fails_leaves_a_failed_intent(place, root):
    place.backend.local = False
    place.backend.fail = KeyUnavailable("the token was removed")
    with pytest.raises(KeyUnavailable):
        place.issue(root)
    with place.uow.read() as reader:
        intent = reader.intents.get(1)
    assert (intent.state, intent.reason) == ("failed", "the token was removed")
    assert place.audit("certificate_refused")
    place.backend.fail = None
    assert place.issue(root)


def test_an_issuance_that_never_finished_is_settled_once(place, root):
    place.backend.local = False
    place.backend.fail = SystemExit("killed while the token worked")
    with pytest.raises(SystemExit):
        place.issue(root)
    assert settle_unfinished(uow=place.uow, clock=place.clock) == 0  # not yet
    place.clock.advance(PATIENCE + timedelta(seconds=1))
    assert settle_unfinished(uow=place.uow, clock=place.clock) == 1
    assert settle_unfinished(uow=place.uow, clock=place.clock) == 0
    with place.uow.read() as reader:
        intent = reader.intents.get(1)
    assert intent.state == ORPHANED
    row = place.audit("certificate_recovered")[0]
    assert row["details"]["serial"] == intent.serial


def test_authorities_of_every_kind_of_key_issue_below_each_other(place):
    parent = None
    for spec in (KeySpec.EC_P384, KeySpec.ED25519, KeySpec.ML_DSA_44, KeySpec.EC_P256):
        parent = place.a_ca(spec.value, spec=spec, parent=parent, parameters=CAParameters())
    assert place.issue(parent)


def test_a_policy_may_hold_a_request(place, root):
    place.guards.answers = [Hold("two eyes are not enough", "four-eyes")]
    with place.signatures_during() as made:
        held = place.pipeline.issue(place.request(root), actor=ADMIN)
        assert made() == 0
    assert held.reason == "two eyes are not enough"
    assert place.audit("certificate_held")
