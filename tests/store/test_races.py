"""Races are settled by the database: of several that want the same thing, one gets it."""

import threading
from datetime import timedelta

import pytest

from ucm.api.errors import Conflict
from ucm.api.issuance import RevocationReason
from ucm.store.engine import create_engine
from ucm.store.intents import NewIntent
from ucm.store.requests import NewHeldRequest
from ucm.store.users import NewUser

RUNNERS = 8


@pytest.fixture
def race(store_url, make_uow, operator):
    """Run a body in several threads on two engines, as two processes would; return who won."""
    engines = [create_engine(store_url) for _ in range(2)]
    uows = [make_uow(engine) for engine in engines]

    def race(body):
        start = threading.Barrier(RUNNERS)
        results = [None] * RUNNERS

        def run(number):
            start.wait(20)
            try:
                with uows[number % 2].begin(operator) as tx:
                    results[number] = body(tx, number)
            except Conflict as error:
                results[number] = error

        threads = [threading.Thread(target=run, args=(n,)) for n in range(RUNNERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        return [result for result in results if not isinstance(result, Conflict)]

    return race


def test_one_gets_the_serial(race, uow, operator, add_ca, certificate):
    with uow.begin(operator) as tx:
        ca_id = add_ca(tx)
    won = race(lambda tx, n: tx.certificates.add(certificate(n + 1, ca_id=ca_id, serial="aa")))
    assert len(won) == 1


def test_one_gets_the_idempotency_key(race, certificate):
    won = race(
        lambda tx, n: tx.certificates.add(
            certificate(n + 1, source="acme", idempotency_key="order-1")
        )
    )
    assert len(won) == 1


def test_one_opens_the_intent(race):
    won = race(
        lambda tx, n: tx.intents.open(
            NewIntent(
                ca_id=None,
                serial=f"{n:x}",
                origin="acme",
                idempotency_key="order-1",
                subject="CN=x",
                request_digest="",
                request={},
            )
        )
    )
    assert len(won) == 1


def test_one_request_is_held(race):
    won = race(
        lambda tx, n: tx.requests.add(
            NewHeldRequest(
                refid=f"r{n}",
                operation="issue",
                origin="acme",
                idempotency_key="order-1",
                payload={},
                reason="approval",
            )
        )
    )
    assert len(won) == 1


def test_one_gets_the_username_in_whatever_case(race):
    names = ("Anna", "anna", "ANNA", "aNNA")
    won = race(
        lambda tx, n: tx.users.add(
            NewUser(username=names[n % 4], email=f"{n}@example.com", role="viewer")
        )
    )
    assert len(won) == 1


def test_one_revokes(race, uow, operator, certificate, clock):
    with uow.begin(operator) as tx:
        key = tx.certificates.add(certificate(1))
    won = race(
        lambda tx, n: tx.certificates.revoke(
            key, reason=RevocationReason.SUPERSEDED, at=clock.now()
        )
    )
    assert len(won) == 1


def test_one_gets_the_lease_and_the_fence_grows(race, uow, operator, clock):
    with uow.begin(operator) as tx:
        tx.jobs.ensure("core.x", owner="core", title="X", schedule="every 60 s")

    def acquire(tx, number):
        return tx.jobs.acquire(
            "core.x",
            holder=f"worker-{number}",
            now=clock.now(),
            expires_at=clock.now() + timedelta(seconds=30),
        )

    won = [fence for fence in race(acquire) if fence is not None]
    assert won == [1]
    clock.advance(timedelta(seconds=31))
    won = [fence for fence in race(acquire) if fence is not None]
    assert won == [2]


def test_every_change_of_settings_gets_a_revision_of_its_own(race, uow):
    won = race(lambda tx, n: tx.settings.set(f"key_{n}", value=n))
    assert sorted(won) == list(range(1, RUNNERS + 1))
    with uow.read() as reader:
        assert reader.settings.revision() == RUNNERS


def test_one_changes_the_version_that_all_have_read(race, uow, operator):
    with uow.begin(operator) as tx:
        first = tx.settings.set("site_name", value="a")
    won = race(lambda tx, n: tx.settings.set("site_name", value=n, version=first))
    assert len(won) == 1
