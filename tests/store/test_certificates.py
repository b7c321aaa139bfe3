"""What happens to one certificate: stored once, revoked, held, renamed, deleted, put on a CRL."""

import dataclasses
from datetime import timedelta

import pytest

from ucm.api.errors import Conflict, NotFound
from ucm.api.issuance import RevocationReason
from ucm.api.keys import KeyPurpose, KeyRecord, KeyRef, KeySpec
from ucm.api.views import CertificateStatus
from ucm.store.certificate_query import CertificateQuery
from ucm.store.certificates import CertificateCounts


@pytest.fixture
def ca_id(uow, operator, add_ca):
    with uow.begin(operator) as tx:
        return add_ca(tx)


@pytest.fixture
def add(uow, operator, certificate, ca_id):
    """Store a certificate of the authority in a unit of its own."""

    def add(number, **changes):
        with uow.begin(operator) as tx:
            return tx.certificates.add(certificate(number, **{"ca_id": ca_id, **changes}))

    return add


def shown(uow, certificate_id):
    with uow.read() as reader:
        return reader.certificates.get(certificate_id)


def test_every_field_comes_back(uow, operator, certificate, ca_id, clock):
    new = certificate(
        1,
        ca_id=ca_id,
        san_ip=("192.0.2.1", "2001:db8::1"),
        san_email=("a@example.com",),
        san_uri=("https://example.com/é",),
        san_upn=("user\n@example.com",),
        must_staple=True,
        ocsp_uri="http://ocsp.example.com",
        client="device-7",
        idempotency_key="k1",
        invalidity_date=clock.now(),
        revoked_at=clock.now(),
        revocation_reason=RevocationReason.AA_COMPROMISE,
    )
    with uow.begin(operator) as tx:
        record = KeyRecord("memory", KeySpec.EC_P256, {"slot": 1}, "ENC:x")
        key = tx.keys.add(record, purpose=KeyPurpose.SUBJECT, label="l")
        key_id = tx.certificates.add(dataclasses.replace(new, key_id=key.id))
    view = shown(uow, key_id)
    for field in dataclasses.fields(new):
        if field.init and field.name not in {"key_id", "texts"}:
            assert getattr(view, field.name) == getattr(new, field.name), field.name
    assert view.key == key
    assert (view.created_at, view.created_by) == (clock.now(), "olga")
    with uow.read() as reader:
        assert reader.certificates.get(key_id, der=False).der == b""
        assert reader.certificates.find(ca_id, int(new.serial, 16)) == view
        assert reader.certificates.find(ca_id, new.serial) == view
        assert reader.certificates.find(ca_id + 1, new.serial) is None
        assert reader.certificates.by_refid(new.refid) == view
        assert reader.certificates.by_thumbprint(new.thumbprint_sha256) == view
        assert reader.certificates.by_idempotency_key(new.source, "k1") == view
        assert reader.certificates.by_idempotency_key("cli", "k1") is None
        assert reader.keys.record(key) == record
        with pytest.raises(NotFound):
            reader.keys.record(KeyRef(key.id, KeyPurpose.CA))


def test_what_does_not_exist_is_not_found(uow, operator):
    with uow.read() as reader:
        for look in (
            lambda: reader.certificates.get(1),
            lambda: reader.certificates.by_refid("x"),
            lambda: reader.cas.get(1),
            lambda: reader.cas.by_refid("x"),
            lambda: reader.csrs.get(1),
            lambda: reader.templates.get(1),
            lambda: reader.keys.get(1),
            lambda: reader.intents.get(1),
            lambda: reader.requests.get(1),
            lambda: reader.users.get(1),
            lambda: reader.api_keys.get(1),
            lambda: reader.roles.get(1),
            lambda: reader.groups.get(1),
            lambda: reader.jobs.get("x"),
            lambda: reader.audit_log.get(1),
        ):
            with pytest.raises(NotFound):
                look()
    for change in (
        lambda tx: tx.certificates.rename(1, description="x"),
        lambda tx: tx.certificates.set_state(1, state="issued"),
        lambda tx: tx.certificates.unhold(1),
        lambda tx: tx.certificates.delete(1),
        lambda tx: tx.cas.update(1, name="x"),
        lambda tx: tx.csrs.delete(1),
        lambda tx: tx.jobs.request_run("x"),
    ):
        with pytest.raises(NotFound), uow.begin(operator) as tx:
            change(tx)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"serial": "abc"}, "serial"),
        ({"thumbprint_sha256": "same"}, "already stored"),
        ({"refid": "same"}, "reference"),
        ({"idempotency_key": "same", "source": "acme"}, "idempotency"),
    ],
)
def test_what_must_be_unique_is(add, changes, word):
    add(1, **changes)
    with pytest.raises(Conflict, match=word):
        add(2, **changes)


def test_another_issuer_may_use_the_same_serial(add, uow, operator, add_ca):
    with uow.begin(operator) as tx:
        other = add_ca(tx, 900_002)
    assert add(1, serial="abc") != add(2, serial="abc", ca_id=other)


def test_revoking_twice_and_lifting_what_is_not_held_are_conflicts(add, uow, operator, clock):
    key = add(1)
    with pytest.raises(Conflict), uow.begin(operator) as tx:
        tx.certificates.unhold(key)
    with uow.begin(operator) as tx:
        tx.certificates.revoke(
            key,
            reason=RevocationReason.KEY_COMPROMISE,
            at=clock.now(),
            invalidity_date=clock.now() - timedelta(days=3),
        )
    view = shown(uow, key)
    assert view.status(clock.now()) is CertificateStatus.REVOKED
    assert view.invalidity_date == clock.now() - timedelta(days=3)
    for reason in (RevocationReason.SUPERSEDED, RevocationReason.CERTIFICATE_HOLD):
        with pytest.raises(Conflict), uow.begin(operator) as tx:
            tx.certificates.revoke(key, reason=reason, at=clock.now())
    with pytest.raises(Conflict), uow.begin(operator) as tx:
        tx.certificates.unhold(key)


def test_a_hold_is_lifted_or_becomes_a_revocation(add, uow, operator, clock):
    key = add(1)
    for _ in range(2):
        with uow.begin(operator) as tx:
            tx.certificates.revoke(key, reason=RevocationReason.CERTIFICATE_HOLD, at=clock.now())
        assert shown(uow, key).status(clock.now()) is CertificateStatus.ON_HOLD
        with pytest.raises(Conflict), uow.begin(operator) as tx:
            tx.certificates.revoke(key, reason=RevocationReason.CERTIFICATE_HOLD, at=clock.now())
        with uow.begin(operator) as tx:
            tx.certificates.unhold(key)
        assert shown(uow, key).revoked_at is None
    with uow.begin(operator) as tx:
        tx.certificates.revoke(key, reason=RevocationReason.CERTIFICATE_HOLD, at=clock.now())
        tx.certificates.revoke(key, reason=RevocationReason.SUPERSEDED, at=clock.now())
    assert shown(uow, key).status(clock.now()) is CertificateStatus.REVOKED


def test_a_deleted_serial_stays_reserved_for_all_but_the_same_certificate(
    add, uow, operator, certificate, ca_id
):
    first = add(1, serial="abc")
    with uow.begin(operator) as tx:
        tx.certificates.delete(first)
    with pytest.raises(NotFound):
        shown(uow, first)
    with pytest.raises(Conflict, match="serial"):
        add(2, serial="abc")
    again = add(1, serial="abc", state="imported")
    assert again != first  # ids are never given twice
    with pytest.raises(Conflict, match="serial"):
        add(3, serial="abc")
    with uow.read() as reader:
        assert reader.certificates.page(CertificateQuery(search="www")).total == 0
        assert reader.certificates.page(CertificateQuery(search="api-1.")).total == 1


def test_the_crl_names_revoked_held_and_deleted_until_they_expire(add, uow, operator, clock, ca_id):
    soon, later = clock.now() + timedelta(days=1), clock.now() + timedelta(days=100)
    ids = [add(n, not_after=soon if n == 4 else later) for n in range(1, 6)]
    with uow.begin(operator) as tx:
        for n, key in enumerate(ids[:4]):
            tx.certificates.revoke(
                key,
                reason=RevocationReason.CERTIFICATE_HOLD if n == 1 else RevocationReason.SUPERSEDED,
                at=clock.now() + timedelta(minutes=n),
            )
        tx.certificates.delete(ids[0])
    with uow.read() as reader:
        crl = reader.certificates.revoked_of_ca(ca_id, valid_at=clock.now() + timedelta(days=2))
        everything = reader.certificates.revoked_of_ca(ca_id, valid_at=clock.now())
    assert [entry.revoked_at - clock.now() for entry in crl] == [
        timedelta(minutes=n) for n in range(3)
    ]
    assert [entry.reason.value for entry in crl] == ["superseded", "certificateHold", "superseded"]
    assert len(everything) == 4


def test_a_key_that_was_compromised_once_is_known_for_ever(add, uow, operator, clock):
    compromised, superseded = add(1, spki_sha256="aa"), add(2, spki_sha256="bb")
    reasons = RevocationReason.KEY_COMPROMISE, RevocationReason.SUPERSEDED
    with uow.begin(operator) as tx:
        for key, reason in zip((compromised, superseded), reasons, strict=True):
            tx.certificates.revoke(key, reason=reason, at=clock.now())
    for _ in range(2):
        with uow.read() as reader:
            assert [reader.certificates.compromised(h) for h in ("aa", "bb", "cc")] == [
                True,
                False,
                False,
            ]
        if _ == 0:
            with uow.begin(operator) as tx:
                tx.certificates.delete(compromised)


def test_a_renewal_is_linked_both_ways(add, uow, operator):
    old = add(1)
    new = add(2, renews=old)
    assert (shown(uow, old).renewed_by, shown(uow, new).renews) == (new, old)
    with uow.begin(operator) as tx:
        tx.certificates.delete(old)
    assert shown(uow, new).renews is None


def test_a_new_description_is_found_and_the_old_one_is_not(add, uow, operator):
    key = add(1, description="printer room")
    with uow.begin(operator) as tx:
        tx.certificates.rename(key, description="server cellar")
    assert shown(uow, key).description == "server cellar"
    with uow.read() as reader:
        totals = {
            word: reader.certificates.page(CertificateQuery(search=word)).total
            for word in ("printer", "cellar", "api-1.lyon", "berlin", "example")
        }
    assert totals == {"printer": 0, "cellar": 1, "api-1.lyon": 0, "berlin": 1, "example": 1}


def test_numbers_agree_with_the_views(add, uow, clock):
    statuses = []
    for number in range(1, 60):
        key = add(number)
        statuses.append(shown(uow, key).status(clock.now()))
    good = CertificateStatus.VALID, CertificateStatus.EXPIRING
    with uow.read() as reader:
        assert reader.certificates.counts(clock.now()) == CertificateCounts(
            total=59,
            valid=sum(status in good for status in statuses),
            expiring=statuses.count(CertificateStatus.EXPIRING),
            expired=statuses.count(CertificateStatus.EXPIRED),
            revoked=statuses.count(CertificateStatus.REVOKED),
            on_hold=statuses.count(CertificateStatus.ON_HOLD),
        )
        assert reader.certificates.sources() == ["acme", "api", "est", "import", "scep"]


def test_streaming_gives_every_certificate_once_by_batches(add, uow):
    ids = [add(number) for number in range(1, 24)]
    with uow.read() as reader:
        assert [view.id for view in reader.certificates.stream(batch=5)] == ids
        assert [view.id for view in reader.certificates.stream(batch=5, after=ids[9])] == ids[10:]
        assert [view.id for view in reader.certificates.get_many([ids[4], 10**9, ids[2]])] == [
            ids[4],
            ids[2],
        ]


def test_a_key_in_use_is_not_deleted(add, uow, operator):
    with uow.begin(operator) as tx:
        key = tx.keys.add(KeyRecord("memory", KeySpec.EC_P256), purpose=KeyPurpose.SUBJECT)
    used = add(1, key_id=key.id)
    with pytest.raises(Conflict, match="still used"), uow.begin(operator) as tx:
        tx.keys.delete(key)
    with uow.begin(operator) as tx:
        tx.certificates.set_key(used, key=None)
        tx.keys.delete(key)
