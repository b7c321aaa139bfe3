"""Requests that wait: nothing is lost while they do, and nothing is skipped when they go on."""

from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from tests.issuance.conftest import ADMIN, NOW, a_csr, enrollee
from ucm.api.actor import Actor, ActorKind
from ucm.api.csr import parse_csr
from ucm.api.errors import CaOffline, Conflict, NotFound, PolicyDenied
from ucm.api.issuance import (
    CAParameters,
    CertificateKind,
    Denial,
    Held,
    Hold,
    IssuanceRequest,
    IssuedCertificate,
    Origin,
    Profile,
)
from ucm.api.keys import KeyPurpose, KeyRef, KeySpec
from ucm.api.names import build_subject, parse_general_names
from ucm.domain.nameconstraints import parse_subtree
from ucm.issuance import held
from ucm.store import tables


def until_approved(request):
    return None if request.approvals else Hold("ask somebody", "four-eyes")


@pytest.fixture
def waiting(place, root):
    """A held request of an operator, and its id."""
    place.guards.answers = [until_approved]
    request = place.request(root, description="needs approval", idempotency_key="k-1")
    result = place.pipeline.issue(request, actor=ADMIN)
    assert isinstance(result, Held)
    return result.request_id


def approve(place, request_id, approval=1):
    with place.uow.begin(ADMIN) as tx:
        tx.requests.approve(request_id, approval=approval)


def test_approval_starts_again_from_the_first_step(place, root, waiting):
    place.guards.asked.clear()
    approve(place, waiting, 7)
    approver = Actor(kind=ActorKind.USER, name="bob", permissions=frozenset({"*"}))
    issued = place.pipeline.resume(waiting, actor=approver)
    assert isinstance(issued, IssuedCertificate)
    assert place.guards.asked == ["before_issue", "amend_draft", "check_draft", "before_key_use"]
    row = place.audit("certificate_created")[-1]
    assert row["username"] == "alice"
    assert row["details"]["resumed_by"] == "bob"
    assert row["details"]["approvals"] == [7]
    with place.uow.read() as reader:
        assert reader.requests.get(waiting).state == "issued"
        assert reader.certificates.get(issued.id).description == "needs approval"
    assert place.pipeline.resume(waiting, actor=approver) == issued  # again: the same


def test_approvals_may_come_with_the_resumption(place, waiting):
    assert isinstance(
        place.pipeline.resume(waiting, actor=ADMIN, approvals=(3, 4)), IssuedCertificate
    )
    assert place.audit("certificate_created")[-1]["details"]["approvals"] == [3, 4]


def test_a_rejection_is_final_and_audited(place, waiting):
    place.pipeline.reject(waiting, actor=ADMIN, reason="not needed")
    row = place.audit("certificate_refused")[-1]
    assert row["details"]["detail"] == "not needed"
    with pytest.raises(Conflict, match="rejected"):
        place.pipeline.resume(waiting, actor=ADMIN, approvals=(1,))
    with pytest.raises(Conflict):
        place.pipeline.reject(waiting, actor=ADMIN, reason="again")


def test_without_approval_it_stays_held(place, waiting):
    assert place.pipeline.resume(waiting, actor=ADMIN) == Held(waiting, "ask somebody")


def test_the_same_request_waits_once(place, root, waiting):
    again = place.request(root, description="needs approval", idempotency_key="k-1")
    assert place.pipeline.issue(again, actor=ADMIN) == Held(waiting, "ask somebody")
    assert place.count(tables.held_request) == 1


def test_a_denial_at_resumption_ends_it(place, waiting):
    approve(place, waiting)
    place.guards.answers = [Denial("no", "Changed my mind.")]
    with place.signatures_during() as made, pytest.raises(PolicyDenied):
        place.pipeline.resume(waiting, actor=ADMIN)
    assert made() == 0
    with place.uow.read() as reader:
        row = reader.requests.get(waiting)
    assert (row.state, row.reason) == ("failed", "Changed my mind.")
    with pytest.raises(Conflict, match="failed"):
        place.pipeline.resume(waiting, actor=ADMIN)


def test_an_offline_authority_does_not_end_it(place, root, waiting):
    approve(place, waiting)
    with place.uow.begin(ADMIN) as tx:
        tx.cas.set_offline(root.id, offline=True)
    with pytest.raises(CaOffline):
        place.pipeline.resume(waiting, actor=ADMIN)
    with place.uow.begin(ADMIN) as tx:
        tx.cas.set_offline(root.id, offline=False)
    assert isinstance(place.pipeline.resume(waiting, actor=ADMIN), IssuedCertificate)


def test_a_rejected_request_is_not_issued(place, root, waiting):
    with place.uow.begin(ADMIN) as tx:
        tx.requests.resolve(waiting, state="rejected")
    with pytest.raises(Conflict, match="rejected"):
        place.pipeline.resume(waiting, actor=ADMIN)
    with pytest.raises(Conflict, match="rejected"):
        place.pipeline.issue(place.request(root, idempotency_key="k-1"), actor=ADMIN)
    with pytest.raises(NotFound):
        place.pipeline.resume(4711, actor=ADMIN)


def test_an_enrollee_stays_one_when_an_administrator_approves(place, root):
    place.guards.answers = [until_approved]
    csr = a_csr(
        extensions=[(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.9")]), False)]
    )
    result = place.pipeline.issue(
        place.request(root, csr, origin="scep"), actor=enrollee("scep", "printer")
    )
    approve(place, result.request_id)
    issued = place.pipeline.resume(result.request_id, actor=ADMIN)
    leaf = x509.load_der_x509_certificate(issued.der)
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in purposes] == ["1.3.6.1.5.5.7.3.1"]


def test_a_new_key_waits_with_its_request(place, root):
    place.guards.answers = [until_approved]
    record, spki = place.new_key()
    names = tuple(parse_general_names(["dns:a.example.com"]))
    result = place.pipeline.issue(
        place.request(root, public_key=spki, new_key=record, names=names), actor=ADMIN
    )
    approve(place, result.request_id)
    issued = place.pipeline.resume(result.request_id, actor=ADMIN)
    with place.uow.read() as reader:
        view = reader.certificates.get(issued.id)
        assert reader.keys.record(view.key) == record
        payload = reader.requests.get(result.request_id).payload
    assert "ENC:" not in str(payload)  # sealed text lives where key rotation finds it


# --- nothing is lost in the database -------------------------------------------------------------


def a_full_request():
    return IssuanceRequest(
        origin=Origin("scep", "printer"),
        ca_id=3,
        profile=Profile(
            name="p",
            kind=CertificateKind.INTERMEDIATE_CA,
            key_usage=frozenset({"keyCertSign"}),
            key_types=frozenset({KeySpec.EC_P256, KeySpec.ML_DSA_65}),
            san_types=frozenset({"dns"}),
            default_validity=timedelta(days=3, hours=1),
            allowed_extra_ekus=frozenset({"1.2.3"}),
            pinned_subject={"O": "X"},
        ),
        csr=parse_csr(a_csr()),
        subject=build_subject([("C", "DE"), ("O", "Ä GmbH"), ("CN", "x")]),
        names=tuple(parse_general_names(["dns:a.example", "ip:2001:db8::1", "upn:a@b"])),
        not_before=NOW,
        validity=timedelta(days=3),
        extra_ekus=("1.2.3",),
        must_staple=True,
        ca_parameters=CAParameters(
            path_length=1,
            permitted_subtrees=(parse_subtree("ip:10.0.0.0/8", pointer=""),),
            excluded_subtrees=(x509.DirectoryName(build_subject([("O", "Y")])),),
            policy_oids=("1.2.3",),
            sia_urls=("http://x/",),
            digest="sha384",
            named_urls=True,
        ),
        key=KeyRef(5, KeyPurpose.SUBJECT),
        renews=8,
        description="d",
        comment="c",
        idempotency_key="i",
        approvals=(1, 2),
    )


def test_every_field_of_a_request_survives():
    request = a_full_request()
    import json

    stored = json.loads(json.dumps(held.dump_request(request)))
    assert held.load_request(stored, approvals=(1, 2)) == request


def test_every_field_has_a_place_in_the_stored_form():
    from dataclasses import fields

    stored = held.dump_request(a_full_request())
    expected = {f.name for f in fields(IssuanceRequest)} - {"new_key", "approvals"}
    assert set(stored) == expected
    assert set(held.dump_actor(ADMIN)) == {f.name for f in fields(Actor)}


def test_extensions_survive():
    oid = x509.ObjectIdentifier("1.2.3.4")
    wanted = x509.Extension(oid, True, x509.UnrecognizedExtension(oid, b"\x05\x00"))
    request = IssuanceRequest(
        origin=Origin("wstep"), ca_id=1, profile="server", requested_extensions=(wanted,)
    )
    assert held.load_request(held.dump_request(request), approvals=()) == request


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@given(st.lists(labels, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_names_survive(parts, number):
    import ipaddress

    names = (
        x509.DNSName(".".join([*parts, "test"])),
        x509.IPAddress(ipaddress.IPv4Address(number)),
        x509.RFC822Name(f"{parts[0]}@{'.'.join(parts)}.test"),
    )
    for name in names:
        assert held.load_general_name(held.dump_general_name(name)) == name
